"""Graphs without edges, without nodes, and batches without graphs: every source and every method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from hierpool import RaggedGraph, heavy_edge_clusters
from tests.support.following import copies

EDGES = torch.zeros(2, 0, dtype=torch.int64)
NONE = torch.zeros(0, dtype=torch.int64)


def ptr(*first: int) -> torch.Tensor:
    return torch.tensor(first)


def sources() -> Iterator[tuple[str, Callable[[], RaggedGraph], list[int]]]:
    """A name, a graph without edges, and the nodes of each of its graphs."""
    edges, rows, dense = RaggedGraph.from_edge_index, RaggedGraph.from_csr, RaggedGraph.from_dense
    for name, weight in {"ones": None, "weighted": torch.ones(0)}.items():
        w: dict[str, Any] = {"edge_weight": weight}
        yield f"no graphs, {name}", lambda w=w: edges(EDGES, batch=NONE, **w), []
        yield f"no graphs, ptr, {name}", lambda w=w: edges(EDGES, ptr=ptr(0), **w), []
        yield f"no nodes, {name}", lambda w=w: edges(EDGES, **w), [0]
        yield f"graphs without nodes, {name}", lambda w=w: edges(EDGES, batch=NONE, num_graphs=2, **w), [0, 0]
        yield f"no edges, {name}", lambda w=w: edges(EDGES, 3, **w), [3]
        yield f"mixed, {name}", lambda w=w: edges(EDGES, batch=ptr(2, 0, 2), **w), [1, 0, 2]
        yield f"rows, {name}", lambda v=weight: rows(ptr(0, 0, 0), NONE, v, ptr(0, 0, 2)), [0, 2]
        yield f"no rows, {name}", lambda v=weight: rows(ptr(0), NONE, v), [0]
        yield f"no rows, no graphs, {name}", lambda v=weight: rows(ptr(0), NONE, v, ptr(0)), []
    for shape in ((0, 0), (0, 0, 0), (0, 3, 3), (2, 0, 0), (2, 3, 3)):
        sizes = [shape[-1]] * (shape[0] if len(shape) == 3 else 1)
        for dtype in (torch.float32, torch.bool):
            adj = torch.zeros(shape, dtype=dtype)
            yield f"dense {shape} {dtype}", lambda adj=adj: dense(adj), sizes
            mask = torch.zeros(shape[:-1])
            yield f"masked {shape} {dtype}", lambda adj=adj, m=mask: dense(~adj.bool(), m), [0] * len(sizes)
    for n in (0, 3):
        for layout in ("to_sparse", "to_sparse_csr", "to_sparse_csc"):
            matrix = getattr(torch.zeros(n, n), layout)()
            yield f"{layout} {n}", lambda matrix=matrix: RaggedGraph.from_sparse(matrix), [n]


SOURCES = {name: (make, sizes) for name, make, sizes in sources()}


@pytest.mark.parametrize("name", SOURCES)
def test_every_method(name: str, builder: str) -> None:
    make, sizes = SOURCES[name]
    graph, n = make(), sum(sizes)
    assert (graph.num_graphs, graph.num_nodes, graph.num_edges) == (len(sizes), n, 0)
    assert graph.ptr.diff().tolist() == sizes
    assert graph.is_symmetric
    assert graph.row.shape == graph.col.shape == (0,)
    assert sorted(graph.batch.tolist()) == graph.graph_of_node().tolist()
    assert graph.degree.tolist() == [0.0] * n
    for arrays in (graph.transposed(), graph.reversed_entries()):
        assert arrays[0].tolist() == [0] * (n + 1)
        assert arrays[1].shape == (0,)
    largest = max(sizes, default=0)
    assert graph.to_dense().shape == (len(sizes), largest, largest)
    assert graph.to_dense(4).shape == (len(sizes), 4, 4)
    assert graph.to_edge_index()[0].shape == (2, 0)
    assert graph.with_value(torch.ones(0)).to(dtype=torch.float64).dtype == torch.float64
    assert graph.with_value(None).value is None
    nodes = torch.rand(n, 2)
    assert torch.equal(graph.in_callers_order(graph.in_graph_order(nodes)), nodes)
    assert heavy_edge_clusters(graph, 2).shape == (n,)
    joined = RaggedGraph.collate([graph, RaggedGraph.from_edge_index(torch.tensor([[0], [1]])), graph])
    assert joined.ptr.diff().tolist() == [*sizes, 2, *sizes]
    assert f"num_nodes={n}" in repr(graph)
    for copied in copies().values():
        assert repr(copied(graph)) == repr(graph)


@pytest.mark.parametrize("layout", ["csr", "csc", "coo", "lil", "dok"])
@pytest.mark.parametrize("n", [0, 3])
def test_scipy(layout: str, n: int) -> None:
    matrix = pytest.importorskip("scipy.sparse").coo_array((n, n)).asformat(layout)
    graph = RaggedGraph.from_sparse(matrix)
    assert (graph.num_nodes, graph.num_edges) == (n, 0)
