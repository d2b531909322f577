"""Graphs from edges against the dense matrix that the edges define, with every builder."""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor

from hierpool import RaggedGraph
from tests.support.edges import EdgeCase, Edges, over

SEED = 21
f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


def matrix_of(graph: RaggedGraph) -> Tensor:
    """The matrix in the caller's order of nodes, float64 ``[N, N]``."""
    edge_index, value = graph.to_edge_index()
    value = torch.ones(graph.num_edges) if value is None else value.detach()
    out = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=f64)
    assert edge_index.unique(dim=1).size(1) == graph.num_edges, "an entry is stored twice"
    return out.index_put_(tuple(edge_index), value.double(), accumulate=True)


def assert_ascending(graph: RaggedGraph) -> None:
    key = graph.row.long() * max(graph.num_nodes, 1) + graph.col
    assert bool((key.diff() > 0).all()), "columns do not ascend"


def assert_well_formed(graph: RaggedGraph, edges: Edges) -> None:
    n, e = edges.num_nodes, graph.num_edges
    assert (graph.num_nodes, graph.num_graphs) == (n, edges.num_graphs)
    assert graph.rowptr.dtype == graph.col.dtype == torch.int32
    assert graph.ptr.dtype == torch.int64
    assert graph.rowptr.shape == (n + 1,)
    assert (int(graph.rowptr[0]), int(graph.rowptr[-1])) == (0, e)
    assert (int(graph.ptr[0]), int(graph.ptr[-1])) == (0, n)
    assert_ascending(graph)
    batch = torch.zeros(n, dtype=torch.int64) if edges.batch is None else edges.batch
    assert torch.equal(graph.batch, batch)
    if graph.order is None:
        assert bool((batch.diff() >= 0).all())
    else:
        assert torch.equal(graph.order, torch.argsort(batch, stable=True))


def assert_same_matrix(graph: RaggedGraph, edges: Edges, rtol: float = 0) -> None:
    exact = edges.matrix()
    assert_well_formed(graph, edges)
    torch.testing.assert_close(matrix_of(graph), exact, rtol=rtol, atol=0)
    assert graph.is_symmetric == torch.equal(exact, exact.T)
    assert graph.num_edges == int((exact != 0).sum())
    torch.testing.assert_close(graph.degree.double(), exact.sum(1), rtol=1e-6, atol=0)
    assert (graph.value is None) == (edges.edge_weight is None and bool((exact <= 1).all()))
    transpose = RaggedGraph(*graph.transposed(), graph.ptr, graph.order)
    assert torch.equal(matrix_of(transpose), matrix_of(graph).T)
    assert_ascending(transpose)
    assert transpose.col.dtype == graph.col.dtype


@over(SEED)
def test_matrix(case: EdgeCase, builder: str) -> None:
    edges = case.make(SEED)
    assert_same_matrix(edges.graph(), edges, rtol=1e-15)


@over(
    SEED, "base", "weighted", "coalesced-weighted", "shuffled-weighted", "empty-graphs", "no-edges-weighted"
)
@pytest.mark.parametrize("dtype", [f32, f64, bf16, f16], ids=str)
def test_dtype_of_weights(case: EdgeCase, dtype: torch.dtype, builder: str) -> None:
    edges = case.make(SEED, dtype)
    graph = edges.graph()
    assert graph.dtype == (f32 if edges.edge_weight is None else dtype)
    assert torch.equal(matrix_of(graph), edges.matrix())  # sums of small whole numbers, or no sums


def test_weights_of_16_bits_are_summed_in_float32_and_rounded_once(builder: str) -> None:
    edge_index = torch.zeros(2, 300, dtype=torch.int64)
    graph = RaggedGraph.from_edge_index(edge_index, 1, edge_weight=torch.ones(300, dtype=bf16))
    assert graph.value is not None
    assert graph.value.tolist() == [300.0]  # 256 + 1 is 256 in bfloat16


def test_symmetry_of_weights_of_16_bits_is_that_of_rounded_ones(builder: str) -> None:
    pair = torch.tensor([[0, 0, 1], [1, 1, 0]])
    weight = torch.tensor([256.0, 0.5, 256.0], dtype=bf16)
    assert RaggedGraph.from_edge_index(pair, 2, edge_weight=weight).is_symmetric


def test_duplicates_are_summed_in_the_order_of_edges(builder: str) -> None:
    weight = torch.tensor([1.0, 1e8, -1e8, 1.0])
    edge_index = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0]])
    graph = RaggedGraph.from_edge_index(edge_index, 2, edge_weight=weight)
    assert graph.value is not None
    assert graph.value.tolist() == [1.0]  # 1 is lost to 1e8, the last one is not


