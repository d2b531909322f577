"""``python -m hierpool cluster``: soft clustering of one large graph, without labels."""

from __future__ import annotations

import argparse
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import __version__
from hierpool._extras import require
from hierpool.clustering import (
    ClusterConfig,
    Clustering,
    MemoryEstimate,
    NodeInputs,
    cluster,
    node_inputs,
    peak_memory_bytes,
    plan,
)
from hierpool.clustering.features import count_products
from hierpool.clustering.memory import GIB, Size, generator_bytes
from hierpool.clustering.report import draw_curves, pooled_weights, quality, write_assignments
from hierpool.data import LargeGraph, load_large, stochastic_block_model
from hierpool.data.large_graphs import DATASETS, read_rows
from hierpool.metrics import conductance
from hierpool.train import add_threads, set_threads
from hierpool.training import CheckpointError
from hierpool.training.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "input",
        nargs="?",
        help="edge list (text, .gz), .npz of a sparse matrix, or a data set: " + ", ".join(DATASETS),
    )
    parser.add_argument(
        "--features", type=Path, help="features of nodes: .npy or text, a row per node in order of ids"
    )
    parser.add_argument(
        "--labels", type=Path, help="known clusters, for comparison: .npy or text, an integer per node"
    )
    parser.add_argument("--synthetic", choices=("sbm",), help="make a graph with planted communities instead")
    parser.add_argument("--nodes", type=int, default=100_000, help="of that graph (default: %(default)s)")
    parser.add_argument("--communities", type=int, default=100, help="planted in it (default: %(default)s)")
    parser.add_argument("--mean-degree", type=float, default=10.0, help="of it (default: %(default)s)")
    parser.add_argument(
        "--mixing",
        type=float,
        default=0.2,
        help="share of its edges between communities (default: %(default)s)",
    )
    ClusterConfig.add_arguments(parser)
    parser.add_argument("--out", required=True, type=Path, help="folder for everything that is written")
    parser.add_argument(
        "--data-root", type=Path, help="folder with data sets (default: HIERPOOL_DATA, then the network)"
    )
    parser.add_argument(
        "--memory-limit", type=float, metavar="GIB", help="refuse, or take smaller batches, above it"
    )
    parser.add_argument(
        "--save-soft", action="store_true", help="write all N x K probabilities, too (float16)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the folder")
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew in a folder that holds a checkpoint"
    )
    add_threads(parser, None)
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing")


