"""Poolers that score, select and pool by one call of a backend, against the functions for each step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, sparse_pool
from hierpool.nn import EdgePool, HardPooling, KMISPool, TopKPool
from hierpool.nn.edge_pooling import _scores_of_pairs
from hierpool.nn.hard_pooling import HardPoolingOutput
from hierpool.nn.projection import is_projected
from hierpool.selection import match, mis, topk
from tests.selection.graphs import drawn_batch

F = 5
POOLERS: dict[str, tuple[type[HardPooling], dict[str, Any]]] = {
    "topk": (TopKPool, {"ratio": 0.4, "multiplier": 2.0}),
    "topk of k": (TopKPool, {"k": 3, "nonlinearity": "sigmoid", "remove_self_loops": True}),
    "kmis": (KMISPool, {"remove_self_loops": False}),
    "kmis without heuristic": (KMISPool, {"heuristic": None, "hops": 2, "degree_norm": True}),
    "ec": (EdgePool, {"edge_score": "sigmoid", "add_to_edge_score": 0.25}),
    "ec of a softmax": (EdgePool, {"remove_self_loops": True, "edge_weight_norm": True}),
}


def by_steps(
    layer: Any, x: Tensor, graph: RaggedGraph, score: Tensor
) -> tuple[Tensor, RaggedGraph, Assignment]:
    """What the functions make of the scores of nodes."""
    known = score.detach()
    if isinstance(layer, TopKPool):
        how: dict[str, Any] = {"ratio": layer.ratio} if layer.k is None else {"k": layer.k}
        found = Assignment.from_kept(topk(known, graph, **how).nodes, graph)
        found = found._weighted_by_node(score * layer.multiplier)
    elif isinstance(layer, EdgePool):
        mate = match(graph, known, loops=True, seed=layer.seed)
        weight = graph.in_callers_order(_scores_of_pairs(score, mate, graph))
        found = Assignment._from_heads(mate, graph, of_pairs=True)._weighted_by_node(weight)
    else:
        heads = mis(graph, layer._priority(known, graph), hops=layer.hops)
        found = Assignment._from_heads(heads, graph)._weighted_by_node(score)
    loops: Any = "drop" if layer.remove_self_loops else "keep"
    weights: Any = "keep" if found.is_injective else "sum"
    norms = {"degree_norm": layer.degree_norm, "edge_weight_norm": layer.edge_weight_norm}
    options = {"loops": loops, "weights": weights, **norms}
    pooled = sparse_pool(x, graph, found, **options)
    assert pooled.x is not None
    return pooled.x, pooled.graph, found


def assert_same_graph(ours: RaggedGraph, expected: RaggedGraph) -> None:
    assert torch.equal(ours.rowptr, expected.rowptr)
    assert torch.equal(ours.col, expected.col)
    assert torch.equal(ours.ptr, expected.ptr)
    assert ours.is_symmetric == expected.is_symmetric
    for name in ("value", "edge_attr"):
        one, other = getattr(ours, name), getattr(expected, name)
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def made(name: str, dtype: torch.dtype, backend: str = "auto") -> HardPooling:
    torch.manual_seed(1)
    kind, options = POOLERS[name]
    return kind(F, backend=backend, **options).to(dtype)  # type: ignore[call-arg]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", POOLERS)
def test_one_call_is_what_its_steps_are(name: str, backend: str, dtype: torch.dtype) -> None:
    layer, projected = made(name, dtype, backend), 0
    for seed in range(30):
        graph, _ = drawn_batch(seed)
        x = torch.randn(graph.num_nodes, F, dtype=dtype, generator=torch.Generator().manual_seed(seed))
        x = x.requires_grad_()
        out = layer(x, graph)
        projected += is_projected(layer, type(layer), x, next(layer.parameters()))
        y, coarse, found = by_steps(layer, x, graph, out.score)
        tolerance = 1e-5 if dtype is torch.float32 else 1e-12
        torch.testing.assert_close(out.x, y, rtol=tolerance, atol=tolerance)
        assert_same_graph(out.graph, coarse)
        for field in ("rowptr", "cluster", "weight", "cluster_ptr"):
            assert torch.equal(getattr(out.so, field), getattr(found, field))
    assert projected == 30


@pytest.mark.parametrize("name", POOLERS)
def test_weights_and_features_of_edges_that_are_learned(name: str) -> None:
    layer = made(name, torch.float64)
    graph = next(g for g in (drawn_batch(seed)[0] for seed in range(100)) if g.num_edges > 20)
    x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
    results = []
    for own in (True, False):
        value = torch.linspace(0.5, 1, graph.num_edges, dtype=torch.float64).requires_grad_()
        attr = torch.linspace(-1, 1, 2 * graph.num_edges, dtype=torch.float64).view(-1, 2).requires_grad_()
        given = graph.with_value(value).with_edge_attr(attr)
        out: HardPoolingOutput = layer(x, given)
        coarse = out.graph if own else by_steps(layer, x, given, out.score)[1]  # type: ignore[arg-type]
        assert coarse.value is not None
        assert coarse.edge_attr is not None
        total = coarse.value.square().sum() + coarse.edge_attr.square().sum()
        results.append((coarse, torch.autograd.grad(total, (value, attr))))
    (ours, gradients), (expected, others) = results
    assert_same_graph(ours, expected)
    for one, other in zip(gradients, others, strict=True):
        assert torch.equal(one, other)
        assert bool(one.any())


@pytest.mark.parametrize("name", POOLERS)
def test_results_may_be_changed_in_place_before_the_backward(name: str) -> None:
    layer, x = made(name, torch.float64), torch.randn(9, F, dtype=torch.float64).requires_grad_()
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 4, 5], [1, 0, 5, 4]]), 9)
    gradients = []
    for changes in (False, True):
        out = layer(x, graph)
        tensors = (out.x, out.score, out.so.weight)
        total = sum((t * torch.arange(t.numel()).view(t.shape)).sum() for t in tensors)
        if changes:
            for t in tensors:
                t.mul_(0)
        gradients.append(torch.autograd.grad(total, x)[0])
    assert torch.equal(*gradients)
    assert bool(gradients[0].any())


@pytest.mark.parametrize("name", POOLERS)
def test_a_changed_score_changes_nothing_else(name: str) -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 4, 5], [1, 0, 5, 4]]), 9)
    x = torch.randn(9, F, dtype=torch.float64).requires_grad_()
    out, other = (made(name, torch.float64)(x, graph) for _ in range(2))
    out.score.detach().zero_()
    assert not bool(out.score.any())
    assert torch.equal(out.so.weight, other.so.weight)
    assert torch.equal(torch.autograd.grad(out.x.sum(), x)[0], torch.autograd.grad(other.x.sum(), x)[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_are_differentiable_wherever_they_are_read(mode: Any) -> None:
    x = torch.randn(3, F, dtype=torch.float64).requires_grad_()
    out = made("topk", torch.float64)(x, RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 3))
    with mode():
        out.score.sum()
    assert bool(torch.autograd.grad(out.score.square().sum(), x)[0].any())


@pytest.mark.parametrize("name", POOLERS)
@pytest.mark.parametrize("order", [None, [1, 0, 1, 0]])
def test_a_score_that_is_no_number_is_named(name: str, order: list[int] | None) -> None:
    batch = None if order is None else torch.tensor(order)
    loops = torch.arange(4).expand(2, 4) if name.startswith("ec") else torch.zeros(2, 0, dtype=torch.int64)
    graph = RaggedGraph.from_edge_index(loops, 4, batch=batch)
    x = torch.zeros(4, F)
    x[2] = torch.nan
    place = 2 if order is None or not name.startswith("ec") else 3  # of entries, in the order of the matrix
    with pytest.raises(ValueError, match=f"must not contain NaN, but element {place} is NaN"):
        made(name, torch.float32)(x, graph)
