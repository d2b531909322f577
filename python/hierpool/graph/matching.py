"""Clusters by matching along heavy edges, computed once for a graph instead of learned."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph


class _Level(NamedTuple):
    """A coarsened batch: edges between clusters in both directions, without self-loops."""

    row: Tensor  # [E]
    col: Tensor  # [E]
    weight: Tensor  # [E], float64
    graph: Tensor  # [clusters], ascending: graph of each cluster


def heavy_edge_clusters(graph: RaggedGraph, k: int) -> Tensor:
    r"""Cluster the nodes of each graph by matching along heavy edges, level by level, as Graclus does.

    Edges are visited by descending :math:`a_{ij} (1/d_i + 1/d_j)`. The ends of an edge become one cluster if neither is
    matched. This repeats on the coarsened graph until ``k`` clusters are left. If no edge joins the remaining clusters,
    the smallest are merged. Ties go to the nodes with the smallest indices, so that the clusters of a graph do not
    depend on the rest of the batch.

    With :meth:`hierpool.nn.SelectOutput.from_clusters` they are the fixed assignment of DiffPool-DET.

    Args:
        graph: weights must not be negative; for a directed graph, :math:`A + A^T` is used.
        k: :math:`K`, clusters of each graph; a graph with fewer nodes has one cluster per node.

    Returns:
        int64 ``[N]``: cluster of each node in its own graph, from 0, in the caller's order. Synchronises the device.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`.
        ValueError: ``k`` is less than 1, or a weight is negative or NaN.

    Source: the objective of Dhillon, Guan, Kulis, "Weighted Graph Cuts without Eigenvectors", PAMI 29, 2007, with
    matchings of locally heaviest edges (Preis, STACS 1999) instead of a random order of nodes.
    """
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph, got {type(graph).__name__}")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if graph.value is not None and not bool((graph.value >= 0).all()):
        raise ValueError("graph must have weights that are not negative")
    weight: Any = graph.row.new_ones(graph.num_edges) if graph.value is None else graph.value.detach()
    row, col = graph.row.long(), graph.col.long()
    level = _merge(
        torch.cat([row, col]), torch.cat([col, row]), weight.double().repeat(2), graph.graph_of_node()
    )
    cluster = torch.arange(graph.num_nodes, device=graph.device)
    while True:
        merged = _match(level, k, graph.num_graphs)
        if merged is None:
            return graph.in_callers_order(_limit(level, cluster, k, graph.num_graphs))
        cluster = merged[cluster]
        level = _contract(level, merged)


def _merge(row: Tensor, col: Tensor, weight: Tensor, graph: Tensor) -> _Level:
    """Sum duplicate edges; drop self-loops and edges of weight 0."""
    n = graph.numel()
    pair, index = torch.unique(row * n + col, return_inverse=True)
    total = weight.new_zeros(pair.numel()).index_add(0, index, weight)
    row, col = pair // max(n, 1), pair % max(n, 1)
    kept = (row != col) & (total > 0)
    return _Level(row[kept], col[kept], total[kept], graph)


def _contract(level: _Level, merged: Tensor) -> _Level:
    """The next level, in which cluster ``i`` of this one is part of cluster ``merged[i]``."""
    graph = merged.new_empty(int(merged.max()) + 1).index_copy(0, merged, level.graph)
    return _merge(merged[level.row], merged[level.col], level.weight, graph)


def _priority(level: _Level) -> Tensor:
    """The rank of each edge in the order of matching, equal for both of its directions."""
    n = level.graph.numel()
    share = 1 / level.weight.new_zeros(n).index_add(0, level.row, level.weight)
    low, high = torch.minimum(level.row, level.col), torch.maximum(level.row, level.col)
    score = level.weight * (share[low] + share[high])
    order = torch.argsort(low * n + high, stable=True)
    order = order[torch.argsort(score[order], descending=True, stable=True)]
    pair = (low * n + high)[order]
    new = torch.ones_like(pair)
    new[1:] = (pair[1:] != pair[:-1]).long()
    return torch.empty_like(order).index_copy(0, order, new.cumsum(0) - 1)


def _match(level: _Level, k: int, graphs: int) -> Tensor | None:
    """The cluster of the next level that each cluster becomes part of; ``None`` if no edge is left to match."""
    n = level.graph.numel()
    excess = torch.bincount(level.graph, minlength=graphs) - k
    active = excess[level.graph[level.row]] > 0
    row, col, priority = level.row[active], level.col[active], _priority(level)[active]
    partner = torch.arange(n, device=level.graph.device)
    pairs = []
    while row.numel():
        best = torch.full((n,), int(priority.max()) + 1, device=row.device).scatter_reduce(
            0, row, priority, "amin"
        )
        chosen = (priority == best[row]) & (priority == best[col]) & (row < col)
        pairs.append(torch.stack([row[chosen], col[chosen], priority[chosen]]))
        matched = torch.zeros(n, dtype=torch.bool, device=row.device)
        matched[row[chosen]] = matched[col[chosen]] = True
        free = ~matched[row] & ~matched[col]
        row, col, priority = row[free], col[free], priority[free]
    if not pairs:
        return None
    low, high, priority = torch.cat(pairs, 1)
    order = priority.argsort()
    low, high = low[order], high[order]
    kept = _rank(level.graph[low]) < excess[level.graph[low]]  # at most as many merges as excess clusters
    partner[high[kept]] = low[kept]
    return torch.unique(partner, return_inverse=True)[1]


def _rank(group: Tensor) -> Tensor:
    """The number of earlier elements of the same group, for each element."""
    order = torch.argsort(group, stable=True)
    ordered = group[order]
    first = torch.searchsorted(ordered, ordered)
    rank = torch.arange(group.numel(), device=group.device) - first
    return torch.empty_like(order).index_copy(0, order, rank)


def _limit(level: _Level, cluster: Tensor, k: int, graphs: int) -> Tensor:
    """The cluster of each node in its own graph; of more than ``k`` clusters, small ones are merged."""
    sizes = torch.bincount(cluster, minlength=level.graph.numel())
    by_size = torch.argsort(sizes, descending=True, stable=True)
    rank = torch.empty_like(by_size).index_copy(0, by_size, _rank(level.graph[by_size]))
    folded = torch.where(rank // k % 2 == 1, k - 1 - rank % k, rank % k)  # 0 .. k - 1, k - 1 .. 0, ...
    counts = torch.bincount(level.graph, minlength=graphs)
    return torch.where(counts[level.graph] > k, folded, _rank(level.graph))[cluster]
