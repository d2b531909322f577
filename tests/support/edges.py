"""Edges of batches of graphs, a case for every code path, and the dense matrix that they define."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph


class Edges(NamedTuple):
    """Arguments of :meth:`hierpool.RaggedGraph.from_edge_index`."""

    edge_index: Tensor
    num_nodes: int
    edge_weight: Tensor | None
    batch: Tensor | None
    num_graphs: int

    def graph(self, symmetric: bool | None = None) -> RaggedGraph:
        return RaggedGraph.from_edge_index(
            self.edge_index,
            self.num_nodes,
            edge_weight=self.edge_weight,
            batch=self.batch,
            num_graphs=None if self.batch is None else self.num_graphs,
            symmetric=symmetric,
        )

    def matrix(self) -> Tensor:
        """Sum of all edges in the caller's order of nodes, float64 ``[N, N]``."""
        n, (row, col) = self.num_nodes, self.edge_index.long()
        weight = torch.ones(row.numel()) if self.edge_weight is None else self.edge_weight.detach()
        out = torch.zeros(n, n, dtype=torch.float64)
        return out.index_put_((row, col), weight.double(), accumulate=True)


@dataclass(frozen=True)
class EdgeCase:
    """How to draw edges; ``make(seed)`` draws them.

    Attributes:
        sizes: nodes of each graph.
        degree: mean number of edges per node.
        batch: ``None`` (one graph), ``"sorted"`` or ``"shuffled"``.
        order: of edges: ``"drawn"``, ``"sorted"`` by row and column, or ``"rows"``, sorted by row only.
        weights: ``"ones"`` (no weights), ``"whole"`` (small integers, whose sums are exact) or ``"uniform"``.
        isolated: nodes without edges at the end of each graph.
    """

    name: str
    sizes: tuple[int, ...] = (9, 4, 12)
    degree: float = 3.0
    batch: str | None = "sorted"
    order: str = "drawn"
    weights: str = "ones"
    symmetric: bool = False
    repeated: bool = True
    loops: bool = True
    isolated: int = 0
    index: torch.dtype = torch.int64

    def make(self, seed: int, dtype: torch.dtype = torch.float64) -> Edges:
        draw = torch.Generator().manual_seed(seed)
        blocks, first = [], 0
        for size in self.sizes:
            inner = max(size - self.isolated, 0)
            count = round(self.degree * inner) if inner else 0
            blocks.append(torch.randint(0, max(inner, 1), (2, count), generator=draw) + first)
            first += size
        edges = torch.cat(blocks, 1) if blocks else torch.zeros(2, 0, dtype=torch.int64)
        if not self.loops:
            edges = edges[:, edges[0] != edges[1]]
        if not self.repeated:
            edges = torch.unique(edges, dim=1)
        edges = edges[:, torch.randperm(edges.size(1), generator=draw)]
        weight = {
            "ones": None,
            "whole": torch.randint(1, 4, (edges.size(1),), generator=draw).to(dtype),
            "uniform": torch.rand(edges.size(1), generator=draw, dtype=torch.float64).to(dtype),
        }[self.weights]
        if self.symmetric:
            edges = torch.cat([edges, edges.flip(0)], 1)
            weight = None if weight is None else weight.repeat(2)
        return self._arrange(edges, weight, first, draw)

    def _arrange(self, edges: Tensor, weight: Tensor | None, n: int, draw: torch.Generator) -> Edges:
        graph_of = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes, dtype=int))
        if self.batch == "shuffled":
            caller = torch.randperm(n, generator=draw)  # the caller's index of each node
            edges = caller[edges]
            graph_of = torch.empty_like(graph_of).index_copy(0, caller, graph_of)
        if self.order != "drawn":
            key = edges[0] * n + (edges[1] if self.order == "sorted" else 0)
            order = torch.argsort(key, stable=True)
            edges, weight = edges[:, order], None if weight is None else weight[order]
        batch = None if self.batch is None else graph_of
        return Edges(edges.to(self.index), n, weight, batch, len(self.sizes))


_BASE = EdgeCase("base")

CASES = [
    _BASE,
    replace(_BASE, name="one-graph", sizes=(20,), batch=None),
    replace(_BASE, name="one-graph-int32", sizes=(20,), batch=None, index=torch.int32),
    replace(_BASE, name="sorted", order="sorted"),
    replace(_BASE, name="coalesced", order="sorted", repeated=False),
    replace(_BASE, name="coalesced-weighted", order="sorted", repeated=False, weights="uniform"),
    replace(_BASE, name="rows-sorted", order="rows", weights="whole"),
    replace(_BASE, name="weighted", weights="whole"),
    replace(_BASE, name="weighted-distinct", weights="uniform", repeated=False, index=torch.int32),
    replace(_BASE, name="symmetric", symmetric=True),
    replace(_BASE, name="symmetric-weighted", symmetric=True, weights="whole", order="sorted"),
    replace(_BASE, name="symmetric-distinct", symmetric=True, loops=False, repeated=False),
    replace(_BASE, name="shuffled", batch="shuffled"),
    replace(_BASE, name="shuffled-weighted", batch="shuffled", weights="whole", symmetric=True),
    replace(
        _BASE, name="shuffled-sorted", batch="shuffled", order="sorted", repeated=False, index=torch.int32
    ),
    replace(_BASE, name="no-loops", loops=False),
    replace(_BASE, name="isolated-tails", isolated=3, weights="whole"),
    replace(_BASE, name="empty-graphs", sizes=(0, 5, 0, 0, 7, 0), weights="whole"),
    replace(_BASE, name="no-edges", degree=0.0),
    replace(_BASE, name="no-edges-weighted", degree=0.0, weights="whole"),
    replace(_BASE, name="no-graphs", sizes=(), batch="sorted"),
    replace(_BASE, name="no-nodes", sizes=(0,), batch=None),
    replace(_BASE, name="one-node", sizes=(1, 1, 1)),
    replace(_BASE, name="dense-rows", sizes=(40, 3), degree=90.0, weights="whole"),
    replace(_BASE, name="many-graphs", sizes=(3, 1, 2) * 40, weights="whole", batch="shuffled"),
]


def over(seed: int, *names: str) -> pytest.MarkDecorator:
    """Parametrize ``case`` over the named cases, or all; the id has the seed."""
    chosen = [case for case in CASES if not names or case.name in names]
    return pytest.mark.parametrize("case", chosen, ids=[f"{case.name}-seed{seed}" for case in chosen])
