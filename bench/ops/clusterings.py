"""Clusterings of one graph: hierpool's beside those of igraph, NetworKit, METIS and KaMinPar.

Every method gets the graph in its own form, which is made before the time is taken, and is run twice with the same
seed, the second time in one thread if it is ours; others that take long are run once. Packages that are not installed
are named in the results.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.harness import machine, results
from bench.harness.workload import CPU
from hierpool import RaggedGraph, metrics, multilevel_clusters
from hierpool._extras import require
from hierpool.clustering import ClusterConfig, GraphSize, cluster, node_inputs, refine, resolve
from hierpool.data import DatasetError, load_large, stochastic_block_model

RESULTS = results.RESULTS / "clusterings"
PEERS = ("igraph", "kaminpar", "networkit", "pymetis")
_SEED = 1
_IMBALANCE = 0.03
_LONG_S = 5.0
Solve = Callable[[int], Tensor]  # clusters from their number; those that choose it ignore it


class Given(NamedTuple):
    """A graph to cluster."""

    graph: RaggedGraph
    x: Tensor | None
    labels: Tensor | None
    k: int  # for methods that are given a number


def _file(name: str, k: int, features: bool, root: Path | None) -> Given:
    path = (root or Path()) / "large" / name
    data = load_large(str(path) if "." in name else name, root)
    return Given(data.graph, data.x if features else None, data.labels, k)


def _planted(nodes: int, communities: int, mixing: float, root: Path | None) -> Given:
    graph, labels = stochastic_block_model(nodes, communities, mean_degree=10, mixing=mixing, seed=0)
    return Given(graph, None, labels, communities)


GRAPHS: dict[str, tuple[str, Callable[[Path | None], Given]]] = {
    "cora": ("Cora, without features", partial(_file, "Cora", 7, False)),
    "cora-features": ("Cora, with features", partial(_file, "Cora", 7, True)),
    "slashdot": ("Slashdot", partial(_file, "soc-Slashdot0902.txt.gz", 64, False)),
    "planted-100k": (
        "planted, 100 communities, 30 % of edges between them",
        partial(_planted, 10**5, 100, 0.3),
    ),
    "planted-1m": (
        "planted, 1000 communities, 20 % of edges between them",
        partial(_planted, 10**6, 1000, 0.2),
    ),
}


# ---- methods --------------------------------------------------------------------------------------------------------


def _ours(given: Given, threads: int, objective: str, free: bool = False) -> Solve:
    return lambda k: multilevel_clusters(given.graph, None if free else k, objective=objective, seed=_SEED)


def _network(given: Given, threads: int, refined: bool) -> Solve:
    """The command ``cluster`` with its defaults."""
    graph, x = given.graph, given.x

    def solve(k: int) -> Tensor:
        size = GraphSize(graph.num_nodes, graph.num_edges, False, 0 if x is None else x.size(1))
        config, _ = resolve(ClusterConfig(k=k, seed=_SEED), size, None)
        channels, products = config.feature_channels, config.products
        inputs = node_inputs(graph, x, channels=channels, products=products, seed=_SEED)
        clusters = cluster(config, graph, inputs).net.assign(inputs)[0]
        return refine(graph, clusters, k, seed=_SEED) if refined else clusters

    return solve


def _leiden(given: Given, threads: int) -> Solve:
    igraph = require("igraph", "peers")
    ends = given.graph.to_edge_index()[0]
    edges = ends[:, ends[0] < ends[1]].t().numpy()
    graph = igraph.Graph(n=given.graph.num_nodes, edges=edges)

    def solve(k: int) -> Tensor:
        random.seed(_SEED)
        found = graph.community_leiden(objective_function="modularity", n_iterations=2)
        return torch.tensor(found.membership)

    return solve


def _parallel_leiden(given: Given, threads: int) -> Solve:
    networkit = require("networkit", "peers")
    ends = given.graph.to_edge_index()[0]
    row, col = ends[:, ends[0] < ends[1]].numpy()
    graph = networkit.GraphFromCoo((row, col), n=given.graph.num_nodes)

    def solve(k: int) -> Tensor:
        networkit.engineering.setNumberOfThreads(threads)
        networkit.engineering.setSeed(_SEED, False)
        algorithm = networkit.community.ParallelLeiden(graph)
        algorithm.run()
        return torch.tensor(algorithm.getPartition().getVector())

    return solve


def _metis(given: Given, threads: int) -> Solve:
    pymetis = require("pymetis", "peers")
    adjacency = pymetis.CSRAdjacency(given.graph.rowptr.tolist(), given.graph.col.tolist())
    options = pymetis.Options(seed=_SEED)
    return lambda k: torch.tensor(pymetis.part_graph(k, adjacency, options=options).vertex_part)


def _kaminpar(given: Given, threads: int) -> Solve:
    """From a file, the only form that its package reads."""
    kaminpar = require("kaminpar", "peers")
    rowptr, col = given.graph.rowptr.tolist(), (given.graph.col + 1).tolist()
    with tempfile.NamedTemporaryFile("w", suffix=".metis") as file:
        file.write(f"{given.graph.num_nodes} {given.graph.num_edges // 2}\n")
        for first, last in pairwise(rowptr):
            file.write(" ".join(map(str, col[first:last])) + "\n")
        file.flush()
        graph = kaminpar.load_graph(file.name, kaminpar.GraphFileFormat.METIS)

    def solve(k: int) -> Tensor:
        kaminpar.reseed(_SEED)
        solver = kaminpar.KaMinPar(threads, kaminpar.default_context())
        return torch.tensor(solver.compute_partition(graph, k, _IMBALANCE))

    return solve


@dataclass(frozen=True)
class Method:
    """A way to cluster."""

    title: str
    prepare: Callable[[Given, int], Solve]
    count: str  # "free": it chooses the number of clusters; "leiden": as many as Leiden found; "given"
    package: str = "hierpool"
    most_nodes: int = 10**9  # above, it takes too much memory


METHODS = {
    "leiden": Method("Leiden (igraph)", _leiden, "free", "igraph"),
    "parallel-leiden": Method("ParallelLeiden (NetworKit)", _parallel_leiden, "free", "networkit"),
    "hierpool-free": Method(
        "`multilevel_clusters`", partial(_ours, objective="modularity", free=True), "free"
    ),
    "hierpool-leiden": Method("`multilevel_clusters`", partial(_ours, objective="modularity"), "leiden"),
    "hierpool": Method("`multilevel_clusters`", partial(_ours, objective="modularity"), "given"),
    "metis": Method("METIS", _metis, "given", "pymetis"),
    "kaminpar": Method("KaMinPar", _kaminpar, "given", "kaminpar"),
    "hierpool-cut": Method(
        '`multilevel_clusters`, `objective="cut"`', partial(_ours, objective="cut"), "given"
    ),
    "cluster": Method("`cluster --no-refine`", partial(_network, refined=False), "given", most_nodes=200_000),
    "cluster-refined": Method(
        "`cluster --refine`", partial(_network, refined=True), "given", most_nodes=200_000
    ),
}
_NETWORKS = ("cluster", "cluster-refined")  # which take features


# ---- runs -----------------------------------------------------------------------------------------------------------


def scores(given: Given, clusters: Tensor) -> dict[str, Any]:
    """The quality of a clustering."""
    row, col = given.graph.to_edge_index()[0]
    sizes = clusters.bincount()
    sizes = sizes[sizes > 0]
    return {
        "k": sizes.numel(),
        "modularity": metrics.modularity(given.graph, clusters),
        "cut": float((clusters[row] != clusters[col]).double().mean()),
        "balance": float(sizes.max() * sizes.numel() / clusters.numel()),
        "nmi": None
        if given.labels is None
        else metrics.normalized_mutual_information(clusters, given.labels),
    }


def measure(given: Given, method: Method, k: int, threads: int) -> tuple[dict[str, Any], Tensor]:
    """A row and its clusters. What takes long is run once."""
    started = time.perf_counter()
    solve = method.prepare(given, threads)
    prepared = time.perf_counter()
    clusters = solve(k)
    seconds = time.perf_counter() - prepared
    same = None
    if seconds < _LONG_S or method.title.startswith("`multilevel"):
        torch.set_num_threads(1)
        try:
            same = torch.equal(solve(k), clusters)
        finally:
            torch.set_num_threads(threads)
    times = {"build_s": prepared - started, "seconds": seconds, "same_again": same}
    return scores(given, clusters) | times, clusters


def rows(name: str, root: Path | None, wanted: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """The rows of a graph."""
    title, load = GRAPHS[name]
    about = {"graph": name, "graph_title": title}
    try:
        given = load(root)
    except (DatasetError, OSError, ValueError, ImportError) as error:
        yield about | {"status": "not available", "reason": str(error)}
        return
    about |= {"nodes": given.graph.num_nodes, "entries": given.graph.num_edges}
    of_leiden = None
    for key in wanted:
        method = METHODS[key]
        row = about | {"method": key, "title": method.title, "count": method.count}
        k = of_leiden if method.count == "leiden" else given.k
        if method.package == "hierpool" and given.x is not None and "cluster" not in key:
            continue  # the same as without features
        if (
            k is None
            or given.graph.num_nodes > method.most_nodes
            or (given.x is not None and key not in _NETWORKS)
        ):
            continue
        try:
            found, clusters = measure(given, method, k, threads)
        except ImportError as error:
            yield row | {"status": "missing", "reason": str(error)}
            continue
        if key == "leiden":
            of_leiden = clusters.unique().numel()
        yield row | {"status": "measured"} | found


def run(
    graphs: list[str], methods: list[str], threads: int, root: Path | None, parent: Path = RESULTS
) -> results.Results:
    """Run methods on graphs, into a new folder of results."""
    torch.set_num_threads(threads)
    about = machine.describe(CPU)
    about["peers"] = {name: _version(name) for name in PEERS}
    whole = graphs == list(GRAPHS) and methods == list(METHODS)
    folder = results.create_folder(parent, about | {"quick": not whole})
    started = time.perf_counter()
    for graph in graphs:
        for row in rows(graph, root, methods, threads):
            results.append_row(folder, row)
            said = row.get("reason") or f"modularity {row['modularity']:.4f}, {row['seconds']:.2f} s"
            print(f"{row['graph']}, {row.get('title', '')}: {said}", flush=True)
    results.finish(folder, time.perf_counter() - started)
    return results.read(folder)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
