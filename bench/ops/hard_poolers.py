"""Poolers that keep or merge nodes, beside those of PyG and torch-geometric-pool (tgp), and the growth of their time.

Both sides of a pair do the same work on the same batch, and their results are compared before they are timed. hierpool
gets the batch as a ``RaggedGraph``, which a data loader makes once; the others get ``edge_index``. PyG and tgp are not
patched.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bench.harness import machine, results
from bench.harness.timing import Effort, Percentiles, Side, compare, timed
from bench.harness.workload import CPU, Refused, Request, Unavailable, not_installed
from bench.ops import precoarsening
from bench.ops.graphs import random_edges, tu_batch
from bench.ops.studies import exponent
from hierpool import Assignment, RaggedGraph, sparse_pool
from hierpool.nn import EdgePool, KMISPool, NDPPool, TopKPool
from hierpool.selection import match

RESULTS = results.RESULTS / "hard-poolers"
FEATURES = 32
SIZES = (10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7)
_TOLERANCE = 1e-4  # of results in float32
_MANY = 10**4  # supernodes
_LARGE_S = 1.0
Step = Callable[[], tuple[Tensor, ...]]


class Given(NamedTuple):
    """A batch of graphs."""

    x: Tensor  # [N, F], which needs a gradient
    edge_index: Tensor  # [2, E]
    weight: Tensor  # [E], the same in both directions of an edge
    graph: RaggedGraph  # with the weights
    structure: RaggedGraph  # without weights


def given_of(graph: RaggedGraph, seed: int) -> Given:
    """A symmetric graph with drawn features and weights."""
    random = torch.Generator().manual_seed(seed)
    node = torch.rand(graph.num_nodes, generator=random)
    weight = 0.5 + node[graph.row.long()] * node[graph.col.long()]
    x = torch.randn(graph.num_nodes, FEATURES, generator=random).requires_grad_()
    return Given(x, graph.to_edge_index()[0], weight, graph.with_value(weight, symmetric=True), graph)


def of_data_set(name: str, count: int, root: Path | None) -> Given:
    """A batch of graphs of a TU data set."""
    batch = tu_batch(name, count)(Request(data_root=root))
    nodes = torch.tensor(batch.sizes)
    return given_of(RaggedGraph.from_dense(batch.adj.bool(), num_nodes=nodes), 0)


def of_size(entries: int, root: Path | None = None) -> Given:
    """A uniformly random graph with N = E / 10."""
    nodes = entries // 10
    edges = random_edges(nodes, entries, torch.Generator().manual_seed(1))
    return given_of(RaggedGraph.from_edge_index(edges, nodes), 1)


GRAPHS: dict[str, tuple[str, Callable[[Path | None], Given]]] = {
    "enzymes": ("ENZYMES x 32", partial(of_data_set, "ENZYMES", 32)),
    "proteins": ("PROTEINS x 32", partial(of_data_set, "PROTEINS", 32)),
    "million": ("N 100 000, E 1 000 000", partial(of_size, 10**6)),
    "ten-million": ("N 1 000 000, E 10 000 000", partial(of_size, 10**7)),
}


# ---- what is timed --------------------------------------------------------------------------------------------------


def _pyg() -> Any:
    try:
        return importlib.import_module("torch_geometric.nn")
    except ImportError as error:
        raise not_installed(error, "pip install 'hierpool[pyg]'") from error


def _tgp() -> Any:
    """tgp's poolers. Where torch-scatter is missing, which is built from source, torch's scatter takes its place."""
    _pyg()
    if "torch_scatter" not in sys.modules and importlib.util.find_spec("torch_scatter") is None:
        from tests.support.tgp import torch_scatter

        sys.modules["torch_scatter"] = torch_scatter()
    try:
        return importlib.import_module("tgp.poolers")
    except ImportError as error:
        raise not_installed(error, "pip install torch-geometric-pool scikit-learn") from error


def _trained(call: Callable[[], tuple[Tensor, ...]], leaves: list[Tensor]) -> Step:
    """A step with its backward; the results, of which the first is differentiated, and its gradients."""

    def step() -> tuple[Tensor, ...]:
        out = call()
        return (*out, *torch.autograd.grad(out[0].square().sum(), leaves))

    return step


def contraction(given: Given, alone: bool = False) -> tuple[Step | None, Step]:
    """Pairs of nodes become clusters: the sums of the weights between these, without self-loops."""
    assignment = Assignment.from_matching(match(given.graph), given.graph)
    cluster = assignment.clusters().cluster.long()

    def ours() -> tuple[Tensor, ...]:
        graph = sparse_pool(None, given.graph, assignment, loops="drop").graph
        assert graph.value is not None
        return graph.value, graph.col

    if alone:
        return None, ours
    _pyg()
    pool_edge = importlib.import_module("torch_geometric.nn.pool.pool").pool_edge

    def theirs() -> tuple[Tensor, ...]:
        edges, weight = pool_edge(cluster, given.edge_index, given.weight, "sum")
        return weight, edges[1]

    return theirs, ours


def top_k(given: Given, alone: bool = False) -> tuple[Step | None, Step]:
    """Half of the nodes and their edges, forward and backward."""
    own = TopKPool(FEATURES, ratio=0.5)
    leaves = [given.x, own.weight]

    def pooled() -> tuple[Tensor, ...]:
        out = own(given.x, given.structure)
        return out.x, out.graph.batch

    if alone:
        return None, _trained(pooled, leaves)
    layer = _pyg().TopKPooling(FEATURES, ratio=0.5)
    own.load_state_dict({"weight": layer.select.weight})

    def theirs() -> tuple[Tensor, ...]:
        out = layer(given.x, given.edge_index, batch=given.graph.batch)
        return out[0], out[3]

    return _trained(theirs, [given.x, layer.select.weight]), _trained(pooled, leaves)


def edge_pool(given: Given, alone: bool = False) -> tuple[Step | None, Step]:
    """Edges with the best scores are contracted, forward and backward."""
    own = EdgePool(FEATURES, edge_score="sigmoid")
    leaves = [given.x, own.lin.weight]

    def pooled() -> tuple[Tensor, ...]:
        out = own(given.x, given.structure)
        return (out.x,)

    if alone:
        return None, _trained(pooled, leaves)
    kind = _pyg().EdgePooling
    layer = kind(FEATURES, edge_score_method=kind.compute_edge_score_sigmoid)
    own.lin.load_state_dict(layer.lin.state_dict())

    def theirs() -> tuple[Tensor, ...]:
        return (layer(given.x, given.edge_index, given.graph.batch)[0],)

    return _trained(theirs, [given.x, layer.lin.weight]), _trained(pooled, leaves)


def k_mis(given: Given, alone: bool = False) -> tuple[Step | None, Step]:
    """The nodes of a maximal independent set and those beside them, forward and backward."""
    own = KMISPool(FEATURES)
    assert own.lin is not None
    leaves = [given.x, own.lin.weight]

    def pooled() -> tuple[Tensor, ...]:
        out = own(given.x, given.structure)
        return out.x, out.graph.batch

    if alone:
        return None, _trained(pooled, leaves)
    layer = _tgp().KMISPooling(FEATURES)
    linear = next(
        m for m in layer.modules() if getattr(m, "weight", torch.empty(0)).shape == own.lin.weight.shape
    )
    own.lin.load_state_dict(
        {name: t for name, t in linear.state_dict().items() if name in ("weight", "bias")}
    )

    def theirs() -> tuple[Tensor, ...]:
        out = layer(given.x, given.edge_index, batch=given.graph.batch)
        return out.x, out.batch

    return _trained(theirs, [given.x, linear.weight]), _trained(pooled, leaves)


def ndp(given: Given, alone: bool = False) -> tuple[Step | None, Step]:
    """One side of a large cut, and the graph without the other. The results differ: theirs draws."""
    own = NDPPool()

    def ours() -> tuple[Tensor, ...]:
        out = own(given.x.detach(), given.structure)
        return out.x, out.graph.col

    if alone:
        return None, ours
    layer = _tgp().NDPPooling()

    def theirs() -> tuple[Tensor, ...]:
        out = layer(given.x.detach(), given.edge_index, batch=given.graph.batch)
        return out.x, out.edge_index

    return theirs, ours


def matching(given: Given, alone: bool = True) -> tuple[Step | None, Step]:
    """Heavy edges of which no two share a node."""
    return None, lambda: (match(given.graph),)


@dataclass(frozen=True)
class Pair:
    """What is compared on a batch."""

    title: str
    make: Callable[[Given], tuple[Step | None, Step]]
    graph: str
    peer: str
    goal: float | None = None  # times as fast
    same: bool = True  # results agree
    ordered: bool = True  # with supernodes in one order


PAIRS = {
    "contraction-enzymes": Pair("contraction of matched pairs", contraction, "enzymes", "PyG", 10),
    "contraction": Pair("contraction of matched pairs", contraction, "ten-million", "PyG", 4),
    "topk-proteins": Pair("Top-k", top_k, "proteins", "PyG", 3, ordered=False),
    "topk": Pair("Top-k", top_k, "million", "PyG", 3, ordered=False),
    "edge-enzymes": Pair("EdgePool", edge_pool, "enzymes", "PyG", 50, ordered=False),
    "kmis-enzymes": Pair("k-MIS", k_mis, "enzymes", "tgp", 10, ordered=False),
    "kmis": Pair("k-MIS", k_mis, "million", "tgp", 10, ordered=False),
    "ndp-enzymes": Pair("NDP", ndp, "enzymes", "tgp", 100, same=False),
}
GROWTH: dict[str, tuple[str, Callable[..., tuple[Step | None, Step]]]] = {
    "contraction": ("contraction of matched pairs", contraction),
    "topk": ("Top-k, forward + backward", top_k),
    "edge": ("EdgePool, forward + backward", edge_pool),
    "kmis": ("k-MIS, forward + backward", k_mis),
    "match": ("match", matching),
}


# ---- rows -----------------------------------------------------------------------------------------------------------


def _check(pair: Pair, theirs: Step, ours: Step) -> None:
    """Raise ``Refused`` unless results agree: those of many supernodes, of which some have equal scores, in norm."""
    for one, other in zip(ours(), theirs(), strict=True):
        got, exact, tolerance = one.double(), other.double(), _TOLERANCE
        if not pair.ordered and exact.dim() and exact.size(0) > _MANY:
            got, exact, tolerance = got.norm(), exact.norm(), 10 * _TOLERANCE
        elif not pair.ordered and exact.dim():
            got, exact = got.sort(0).values, exact.sort(0).values
        scale = float(exact.detach().abs().max()) if exact.numel() else 0.0
        if got.shape != exact.shape or not torch.allclose(got, exact, tolerance, tolerance * scale):
            raise Refused(f"results differ from those of {pair.peer}")


def pair_row(pair: Pair, given: Given, effort: Effort) -> dict[str, Any]:
    """The times of both sides."""
    torch.manual_seed(0)
    theirs, ours = pair.make(given)
    assert theirs is not None
    if pair.same:
        _check(pair, theirs, ours)
    sides = [Side([timed(step)], CPU) for step in (ours, theirs)]
    return {"status": "measured", **asdict(compare(sides[0], sides[1], effort))}


def growth_rows(names: list[str], sizes: tuple[int, ...], repeats: int) -> Iterator[dict[str, Any]]:
    """The time of each operation for each size, and its exponent."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for entries in sizes:
        given = of_size(entries)
        for name in names:
            torch.manual_seed(0)
            step = timed(GROWTH[name][1](given, alone=True)[1])
            first = step()  # which also warms up
            times = Percentiles.of([step() for _ in range(3 if first > _LARGE_S else repeats)])
            found[name].append(times.p50)
            about = {"kind": "growth", "operation": name, "title": GROWTH[name][0], "status": "measured"}
            yield about | {"entries": entries, "seconds": times.p50, "low": times.p20, "high": times.p80}
    for name, seconds in found.items():
        if len(sizes) > 1:
            yield {"kind": "exponent", "operation": name, "title": GROWTH[name][0], "status": "measured",
                   "exponent": exponent(sizes, seconds)}  # fmt: skip


