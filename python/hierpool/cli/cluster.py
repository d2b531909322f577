"""``python -m hierpool cluster``: soft clustering of one large graph, without labels."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics
from hierpool._extras import require
from hierpool.cli import cluster_inputs, options
from hierpool.clustering import (
    ClusterConfig,
    Clustering,
    GraphSize,
    NodeInputs,
    cluster,
    html_report,
    node_inputs,
    plots,
    refine,
    resolve,
)
from hierpool.clustering.features import count_products
from hierpool.clustering.memory import MemoryEstimate, Share, generator_bytes
from hierpool.clustering.report import (
    clustering_metrics,
    graph_text,
    quality,
    refinement_metrics,
    result_text,
    write_assignments,
)
from hierpool.clustering.sampling import count_batches
from hierpool.clustering.shared import count_entries, count_nodes, share, total
from hierpool.data import LargeGraph, load_large, stochastic_block_model
from hierpool.data.edge_list_parts import load_parts
from hierpool.data.fingerprints import fingerprint
from hierpool.data.node_tables import attach, read_rows
from hierpool.data.synthetic import sharded_block_model
from hierpool.distributed import ShardedGraph
from hierpool.distributed.ranks import Ranks
from hierpool.training import checkpoint, html
from hierpool.training.files import write_json
from hierpool.training.memory import limit_text, peak_memory_bytes, release_memory

_NO_FEATURES = (
    "the network gets diffused random features, since nodes have none; features are read by --features"
)
_REFINED = "\nafter training, moves of nodes between clusters increase the modularity; --no-refine omits them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""

    cluster_inputs.add_arguments(parser)
    options.add_config(parser, ClusterConfig)
    options.add_run(parser, "folder of datasets (default: HIERPOOL_DATA, then the network)")
    options.add_memory_limit(parser, "use smaller batches, or stop, above this memory")
    parser.add_argument(
        "--refine",
        help="move nodes between clusters after training, to increase the modularity (default: if nodes have no"
        " features)",
        action=argparse.BooleanOptionalAction,
    )
    parser.add_argument(
        "--save-soft", help="write all N x K probabilities, too (float16)", action="store_true"
    )


def run(args: argparse.Namespace) -> None:
    """Cluster the nodes of a graph and write assignments, metrics and plots.

    Raises:
        ValueError, OSError, ImportError, RuntimeError: an option, file, package or backend is invalid; the message says
            which.
    """
    started = time.perf_counter()
    config = options.make_config(ClusterConfig, args)
    options.set_threads(args.threads)
    options.check_run(args)
    cluster_inputs.check(args)
    options.check_memory_limit(args.memory_limit)
    with options.processes(args) as ranks:
        _run(args, config, ranks, started)


def _run(args: argparse.Namespace, config: ClusterConfig, ranks: Ranks | None, started: float) -> None:
    """Cluster in one process, or in one of several that share the graph."""
    is_first = ranks is None or ranks.rank == 0
    say = print if is_first else options.silent
    if args.resume:
        _check_resumed(args, config, ranks)
    say(f"reading {args.input}" if args.synthetic is None else f"drawing a graph of {args.nodes} nodes")
    data = _load_or_share(args, config, ranks)
    release_memory()
    if data.x is not None and config.feature_channels:
        raise ValueError(
            f"feature_channels is an option of graphs without features, but {data.name} has {data.x.size(1)}"
        )
    config = _choose_k(config, data)
    loaded = time.perf_counter()
    say(graph_text(data))
    graph = data.graph
    refined = data.x is None if args.refine is None else args.refine
    config, estimate = _resolve(config, data, args.memory_limit, refined)
    say(
        f"memory: about {estimate} at the peak{'' if ranks is None else ' of a process'}, "
        f"{limit_text(args.memory_limit)}; batches of {config.batch_nodes} nodes"
    )
    if data.x is None:
        say(_NO_FEATURES + (_REFINED if refined else ""))
    inputs = _features(config, data)
    release_memory()
    prepared = time.perf_counter()
    if is_first:
        options.start_anew(args)
    result = _train(config, data, inputs, args)
    release_memory()
    trained = time.perf_counter()
    clusters, probabilities = result.net.assign(inputs)
    before = clusters
    if refined:
        say("moving nodes between clusters")
        clusters = refine(graph, clusters, config.k, seed=config.seed)
        release_memory()
        probabilities = result.net.assign(inputs, clusters=clusters)[1]
    finished = time.perf_counter()
    written = _write(args, data, result, inputs, clusters, probabilities)  # before anything that can fail
    mean = float(total(graph, probabilities.double().sum())) / count_nodes(graph)
    scores = quality(data, clusters, config.k) | {"mean_probability": mean}
    seconds = {
        "load": loaded - started,
        "features": prepared - loaded,
        "training": trained - prepared,
        "refinement": finished - trained,
        "total": time.perf_counter() - started,
    }
    refinement = refinement_metrics(data, before, clusters) if refined else None
    contents = clustering_metrics(config, data, scores, refinement, seconds, estimate)
    written.append(args.out / "metrics.json")
    if is_first:
        write_json(written[-1], contents)
    if not args.no_pictures:
        title = (
            f"{data.name}: {count_nodes(graph)} nodes in {scores['clusters_used']} clusters, "
            f"modularity {scores['modularity']:.3f}"
        )
        written += _draw(args.out, data, clusters, config, result, title)
        if ranks is None:
            written += _report(args, data, clusters, probabilities, result, contents)
        else:
            say("report.html is written by a single process only")
    say(result_text(contents))
    say("written: " + ", ".join(map(str, written)))


def _check_resumed(args: argparse.Namespace, config: ClusterConfig, ranks: Ranks | None) -> None:
    """Compare the options with those of the checkpoint, as far as they do not depend on the graph."""
    path = args.out / checkpoint.FILE_NAME

    def check() -> dict[str, Any]:
        if (ranks is None or ranks.rank == 0) and path.exists():
            checkpoint.check(path, config.stated())
        return {}

    check() if ranks is None else ranks.agree(check)


def _resolve(
    config: ClusterConfig, data: LargeGraph, limit: float | None, refined: bool
) -> tuple[ClusterConfig, MemoryEstimate]:
    """The configuration without zeros, the same in all processes, and the memory of the largest."""
    graph = data.graph
    size = GraphSize(
        count_nodes(graph),
        count_entries(graph),
        graph.value is not None,
        0 if data.x is None else data.x.size(1),
    )
    if not isinstance(graph, ShardedGraph):
        return resolve(config, size, limit, refine=refined)
    own = peak_memory_bytes(), graph.num_nodes, graph.num_edges, graph.halo.size
    before, *most = (max(numbers) for numbers in zip(*graph.ranks.objects(own), strict=True))
    size = size._replace(share=Share(graph.ranks.size, *most))
    return resolve(config, size, limit, refine=refined, before=before)


def _write(
    args: argparse.Namespace,
    data: LargeGraph,
    result: Clustering,
    inputs: NodeInputs,
    clusters: Tensor,
    probabilities: Tensor,
) -> list[Path]:
    """Write the assignments of all nodes, in the first process."""
    graph, soft = data.graph, None
    is_shared = isinstance(graph, ShardedGraph)
    if is_shared:
        clusters, probabilities = (graph.gather(t, dst=0) for t in (clusters, probabilities))
    is_first = not is_shared or graph.ranks.rank == 0
    written = write_assignments(args.out, data, clusters, probabilities) if is_first else []
    if args.save_soft:
        soft = torch.empty(graph.num_nodes, result.net.head.out_features, dtype=torch.float16)
        result.net.assign(inputs, out=soft)
        soft = graph.gather(soft, dst=0) if is_shared else soft
        if is_first:
            write_assignments(args.out, data, clusters, probabilities, soft)
    return written


def _load_or_share(args: argparse.Namespace, config: ClusterConfig, ranks: Ranks | None) -> LargeGraph:
    """The graph, or the part of it of one of several processes."""
    if ranks is None:
        return _load(args, config)
    data = None
    if (args.features, args.labels, args.num_nodes) == (None, None, None):
        if args.synthetic is None:
            data = load_parts(ranks, args.input, args.format)
        else:
            data = _draw_graph(args, config, ranks)
            data = data._replace(known_fingerprint=fingerprint(data.graph, None))
    if data is not None:
        shared = data
        ranks.agree(lambda: _check_edges(shared))
        return shared
    return share(ranks, lambda: _load(args, config))


def _check_edges(data: LargeGraph) -> dict[str, Any]:
    value = data.graph.value
    if count_entries(data.graph) == 0 or (value is not None and not bool(value.any())):
        raise ValueError(f"{data.source} has no edge between two different nodes with a weight above 0")
    return {}


def _load(args: argparse.Namespace, config: ClusterConfig) -> LargeGraph:
    """Load or draw the graph, and read features and labels."""
    if args.synthetic is None:
        data = load_large(args.input, args.data_root, form=args.format)
    else:
        data = _draw_graph(args, config)
    features, labels = (
        None if path is None else read_rows(path, kind, ids=args.row_ids or data.names is not None)
        for path, kind in ((args.features, "features"), (args.labels, "labels"))
    )
    data = attach(data, features, labels, num_nodes=args.num_nodes, first_id=args.first_id)
    _check_edges(data)
    if data.x is not None and bool((data.x == data.x[0]).all()):
        raise ValueError(f"{args.features or data.source} has the same features for all nodes")
    return data


def _draw_graph(args: argparse.Namespace, config: ClusterConfig, ranks: Ranks | None = None) -> LargeGraph:
    """Draw the synthetic graph, or the parts of it of several processes, if the memory is sufficient for it."""
    options = {"mean_degree": args.mean_degree, "mixing": args.mixing, "seed": config.seed}
    graph: RaggedGraph | ShardedGraph
    if ranks is None:
        _check_memory(args, config, 1, peak_memory_bytes())
        graph, labels = stochastic_block_model(args.nodes, args.communities, **options)
    else:
        before = max(int(peak) for peak in ranks.objects(peak_memory_bytes()))
        ranks.agree(lambda: _check_memory(args, config, ranks.size, before))
        graph, labels = sharded_block_model(args.nodes, args.communities, **options, group=ranks.group)
    source = (
        f"a generator (mean degree {args.mean_degree:g}, {args.mixing:.0%} of edges between communities, "
        f"seed {config.seed})"
    )
    return LargeGraph("planted communities", graph, None, labels, None, source, ())


def _check_memory(
    args: argparse.Namespace, config: ClusterConfig, processes: int, before: int
) -> dict[str, Any]:
    """Raise ``ValueError`` if a process would not have the memory to draw the synthetic graph and to cluster it."""
    nodes, degree = args.nodes, args.mean_degree
    size = GraphSize(nodes, round(nodes * degree), False, 0)
    if processes > 1:
        own = -(-nodes // processes)
        size = size._replace(share=Share(processes, own, round(own * degree), nodes - own))
    config = replace(config, k=config.k or args.communities)
    before += generator_bytes(nodes, degree, processes)
    resolve(config, size, args.memory_limit, refine=args.refine is not False, before=before)
    return {}


def _choose_k(config: ClusterConfig, data: LargeGraph) -> ClusterConfig:
    k, nodes = config.k, count_nodes(data.graph)
    if k == 0:
        if data.labels is None:
            raise ValueError(cluster_inputs.NO_K)
        known = data.labels[data.labels >= 0].unique()
        if isinstance(data.graph, ShardedGraph):
            known = data.graph.ranks.gather(known, data.graph.ranks.objects(known.numel())).unique()
        k = known.numel()
    if not 1 <= k <= nodes:
        raise ValueError(f"k must lie between 1 and the number of nodes, {nodes}, got {k}")
    return replace(config, k=k)


def _bar(data: LargeGraph, **shown: object) -> Any:
    """A progress bar, shown by the first process."""
    is_hidden = isinstance(data.graph, ShardedGraph) and data.graph.ranks.rank > 0
    return require("tqdm", "train").tqdm(**shown, disable=is_hidden)


def _features(config: ClusterConfig, data: LargeGraph) -> NodeInputs:
    """The inputs of the network, with a progress bar."""
    products = count_products(data.x, config.products)
    with _bar(data, total=products, desc="features", unit="product") as bar:
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
    """Train the network, with a progress bar."""
    steps, done = config.epochs * count_batches(count_nodes(data.graph), config.batch_nodes), 0
    with _bar(data, total=steps, desc=config.loss, unit="step") as bar:

        def on_step(row: dict[str, float]) -> None:
            text = f"loss {row['loss']:.4f}, {row['clusters']:.1f} effective clusters"
            bar.set_postfix_str(text, refresh=False)
            nonlocal done
            bar.update(int(row["step"]) - done)
            done = int(row["step"])

        result = cluster(
            config,
            data.graph,
            inputs,
            fingerprint=data.fingerprint,
            folder=args.out,
            resume=args.resume,
            on_step=on_step,
        )
        bar.update(steps - done)
    return result


def _draw(
    out: Path, data: LargeGraph, clusters: Tensor, config: ClusterConfig, result: Clustering, title: str
) -> list[Path]:
    """Draw the pooled graph and the curves of the losses."""
    pooled, curves = out / "pooled.png", out / "curves.png"
    conductance = plots.conductance_of(data.graph, clusters, config.k)
    weights = metrics.pooled_weights(data.graph, clusters, config.k)
    sizes = total(data.graph, clusters.bincount(minlength=config.k))
    if isinstance(data.graph, ShardedGraph) and data.graph.ranks.rank:
        return []
    plots.draw_pooled_graph(pooled, sizes, weights, conductance, title=title)
    plots.draw_curves(curves, config.loss, result.history)
    return [pooled, curves]


def _report(
    args: argparse.Namespace,
    data: LargeGraph,
    clusters: Tensor,
    probabilities: Tensor,
    result: Clustering,
    contents: dict[str, Any],
) -> list[Path]:
    """Write ``report.html``, or say why not."""
    if not html.is_possible():
        print(html.NOT_WRITTEN)
        return []
    path, k, facts = (
        args.out / "report.html",
        contents["config"]["k"],
        [graph_text(data), result_text(contents)],
    )
    history, command = result.history, args.command_line
    return [html_report.report(path, data, clusters, probabilities, k, history, facts, command)]