def main(args: argparse.Namespace) -> int:
    """Run the command; returns the exit status.

    Raises:
        ValueError, OSError, ImportError: bad options, data, checkpoints, disks; the message says what and where.
    """
    run(args)
    return 0


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Cluster as the arguments say, write everything, and return what was written to ``metrics.json``."""
    started = time.perf_counter()
    config = ClusterConfig.from_arguments(args)
    set_threads(args.threads)
    _check_arguments(args)
    data = _load(args, config)
    config = _choose_k(config, data)
    loaded = time.perf_counter()
    print(_describe(data))
    graph = data.graph
    channels = 0 if data.x is None else data.x.size(1)
    size = Size(graph.num_nodes, graph.num_edges, graph.value is not None, channels)
    config, estimate = plan(config, size, args.memory_limit)
    limit = "no limit" if args.memory_limit is None else f"limit {args.memory_limit:g} GiB"
    print(f"memory: about {estimate} at the peak, {limit}; batches of {config.batch_nodes} nodes")
    inputs = _features(config, data)
    prepared = time.perf_counter()
    result = _train(config, data, inputs, args)
    trained = time.perf_counter()
    clusters, probabilities, soft = _assign(result, inputs, config.k, args.save_soft)
    numbers = quality(data, clusters, config.k)
    ids = torch.arange(graph.num_nodes) if data.node_ids is None else data.node_ids
    written = list(write_assignments(args.out, ids, clusters, probabilities, soft))
    if not args.no_pictures:
        written += _draw(args.out, data, clusters, config, result, numbers)
    seconds = {
        "load": loaded - started,
        "features": prepared - loaded,
        "training": trained - prepared,
        "total": time.perf_counter() - started,
    }
    values = numbers | {"mean_probability": float(probabilities.mean())}
    metrics = _summary(config, data, values, seconds, estimate)
    write_json(args.out / "metrics.json", metrics)
    print(_verdict(metrics))
    print("written: " + ", ".join(str(path) for path in [*written, args.out / "metrics.json"]))
    return metrics


def _check_arguments(args: argparse.Namespace) -> None:
    if (args.input is None) == (args.synthetic is None):
        raise ValueError("either an input or --synthetic must be given, and not both")
    if args.memory_limit is not None and not args.memory_limit > 0:
        raise ValueError(f"memory-limit must be positive, got {args.memory_limit}")
    if not (args.resume or args.overwrite) and (args.out / "checkpoint.pt").exists():
        raise CheckpointError(
            f"{args.out} already holds a checkpoint; pass --resume to go on, or --overwrite to start anew"
        )


def _load(args: argparse.Namespace, config: ClusterConfig) -> LargeGraph:
    """The graph that the arguments ask for."""
    if args.synthetic is None:
        data = load_large(args.input, args.data_root)
    else:
        # Refused before it is made, not after.
        size = Size(args.nodes, round(args.nodes * args.mean_degree), False, 0)
        making = generator_bytes(args.nodes, args.mean_degree)
        plan(replace(config, k=config.k or args.communities), size, args.memory_limit, making=making)
        graph, labels = stochastic_block_model(
            args.nodes, args.communities, mean_degree=args.mean_degree, mixing=args.mixing, seed=config.seed
        )
        source = (
            f"a generator (mean degree {args.mean_degree:g}, {args.mixing:.0%} of edges between communities, "
            f"seed {config.seed})"
        )
        data = LargeGraph("planted communities", graph, None, labels, None, source, ())
    nodes = data.graph.num_nodes
    if args.features is not None:
        data = data._replace(x=read_rows(args.features, nodes, "features"))
    if args.labels is not None:
        data = data._replace(labels=read_rows(args.labels, nodes, "labels"))
    if data.graph.num_edges == 0:
        raise ValueError(f"{data.source} has no edge between two different nodes")
    return data


def _choose_k(config: ClusterConfig, data: LargeGraph) -> ClusterConfig:
    k = config.k
    if k == 0:
        if data.labels is None:
            raise ValueError("k must be given, since the graph has no known labels")
        k = int(data.labels.max()) + 1
    if not 1 <= k <= data.graph.num_nodes:
        raise ValueError(f"k must lie between 1 and the number of nodes, {data.graph.num_nodes}, got {k}")
    return replace(config, k=k)


def _describe(data: LargeGraph) -> str:
    """The graph in a line, and one for everything that was changed in reading it."""
    edges = "weighted edges" if data.graph.value is not None else "edges"
    features = "no features" if data.x is None else f"{data.x.size(1)} features"
    line = (
        f"{data.name}: {data.graph.num_nodes} nodes, {data.graph.num_edges // 2} undirected {edges}, {features}, "
        f"from {data.source}"
    )
    return "\n".join([line, *(f"  {note}" for note in data.notes)])


def _features(config: ClusterConfig, data: LargeGraph) -> NodeInputs:
    """Inputs of the network, with a progress bar."""
    total = count_products(data.x, config.products)
    with require("tqdm", "train").tqdm(total=total, desc="features", unit="product") as bar:
        return node_inputs(
            data.graph,
            data.x,
            channels=config.feature_channels,
            products=config.products,
            seed=config.seed,
            backend=config.backend,
            progress=bar.update,
        )


def _train(
    config: ClusterConfig, data: LargeGraph, inputs: NodeInputs, args: argparse.Namespace
) -> Clustering:
    """Training, with a progress bar that tells the time left."""
    steps = config.epochs * -(-data.graph.num_nodes // config.batch_nodes)
    with require("tqdm", "train").tqdm(total=steps, desc=config.loss, unit="step") as bar:

        def on_step(row: dict[str, float]) -> None:
            bar.set_postfix_str(
                f"loss {row['loss']:.4f}, as {row['clusters']:.1f} equal clusters", refresh=False
            )
            bar.update(int(row["step"]) - bar.n)

        result = cluster(
            config,
            data.graph,
            inputs,
            fingerprint=data.fingerprint,
            folder=args.out,
            resume=args.resume,
            on_step=on_step,
        )
        bar.update(steps - bar.n)
    return result


def _assign(
    result: Clustering, inputs: NodeInputs, k: int, save_soft: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    soft = torch.empty(inputs.near.size(0), k, dtype=torch.float16) if save_soft else None

    def keep(s: Tensor, start: int) -> None:
        assert soft is not None
        soft[start : start + len(s)] = s

    clusters, probabilities = result.net.assign(inputs, keep=keep if save_soft else None)
    return clusters, probabilities, soft


def _draw(
    out: Path,
    data: LargeGraph,
    clusters: Tensor,
    config: ClusterConfig,
    result: Clustering,
    numbers: dict[str, Any],
) -> list[Path]:
    """Write the pictures: the pooled graph and the curves of the losses."""
    from hierpool.clustering.picture import draw_pooled_graph

    pooled, curves = out / "pooled.png", out / "curves.png"
    leak = torch.full((config.k,), float("nan"), dtype=torch.float64)
    found = conductance(data.graph, clusters)
    leak[: len(found)] = found
    title = (
        f"{data.name}: {data.graph.num_nodes} nodes in {numbers['clusters_used']} clusters, "
        f"modularity {numbers['modularity']:.3f}"
    )
    weights = pooled_weights(data, clusters, config.k)
    draw_pooled_graph(pooled, clusters.bincount(minlength=config.k), weights, leak, title=title)
    draw_curves(curves, result.history)
    return [pooled, curves]


def _summary(
    config: ClusterConfig,
    data: LargeGraph,
    numbers: dict[str, Any],
    seconds: dict[str, float],
    estimate: MemoryEstimate,
) -> dict[str, Any]:
    """What ``metrics.json`` holds."""
    return {
        "config": asdict(config),
        "graph": {
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint,
            "nodes": data.graph.num_nodes,
            "entries": data.graph.num_edges,
            "weighted": data.graph.value is not None,
            "features": 0 if data.x is None else data.x.size(1),
            "notes": list(data.notes),
        },
        **numbers,
        "seconds": seconds,
        "peak_memory_gib": peak_memory_bytes() / GIB,
        "estimated_memory_gib": estimate.total / GIB,
        "versions": {
            "hierpool": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "threads": torch.get_num_threads(),
        },
    }


def _verdict(metrics: dict[str, Any]) -> str:
    """The result in two lines."""
    parts = [f"{metrics['clusters_used']} clusters used", f"modularity {metrics['modularity']:.3f}"]
    if metrics["conductance_mean"] is not None:
        parts.append(
            f"conductance {metrics['conductance_mean']:.3f} on average, {metrics['conductance_max']:.3f} at worst"
        )
    if metrics["nmi"] is not None:
        parts.append(f"NMI with known labels {metrics['nmi']:.3f}")
    seconds = metrics["seconds"]
    return (
        ", ".join(parts)
        + f"\n{seconds['total']:.0f} s (features {seconds['features']:.0f}, training {seconds['training']:.0f}), "
        + f"{metrics['peak_memory_gib']:.2f} GiB at the peak, {metrics['estimated_memory_gib']:.2f} estimated"
    )