def rows(
    pairs: list[str],
    growth: list[str],
    pooled: list[str],
    root: Path | None,
    effort: Effort,
    sizes: tuple[int, ...],
    repeats: int,
) -> Iterator[dict[str, Any]]:
    """All rows: graphs are made once, and one at a time."""
    for graph in dict.fromkeys(PAIRS[name].graph for name in pairs):
        title, load = GRAPHS[graph]
        mine = [name for name in pairs if PAIRS[name].graph == graph]
        given: Given | None = None
        for name in mine:
            pair = PAIRS[name]
            about = {"kind": "pair", "pair": name, "title": pair.title, "graph": title, "peer": pair.peer,
                     "goal": pair.goal, "same": pair.same}  # fmt: skip
            try:
                given = load(root) if given is None else given
                size = {"nodes": given.graph.num_nodes, "entries": given.graph.num_edges}
                yield about | size | pair_row(pair, given, effort)
            except (Unavailable, Refused) as error:
                yield about | {"status": "missing", "reason": str(error)}
    yield from precoarsening.rows(pooled, root, effort)
    yield from growth_rows(growth, sizes, repeats)


def run(
    chosen: tuple[list[str], list[str], list[str]],
    threads: int,
    root: Path | None,
    quick: bool,
    parent: Path = RESULTS,
) -> results.Results:
    """Measure the chosen pairs, growths and data sets that are pooled once into a new folder of results."""
    torch.set_num_threads(threads)
    pairs, growth, pooled = chosen
    whole = chosen == (list(PAIRS), list(GROWTH), list(precoarsening.DATA_SETS)) and not quick
    pairs = [name for name in pairs if not (quick and PAIRS[name].graph == "ten-million")]
    folder = results.create_folder(parent, machine.describe(CPU) | {"quick": not whole})
    started = time.perf_counter()
    effort, sizes = (Effort(0.2, 3, 11), SIZES[:2]) if quick else (Effort(4.0, 5, 101), SIZES)
    for row in rows(pairs, growth, pooled, root, effort, sizes, 3 if quick else 7):
        results.append_row(folder, row)
        said = row.get("reason") or {
            "pair": lambda row: f"{row['graph']}: {row['speedup']['p50']:.1f} times as fast as {row['peer']}",
            "growth": lambda row: f"E {row['entries']:,}: {row['seconds']:.4f} s",
            "precoarsening": lambda row: f"{row['data_set']}, {row['part']}: {row['speedup']['p50']:.1f} times as fast",
            "exponent": lambda row: f"E to the {row['exponent']:.3f}",
        }[row["kind"]](row)  # fmt: skip
        print(f"{row['title']}, {said}", flush=True)
    results.finish(folder, time.perf_counter() - started)
    return results.read(folder)
