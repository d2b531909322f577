"""Conversions and copies of graphs that follow their weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hierpool import RaggedGraph, spmm
from tests.graph.test_building import matrix_of
from tests.support.following import ORDERS, Edges, assert_like_fresh, change, copies

f32, f64 = torch.float32, torch.float64


def conversions() -> dict[str, Callable[[RaggedGraph], RaggedGraph]]:
    return {
        "dtype": lambda graph: graph.to(dtype=f32),
        "collate": lambda graph: RaggedGraph.collate([graph, graph]),
        "collate with ones": lambda graph: RaggedGraph.collate([graph.with_value(None), graph]),
        "both": lambda graph: RaggedGraph.collate([graph, graph]).to(dtype=f32),
    }


@pytest.mark.parametrize("way", conversions())
@pytest.mark.parametrize("order", ORDERS)
def test_converted_graphs_follow_learned_weights_and_copy_others(way: str, order: str) -> None:
    edges, convert = Edges(order), conversions()[way]
    for learned in (True, False):
        weight = edges.symmetric.clone().requires_grad_(learned)
        graph = convert(edges.graph(weight))
        old = matrix_of(graph)
        change(weight, edges.directed)
        expected = matrix_of(convert(edges.graph(weight))) if learned else old
        assert torch.equal(matrix_of(graph), expected)
        assert graph.is_symmetric == torch.equal(expected, expected.T)
        if learned:
            x = torch.rand(graph.num_nodes, 2, dtype=f64)
            (grad,) = torch.autograd.grad(spmm(graph, x).sum(), weight)
            (want,) = torch.autograd.grad(spmm(convert(edges.graph(weight)), x).sum(), weight)
            assert torch.equal(grad, want)


@pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", copies())
def test_copies_follow_the_copy_of_the_weights(way: str, order: str, learned: bool) -> None:
    edges = Edges(order)
    weight = edges.symmetric.clone().requires_grad_(learned)
    graph = edges.graph(weight)
    graph.reversed_entries()
    both = {"weight": weight, "graph": graph}
    other = copies()[way](both)
    assert_like_fresh(other["graph"], edges, other["weight"])
    assert other["graph"].reversed_entries()[0] is not graph.reversed_entries()[0]
    change(other["weight"], edges.directed)
    assert_like_fresh(other["graph"], edges, other["weight"])
    assert_like_fresh(graph, edges, weight)
    assert other["graph"].value.requires_grad == learned


@pytest.mark.parametrize("way", copies())
def test_copies_of_graphs_that_follow_others(way: str) -> None:
    edges = Edges("drawn")
    weight = edges.symmetric.clone().requires_grad_()
    for name, convert in conversions().items():
        graph = convert(edges.graph(weight))
        other = copies()[way](graph)
        assert torch.equal(matrix_of(other), matrix_of(graph)), name
        assert other.is_symmetric == graph.is_symmetric
        assert other.value.requires_grad
