"""Drawn batches of graphs with assignments, and their dense matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph

f64 = torch.float64


class Drawn(NamedTuple):
    """A batch of graphs and an assignment."""

    graph: RaggedGraph
    s: Assignment
    a: Tensor  # [N, N] float64, in the caller's order


def draw(seed: int, dtype: torch.dtype = f64, *, kind: str = "any", symmetric: bool | None = None) -> Drawn:
    """Graphs of 0 to 9 nodes with repeated edges, self-loops and isolated nodes; the batch may be interleaved.

    ``kind`` of the assignment: ``"clusters"``, ``"kept"``, ``"soft"``, or any of them that is hard.
    """
    random = torch.Generator().manual_seed(seed)

    def upto(n: int, *shape: int) -> Tensor:
        return torch.randint(0, n, shape, generator=random)

    sizes = upto(10, int(upto(5, 1)))
    n, b = int(sizes.sum()), sizes.numel()
    batch = torch.repeat_interleave(sizes)
    if seed % 3 == 0:
        batch = batch[torch.randperm(n, generator=random)]
    ends = []
    for g in range(b):
        nodes = (batch == g).nonzero()[:, 0]
        live = nodes[: max(nodes.numel() - 1, 0)]
        count = 0 if seed % 7 == 0 else 3 * live.numel()
        if count:
            ends.append(live[upto(live.numel(), 2, count)])
    edges = torch.cat(ends, 1) if ends else torch.zeros(2, 0, dtype=torch.int64)
    weight = None if seed % 2 else torch.randn(edges.size(1), generator=random, dtype=f64).to(dtype)
    if symmetric if symmetric is not None else seed % 5 < 3:
        edges = torch.cat([edges, edges.flip(0)], 1)
        weight = None if weight is None else weight.repeat(2)
    graph = RaggedGraph.from_edge_index(edges, n, edge_weight=weight, batch=batch, num_graphs=b)
    a = torch.zeros(n, n, dtype=f64)
    index, value = graph.to_edge_index()
    a[index[0], index[1]] = torch.ones(graph.num_edges, dtype=f64) if value is None else value.double()
    return Drawn(graph, assign(graph, random, dtype, seed, kind), a)


def assign(
    graph: RaggedGraph, random: torch.Generator, dtype: torch.dtype, seed: int, kind: str
) -> Assignment:
    """An assignment of some of the nodes, with weights for one seed of two."""
    n = graph.num_nodes
    if kind == "any":
        kind = "kept" if seed % 4 == 1 else "clusters"
    if kind == "soft":
        s = torch.rand(n, 4, generator=random, dtype=f64).to(dtype)
        return Assignment.from_dense(s, graph, 2, 0.3)
    weight = torch.randn(n, generator=random, dtype=f64).to(dtype) if seed % 4 < 2 else None
    if kind == "kept":
        index = torch.randperm(n, generator=random)[: (2 * n + 2) // 3]
        index = index[torch.argsort(graph.batch[index], stable=True)]
        return Assignment.from_kept(index, graph, None if weight is None else weight[: index.numel()])
    low = -1 if seed % 11 else 0
    cluster = torch.randint(low, 3, (n,), generator=random)
    if seed % 13 == 0:
        cluster[:] = -1
    return Assignment.from_clusters(cluster, graph, weight)


def with_features(drawn: Drawn, both_ways: bool = False, width: int = 3, dtype: torch.dtype = f64) -> Drawn:
    """The same graphs with features of edges, with ``both_ways`` equal for both directions of an edge."""
    random = torch.Generator().manual_seed(5)
    row, col = drawn.graph.to_edge_index()[0]
    n = drawn.graph.num_nodes
    dense = torch.randn(n, n, width, generator=random, dtype=f64)
    dense = dense + dense.transpose(0, 1) if both_ways else dense
    return drawn._replace(graph=drawn.graph.with_edge_attr(dense[row, col].to(dtype)))
