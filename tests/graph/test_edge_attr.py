"""Features of the edges of a graph: they follow their source, and go wherever the graph goes."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, soft_pool
from hierpool.data import collate_ragged
from tests.support.assignments import draw, with_features

f64, f32 = torch.float64, torch.float32
EDGES = torch.tensor([[2, 0, 2, 1], [0, 1, 0, 2]])  # of which one is there twice
ATTR = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0], [5.0, 6.0]])
SUMS = torch.tensor([[3.0, 4.0], [5.0, 6.0], [11.0, 22.0]])  # in the order of rows and columns


def features(graph: RaggedGraph) -> Tensor:
    assert graph.edge_attr is not None
    return graph.edge_attr


@pytest.mark.parametrize("dtype", [f64, torch.bool, torch.int64])
@pytest.mark.parametrize("masked", [False, True])
def test_matrices_of_several_types_of_edges_are_features(masked: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    adj = (torch.rand(3, 2, 5, 5) < 0.3) * torch.randint(1, 9, (3, 2, 5, 5))
    given = adj.to(dtype).requires_grad_(dtype is f64)
    mask = torch.rand(3, 5) < 0.6 if masked else torch.ones(3, 5, dtype=torch.bool)
    graph = RaggedGraph.from_dense(given, mask if masked else None)
    assert graph.value is None
    assert features(graph).dtype is (f64 if dtype is f64 else f32)
    inside = given.detach().double() * (mask[:, None, :, None] & mask[:, None, None])
    padded = graph.to_dense(5)
    assert int(padded.count_nonzero()) == graph.num_edges == int(inside.any(1).sum())
    for r in range(2):
        one = RaggedGraph.from_dense(inside[:, r], mask)
        ours = graph.with_edge_attr(None).with_value(features(graph)[:, r].detach())
        assert torch.equal(ours.to_dense(5).double(), one.to_dense(5))
    if dtype is f64:
        features(graph).sum().backward()
        assert given.grad is not None
        assert torch.equal(given.grad, inside.any(1, keepdim=True).double().expand_as(given))


@pytest.mark.parametrize("weighted", [False, True])
def test_features_of_equal_edges_are_summed(weighted: bool, builder: str) -> None:
    weight = torch.ones(4) if weighted else None
    graph = RaggedGraph.from_edge_index(EDGES, 3, edge_weight=weight, edge_attr=ATTR)
    assert torch.equal(features(graph), SUMS)
    assert repr(graph).endswith("edge_attr=[3, 2])")
    sorted_edges = torch.stack([graph.row, graph.col])
    again = RaggedGraph.from_edge_index(sorted_edges, 3, edge_attr=SUMS, is_coalesced=True)
    assert torch.equal(features(again), SUMS)
    for one in (
        RaggedGraph.from_csr(graph.rowptr, graph.col, edge_attr=SUMS),
        RaggedGraph.from_csr(
            torch.tensor([0, 1, 2, 4]), torch.tensor([1, 2, 0, 0]), edge_attr=ATTR[[1, 3, 0, 2]]
        ),
        RaggedGraph.from_edge_index(EDGES, 3, edge_attr=ATTR.long()),
    ):
        assert torch.equal(features(one), SUMS)
    mixed = torch.tensor([1, 0, 1])  # nodes that are not sorted by graph
    edges = torch.tensor([[2, 1, 0], [0, 1, 2]])
    graph = RaggedGraph.from_edge_index(edges, batch=mixed, edge_attr=ATTR[:3])
    assert torch.equal(graph.to_edge_index()[0], edges[:, [1, 2, 0]])
    assert torch.equal(features(graph), ATTR[[1, 2, 0]])


@pytest.mark.parametrize("edges", [EDGES, EDGES[:, [1, 3, 0]]], ids=["repeated", "sorted"])
def test_a_graph_follows_its_features(edges: Tensor, builder: str) -> None:
    leaf = ATTR[: edges.size(1)].double().requires_grad_()
    graph = RaggedGraph.from_edge_index(edges, 3, edge_attr=leaf)
    moved, joined = graph.to(dtype=f32), RaggedGraph.collate([graph, graph])
    for _ in range(2):
        with torch.no_grad():
            leaf.mul_(2)
        fresh = RaggedGraph.from_edge_index(edges, 3, edge_attr=leaf.detach().clone())
        assert torch.equal(features(graph), features(fresh))
        assert torch.equal(features(moved), features(fresh).float())
        assert torch.equal(features(joined), features(fresh).repeat(2, 1))
        for one, count in ((graph, 1), (moved, 1), (joined, 2)):
            (grad,) = torch.autograd.grad(features(one).square().sum(), leaf)
            exact = torch.zeros(3, 3, 2, dtype=f64).index_put(tuple(edges), leaf.detach(), accumulate=True)
            torch.testing.assert_close(grad, 2 * count * exact[tuple(edges)])
    given = ATTR[: edges.size(1)].clone()
    graph = RaggedGraph.from_edge_index(edges, 3, edge_attr=given)
    before = features(graph).clone()
    given.add_(1)
    assert not torch.equal(features(graph), before)


def test_features_go_wherever_the_graph_goes() -> None:
    graph = RaggedGraph.from_edge_index(EDGES, 3, edge_attr=ATTR)
    other = RaggedGraph.from_edge_index(EDGES[:, :1], 4, edge_attr=ATTR[:1])
    joined = RaggedGraph.collate([graph, other])
    assert torch.equal(features(joined), torch.cat([SUMS, ATTR[:1]]))
    for one in (
        copy.copy(graph),
        copy.deepcopy(graph),
        pickle.loads(pickle.dumps(graph)),
        graph.with_value(torch.ones(3)),
        graph.with_edge_attr(SUMS.clone()),
        graph.to("cpu"),
        graph.with_edge_attr(None).with_edge_attr(SUMS),
    ):
        assert torch.equal(features(one), SUMS)
        assert torch.equal(one.col, graph.col)
    assert graph.to(dtype=f64) is not graph
    assert features(graph.to(dtype=f64)).dtype is f64
    assert features(graph.to("meta")).device.type == "meta"
    assert graph.to(dtype=f32) is graph
    assert graph.with_edge_attr(None).edge_attr is None
    batch = collate_ragged([SimpleNamespace(x=torch.zeros(3, 1), adj=graph, y=0, levels=())] * 2)  # type: ignore[list-item]
    assert torch.equal(features(batch.graph), SUMS.repeat(2, 1))


def test_symmetry_of_features_is_tested_beside_that_of_weights() -> None:
    found = set()
    for seed in range(40):
        for both_ways in (False, True):
            graph = with_features(draw(seed), both_ways).graph
            dense = torch.zeros(graph.num_nodes, graph.num_nodes, 3, dtype=f64)
            dense[tuple(graph.to_edge_index()[0])] = features(graph).double()
            expected = graph.is_symmetric and torch.equal(dense, dense.transpose(0, 1))
            assert graph.has_symmetric_attr() == expected
            found.add((graph.is_symmetric, expected))
    assert found == {(True, True), (True, False), (False, False)}


def made(attr: Any = ATTR) -> RaggedGraph:
    return RaggedGraph.from_edge_index(EDGES, edge_attr=attr)


SHAPE = r"edge_attr must have shape \[E, R\] = "
KINDS = "graphs must have equally many edge features of one dtype, got "
BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: made(ATTR[:, 0]), ValueError, SHAPE + r"\[4, R\], got \(4,\)"),
    (lambda: made(ATTR[:2]), ValueError, SHAPE + r"\[4, R\], got \(2, 2\)"),
    (lambda: made([1]), TypeError, r"edge_attr must be a torch\.Tensor, got list"),
    (
        lambda: made(ATTR.to("meta")),
        ValueError,
        "edge_attr must be on the device of edge_index, cpu, got meta",
    ),
    (lambda: made(None).with_edge_attr(ATTR), ValueError, SHAPE + r"\[3, R\], got \(4, 2\)"),
    (
        lambda: RaggedGraph.collate([made(ATTR[:, :width]) for width in (1, 2)]),
        ValueError,
        KINDS + r"1 of torch\.float32, 2 of torch\.float32",
    ),
    (
        lambda: RaggedGraph.collate([made(None), made(ATTR)]),
        ValueError,
        KINDS + r"2 of torch\.float32, none",
    ),
    (
        lambda: soft_pool(torch.ones(3, 1), made(ATTR), torch.ones(3, 2)),
        ValueError,
        "adj must not have edge_attr with a dense assignment",
    ),
]


@pytest.mark.parametrize(("call", "kind", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_features_are_named(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()
