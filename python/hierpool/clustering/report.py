"""What a clustering leaves behind: assignments, metrics and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import metrics
from hierpool._extras import require
from hierpool.data import LargeGraph
from hierpool.training.files import write_atomic

_CHUNK = 1 << 22  # entries at a time


def write_assignments(
    folder: Path, node_ids: Tensor, clusters: Tensor, probabilities: Tensor, soft: Tensor | None
) -> tuple[Path, Path]:
    """Write ``assignments.npz`` and ``assignments.csv``: a row per node, its id, cluster and probability.

    Args:
        folder: where.
        node_ids: ids in the input, int64 ``[N]``.
        clusters: likeliest cluster, int64 ``[N]``.
        probabilities: of it, float32 ``[N]``.
        soft: all probabilities, float16 ``[N, K]``, for the first file only; ``None``: left out.

    Raises:
        OSError: a file could not be written; an earlier one is still there.
        ImportError: NumPy is not installed.
    """
    np = require("numpy", "train")
    arrays = {"node": node_ids, "cluster": clusters.to(torch.int32), "probability": probabilities}
    if soft is not None:
        arrays["assignment"] = soft
    content = io.BytesIO()
    np.savez_compressed(content, **{key: value.numpy() for key, value in arrays.items()})
    compact, table = folder / "assignments.npz", folder / "assignments.csv"
    write_atomic(compact, content.getvalue())
    rows = zip(node_ids.tolist(), clusters.tolist(), probabilities.tolist(), strict=True)
    text = "node,cluster,probability\n" + "".join(f"{node},{c},{p:.4f}\n" for node, c, p in rows)
    write_atomic(table, text.encode())
    return compact, table


def quality(data: LargeGraph, clusters: Tensor, k: int) -> dict[str, Any]:
    """Metrics of a clustering, for ``metrics.json``; ``None`` where one has no value."""
    conductance = metrics.conductance(data.graph, clusters)
    known = conductance[~conductance.isnan()]
    sizes = clusters.bincount(minlength=k)
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
        labelled = data.labels >= 0
        result["nmi"] = metrics.normalized_mutual_information(clusters[labelled], data.labels[labelled])
        result["modularity_of_labels"] = (
            metrics.modularity(data.graph, data.labels) if labelled.all() else None
        )
    return result


def pooled_weights(data: LargeGraph, clusters: Tensor, k: int) -> Tensor:
    """The pooled graph of a hard clustering: weight of the entries between clusters, float64 ``[K, K]``."""
    graph = data.graph
    weights = torch.zeros(k * k, dtype=torch.float64)
    for start in range(0, graph.num_edges, _CHUNK):
        stop = min(start + _CHUNK, graph.num_edges)
        entries = torch.arange(start, stop, dtype=graph.rowptr.dtype)
        row = torch.searchsorted(graph.rowptr, entries, right=True) - 1
        value = None if graph.value is None else graph.value[start:stop].double()
        pair = clusters[row] * k + clusters[graph.col[start:stop].long()]
        weights += pair.bincount(value, minlength=k * k)
    return weights.view(k, k)


def draw_curves(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Draw every recorded number over steps.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the picture could not be written.
    """
    names = [name for name in history[0] if name not in ("step", "epoch", "seconds")]
    figure = require("matplotlib.figure", "train").Figure(figsize=(11, 7), layout="constrained")
    for axis, name in zip(figure.subplots(2, 2).flatten(), names, strict=True):
        axis.plot([row["step"] for row in history], [row[name] for row in history], linewidth=1)
        axis.set_title(name.replace("_", " "), fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomic(path, buffer.getvalue())