def test_symmetry_is_exact(builder: str) -> None:
    edge_index = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    weight = torch.tensor([1.0, 1.0, 2.0, 2.0])
    assert RaggedGraph.from_edge_index(edge_index, edge_weight=weight).is_symmetric
    weight[3] = torch.nextafter(weight[3], torch.tensor(3.0))
    assert not RaggedGraph.from_edge_index(edge_index, edge_weight=weight).is_symmetric
    assert RaggedGraph.from_edge_index(edge_index, edge_weight=weight, symmetric=True).is_symmetric
    assert not RaggedGraph.from_edge_index(edge_index, symmetric=False).is_symmetric
    below = torch.tensor([[1, 2, 2], [0, 0, 1]])
    assert not RaggedGraph.from_edge_index(below).is_symmetric


@over(SEED, "base", "sorted", "shuffled-weighted", "isolated-tails", "dense-rows", "coalesced-weighted")
def test_gradients_to_edge_weights(case: EdgeCase, builder: str) -> None:
    def weights(edges: Edges) -> Tensor:
        return torch.rand(edges.edge_index.size(1), dtype=f64, requires_grad=True)

    edges = case.make(SEED)
    weight, upstream = weights(edges), torch.rand(edges.num_nodes, edges.num_nodes, dtype=f64)
    entries, value = edges._replace(edge_weight=weight).graph().to_edge_index()
    assert value is not None
    (grad,) = torch.autograd.grad(value, weight, upstream[tuple(entries)])
    assert torch.equal(grad, upstream[tuple(edges.edge_index.long())])

    sizes = tuple(min(size, 5) for size in case.sizes)
    small = replace(case, sizes=sizes, degree=min(case.degree, 6.0)).make(SEED)

    def build(weight: Tensor) -> Tensor | None:
        return small._replace(edge_weight=weight).graph().value

    assert torch.autograd.gradcheck(build, weights(small))
    assert torch.autograd.gradgradcheck(build, weights(small))


def test_learned_weights_build_the_same_graph(builder: str) -> None:
    edges = EdgeCase("weighted", weights="whole", symmetric=True).make(SEED)
    assert edges.edge_weight is not None
    plain = edges.graph()
    learned = edges._replace(edge_weight=edges.edge_weight.clone().requires_grad_()).graph()
    assert learned.is_symmetric
    assert learned.value is not None
    assert learned.value.requires_grad
    assert torch.equal(learned.value, plain.value)
    assert torch.equal(learned.col, plain.col)
    with torch.no_grad():
        later = edges._replace(edge_weight=edges.edge_weight.clone().requires_grad_()).graph()
        assert later.value is not None
        assert not later.value.requires_grad
    assert later.value.requires_grad


@pytest.mark.parametrize("nodes", [3000, 70000])
def test_many_edges(nodes: int, builder: str) -> None:
    """Several blocks of rows and several chunks of edges; rows long enough for every way of sorting."""
    draw = torch.Generator().manual_seed(SEED)
    leaves = torch.randint(0, nodes, (6000,), generator=draw)
    star = torch.stack([torch.zeros_like(leaves), leaves])
    middle = torch.stack([torch.full((100,), 7), torch.randint(0, nodes, (100,), generator=draw)])
    rest = torch.randint(0, nodes, (2, 150_000), generator=draw)
    edge_index = torch.cat([rest, star, middle, star.flip(0)], 1)
    edge_index = edge_index[:, torch.randperm(edge_index.size(1), generator=draw)]
    weight = torch.randint(1, 5, (edge_index.size(1),), generator=draw).float()
    graph = RaggedGraph.from_edge_index(edge_index, nodes, edge_weight=weight)
    exact = torch.sparse_coo_tensor(edge_index, weight, (nodes, nodes)).coalesce()
    assert torch.equal(torch.stack([graph.row, graph.col]).long(), exact.indices())
    assert graph.value is not None
    assert torch.equal(graph.value, exact.values())
    assert not graph.is_symmetric
    both = RaggedGraph.from_edge_index(torch.cat([edge_index, edge_index.flip(0)], 1), nodes)
    assert both.is_symmetric
    rowptr, col, value = graph.transposed()
    turned = exact.t().coalesce()
    assert torch.equal(RaggedGraph(rowptr, col, value, graph.ptr).row.long(), turned.indices()[0])
    assert torch.equal(col.long(), turned.indices()[1])
    assert value is not None
    assert torch.equal(value, turned.values())


edge_cases = strategies.builds(
    EdgeCase,
    name=strategies.just("drawn"),
    sizes=strategies.lists(strategies.integers(0, 9), max_size=6).map(tuple),
    degree=strategies.sampled_from([0.0, 0.5, 2.0, 8.0]),
    batch=strategies.sampled_from(["sorted", "shuffled"]),
    order=strategies.sampled_from(["drawn", "sorted", "rows"]),
    weights=strategies.sampled_from(["ones", "whole"]),
    symmetric=strategies.booleans(),
    repeated=strategies.booleans(),
    loops=strategies.booleans(),
    isolated=strategies.integers(0, 2),
    index=strategies.sampled_from([torch.int32, torch.int64]),
)


@hypothesis.given(edge_cases, strategies.integers(0, 2**30))
@hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_any_edges(builder: str, case: EdgeCase, seed: int) -> None:
    edges = case.make(seed)
    assert_same_matrix(edges.graph(), edges)
