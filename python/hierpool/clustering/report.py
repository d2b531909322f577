"""Results of a clustering: assignments, metrics, and text that describes them."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import metrics
from hierpool._extras import require
from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.memory import MemoryEstimate
from hierpool.clustering.shared import count_entries, count_nodes, total
from hierpool.data import LargeGraph
from hierpool.distributed import ShardedGraph
from hierpool.training.files import write_atomic, write_csv
from hierpool.training.memory import GIB, memory_metrics, peak_memory_bytes
from hierpool.training.report import versions

_ROWS = 1 << 16  # lines made at a time


def write_assignments(
    folder: Path, data: LargeGraph, clusters: Tensor, probabilities: Tensor, soft: Tensor | None = None
) -> list[Path]:
    """Write ``assignments.npz`` and ``assignments.csv``, with the id, cluster and probability of every node.

    If the input has names as ids, the ids are numbers from 0, and ``names.csv`` has the name of every id.

    Args:
        folder: folder of the files.
        data: the graph.
        clusters: most probable clusters, int64 ``[N]``.
        probabilities: probabilities of these clusters, float32 ``[N]``.
        soft: all probabilities, float16 ``[N, K]``, for ``assignments.npz``; ``None`` omits them.

    Raises:
        OSError: a file could not be written; an existing file is unchanged.
        ImportError: NumPy is not installed.
    """
    node_ids = torch.arange(len(clusters)) if data.node_ids is None else data.node_ids
    arrays = {"node": node_ids, "cluster": clusters.to(torch.int32), "probability": probabilities}
    if soft is not None:
        arrays["assignment"] = soft
    content = io.BytesIO()
    require("numpy", "train").savez_compressed(
        content, **{key: value.numpy() for key, value in arrays.items()}
    )
    columns = zip(*(t.split(_ROWS) for t in (node_ids, clusters, probabilities)), strict=True)
    table = b"node,cluster,probability\n" + b"".join(_lines(*block) for block in columns)
    write_atomic(folder / "assignments.npz", content.getvalue())
    write_atomic(folder / "assignments.csv", table)
    written = [folder / "assignments.npz", folder / "assignments.csv"]
    names = folder / "names.csv"
    if data.names is None:
        names.unlink(missing_ok=True)  # of an earlier run
        return written
    write_csv(names, [{"node": node, "name": name} for node, name in enumerate(data.names)])
    return [*written, names]


def _lines(nodes: Tensor, clusters: Tensor, probabilities: Tensor) -> bytes:
    rows = zip(nodes.tolist(), clusters.tolist(), probabilities.tolist(), strict=True)
    return "".join(f"{node},{c},{p:.4f}\n" for node, c, p in rows).encode()


def graph_text(data: LargeGraph) -> str:
    """One line about the graph, and one for every change that reading made."""
    edges = "weighted edges" if data.graph.value is not None else "edges"
    features = "no features" if data.x is None else f"{data.x.size(1)} features"
    line = (
        f"{data.name}: {count_nodes(data.graph)} nodes, {count_entries(data.graph) // 2} undirected {edges}, "
        f"{features}, "
        f"from {data.source}"
    )
    return "\n".join([line, *(f"  {note}" for note in data.notes)])


def quality(data: LargeGraph, clusters: Tensor, k: int) -> dict[str, Any]:
    """Metrics of a clustering for ``metrics.json``; ``None`` if a metric is undefined.

    If several processes share the graph, all call the function with the clusters of their nodes.
    """
    conductance = metrics.conductance(data.graph, clusters)
    known = conductance[~conductance.isnan()]
    sizes = total(data.graph, clusters.bincount(minlength=k))
    result: dict[str, Any] = {
        "modularity": metrics.modularity(data.graph, clusters),
        "conductance_mean": float(known.mean()) if len(known) else None,
        "conductance_max": float(known.max()) if len(known) else None,
        "clusters_used": int((sizes > 0).sum()),
        "smallest_cluster": int(sizes[sizes > 0].min()),
        "largest_cluster": int(sizes.max()),
        "nmi": None,
    }
    if data.labels is not None:
        result["nmi"] = _information(data, clusters)
        unknown = int(total(data.graph, (data.labels < 0).sum()))
        result["modularity_of_labels"] = None if unknown else metrics.modularity(data.graph, data.labels)
    return result


def _information(data: LargeGraph, clusters: Tensor) -> float:
    """The mutual information of clusters and known labels."""
    assert data.labels is not None
    labelled = data.labels >= 0
    shared = data.graph if isinstance(data.graph, ShardedGraph) else None
    return metrics.normalized_mutual_information(clusters[labelled], data.labels[labelled], graph=shared)


def refinement_metrics(data: LargeGraph, before: Tensor, after: Tensor) -> dict[str, Any]:
    """What the refinement changed."""
    found: dict[str, Any] = {
        "moved_nodes": int(total(data.graph, (before != after).sum())),
        "modularity_before": metrics.modularity(data.graph, before),
        "nmi_before": None,
    }
    if data.labels is not None:
        found["nmi_before"] = _information(data, before)
    return found


def clustering_metrics(
    config: ClusterConfig,
    data: LargeGraph,
    quality: dict[str, Any],
    refinement: dict[str, Any] | None,
    seconds: dict[str, float],
    estimate: MemoryEstimate,
) -> dict[str, Any]:
    """The contents of ``metrics.json``; ``refinement``: see :func:`refinement_metrics`."""
    return {
        "config": asdict(config),
        "graph": {
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint,
            "nodes": count_nodes(data.graph),
            "entries": count_entries(data.graph),
            "weighted": data.graph.value is not None,
            "features": 0 if data.x is None else data.x.size(1),
            "notes": list(data.notes),
        },
        **quality,
        "refinement": refinement,
        "seconds": seconds,
        **memory_metrics(estimate.total),
        **_of_processes(data),
        "versions": versions(),
    }


def _of_processes(data: LargeGraph) -> dict[str, Any]:
    """The number of processes that share the graph, and the peak memory of each; the largest is that of the run."""
    if not isinstance(data.graph, ShardedGraph):
        return {}
    peaks = [peak / GIB for peak in data.graph.ranks.objects(peak_memory_bytes())]
    return {"processes": len(peaks), "peak_memory_gib": max(peaks), "peak_memory_gib_of_processes": peaks}


def result_text(metrics: dict[str, Any]) -> str:
    """Lines about the quality, the refinement, the time and the memory."""
    parts = [f"{metrics['clusters_used']} clusters used", f"modularity {metrics['modularity']:.3f}"]
    if metrics["conductance_mean"] is not None:
        parts.append(
            f"conductance {metrics['conductance_mean']:.3f} on average, {metrics['conductance_max']:.3f} at worst"
        )
    if metrics["nmi"] is not None:
        parts.append(f"NMI with known labels {metrics['nmi']:.3f}")
    seconds, refinement, refined = metrics["seconds"], "", ""
    each = " of a process" if "processes" in metrics else ""
    if metrics["refinement"] is not None:
        before = metrics["refinement"]
        refinement = (
            f"\nrefinement moved {before['moved_nodes']} nodes; before it, modularity was "
            f"{before['modularity_before']:.3f}"
        )
        if before["nmi_before"] is not None:
            refinement += f" and NMI {before['nmi_before']:.3f}"
        refined = f", refinement {seconds['refinement']:.1f}"
    return (
        ", ".join(parts)
        + refinement
        + f"\n{seconds['total']:.0f} s (features {seconds['features']:.0f}, "
        + f"training {seconds['training']:.0f}{refined}), "
        + f"{metrics['peak_memory_gib']:.2f} GiB at the peak{each}, {metrics['estimated_memory_gib']:.2f} estimated"
    )
