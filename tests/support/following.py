"""Graphs whose weights change, and the fresh graphs that they are to equal."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import RaggedGraph, spmm
from tests.graph.test_building import matrix_of

f64 = torch.float64
SIZES = (6, 1, 9)
N = sum(SIZES)
BATCH = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
ORDERS = ("sorted", "drawn", "repeated", "mixed")


class Edges:
    """The edges of undirected graphs, and their weights, symmetric or not."""

    def __init__(self, order: str) -> None:
        draw = torch.Generator().manual_seed(3)
        n = torch.arange(N)
        linked = (torch.rand(N, N, generator=draw) < 0.5) & (BATCH[:, None] == BATCH)
        linked = (linked | linked.T) & (n[:, None] != n)
        edges = torch.stack(linked.nonzero(as_tuple=True))
        shuffled = edges[:, torch.randperm(edges.size(1), generator=draw)]
        self.edge_index = {"sorted": edges, "repeated": torch.cat([shuffled, edges], 1)}.get(order, shuffled)
        self.batch = BATCH
        if order == "mixed":  # nodes that are not sorted by graph
            place = torch.randperm(N, generator=draw)
            self.edge_index = place[self.edge_index]
            self.batch = torch.empty_like(BATCH).index_copy(0, place, BATCH)
        low, high = self.edge_index.sort(0).values
        self.symmetric = 0.5 + ((3 * low + 5 * high) % 7).double()
        self.directed = 0.5 + ((3 * self.edge_index[0] + 4 * self.edge_index[1]) % 7).double()

    def graph(self, weight: Tensor, **options: Any) -> RaggedGraph:
        return RaggedGraph.from_edge_index(
            self.edge_index, N, edge_weight=weight, batch=self.batch, num_graphs=len(SIZES), **options
        )


def change(weight: Tensor, to: Tensor) -> None:
    with torch.no_grad():
        weight.copy_(to)


def assert_like_fresh(graph: RaggedGraph, edges: Edges, weight: Tensor) -> None:
    """Everything that a graph says of its weights agrees, and is what a fresh graph says."""
    fresh = edges.graph(weight.detach().clone())
    exact = torch.zeros(N, N, dtype=f64).index_put_(tuple(edges.edge_index), weight.detach().double(), True)
    assert torch.equal(matrix_of(graph), exact)
    assert graph.is_symmetric == fresh.is_symmetric == torch.equal(exact, exact.T)
    assert torch.equal(graph.degree, fresh.degree)
    x = torch.eye(N, dtype=f64)
    assert torch.equal(spmm(graph, x), exact)
    assert torch.equal(spmm(graph, x, transpose=True), exact.T)
    turned = RaggedGraph(*graph.transposed(), graph.ptr, graph.order)
    assert torch.equal(matrix_of(turned), exact.T)


def assert_equal(got: list[Tensor | None], expected: list[Tensor | None]) -> None:
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def copies() -> dict[str, Callable[[Any], Any]]:
    """Ways to copy an object, with what it shares."""

    def through_torch(one: Any) -> Any:
        file = io.BytesIO()
        torch.save(one, file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    return {
        "deepcopy": copy.deepcopy,
        "pickle": lambda one: pickle.loads(pickle.dumps(one)),
        "torch": through_torch,
    }
