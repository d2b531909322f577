"""Clusterings that are computed once for a graph, not learned."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph


class _Level(NamedTuple):
    """A coarsened batch: undirected edges between clusters, each in both directions, without loops."""

    row: Tensor  # [E]
    col: Tensor  # [E]
    weight: Tensor  # [E], float64
    graph: Tensor  # [clusters]: ascending


def heavy_edge_clusters(graph: RaggedGraph, k: int) -> Tensor:
    r"""Clusters of the nodes of each graph by matching along heavy edges, level by level, as Graclus does.

    Of the two ends of an edge neither of which is matched, those with the largest :math:`a_{ij} (1/d_i + 1/d_j)` become
    one cluster; then the next; on the coarsened graph again, until ``k`` clusters are left. Clusters that no edge joins
    are put together, the smallest first, if there are still too many. Ties go to the nodes that come first: the same
    graph always gets the same clusters, whatever else is in the batch.

    With :meth:`hierpool.nn.SelectOutput.from_clusters` it is the fixed assignment of DiffPool-DET.

    Args:
        graph: weights that are not negative; a directed graph counts :math:`A + A^T`.
        k: :math:`K`, clusters of each graph; a graph of fewer nodes has one for each node.

    Returns:
        int64 ``[N]``: cluster of each node in its own graph, from 0 on, in the caller's order. It waits for the device.

    Raises:
        TypeError: ``graph`` is no :class:`hierpool.RaggedGraph`.
        ValueError: ``k`` below 1, or a weight that is negative or NaN.

    Source: the objective of Dhillon, Guan, Kulis, "Weighted Graph Cuts without Eigenvectors", PAMI 29, 2007, with
    matchings of locally heaviest edges (Preis, STACS 1999) in place of a random order of nodes.
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
        number = _matching(level, k, graph.num_graphs)
        if number is None:
            break
        cluster = number[cluster]
        level = _contract(level, number)
    cluster = _folded(level, cluster, k, graph.num_graphs)
    return graph.in_callers_order(cluster)


def _merge(row: Tensor, col: Tensor, weight: Tensor, graph: Tensor) -> _Level:
    """Edges with their duplicates summed, without loops and edges of weight 0."""
    n = graph.numel()
    pair, place = torch.unique(row * n + col, return_inverse=True)
    total = torch.zeros(pair.numel(), dtype=torch.float64, device=row.device).index_add(0, place, weight)
    row, col = pair // max(n, 1), pair % max(n, 1)
    kept = (row != col) & (total > 0)
    return _Level(row[kept], col[kept], total[kept], graph)


def _contract(level: _Level, number: Tensor) -> _Level:
    """The level of the clusters that its own become, ``number`` of each."""
    graph = torch.empty(int(number.max()) + 1, dtype=torch.int64, device=number.device)
    graph = graph.index_copy(0, number, level.graph)
    return _merge(number[level.row], number[level.col], level.weight, graph)


def _priority(level: _Level) -> Tensor:
    """The place of each edge in the order of matching, the same for both of its directions."""
    n = level.graph.numel()
    degree = torch.zeros(n, dtype=torch.float64, device=level.row.device).index_add(
        0, level.row, level.weight
    )
    share = 1 / degree
    low, high = torch.minimum(level.row, level.col), torch.maximum(level.row, level.col)
    score = level.weight * (share[low] + share[high])
    order = torch.argsort(low * n + high, stable=True)
    order = order[torch.argsort(score[order], descending=True, stable=True)]
    pair = (low * n + high)[order]
    new = torch.ones_like(pair)
    new[1:] = (pair[1:] != pair[:-1]).long()
    return torch.empty_like(order).index_copy(0, order, new.cumsum(0) - 1)


def _matching(level: _Level, k: int, graphs: int) -> Tensor | None:
    """The new number of each cluster after a matching; ``None`` if nothing is left to match."""
    n = level.graph.numel()
    excess = torch.bincount(level.graph, minlength=graphs) - k
    live = excess[level.graph[level.row]] > 0
    row, col, priority = level.row[live], level.col[live], _priority(level)[live]
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
    kept = _rank(level.graph[low]) < excess[level.graph[low]]  # no more than there are clusters too many
    partner[high[kept]] = low[kept]
    return torch.unique(partner, return_inverse=True)[1]


def _rank(group: Tensor) -> Tensor:
    """How many elements of the same group come before each element."""
    order = torch.argsort(group, stable=True)
    ordered = group[order]
    first = torch.searchsorted(ordered, ordered)
    places = torch.arange(group.numel(), device=group.device) - first
    return torch.empty_like(order).index_copy(0, order, places)


def _folded(level: _Level, cluster: Tensor, k: int, graphs: int) -> Tensor:
    """Numbers of the clusters in their graphs, with those beyond ``k`` in others, the smallest in the smallest."""
    sizes = torch.bincount(cluster, minlength=level.graph.numel())
    by_size = torch.argsort(sizes, descending=True, stable=True)
    rank = torch.empty_like(by_size).index_copy(0, by_size, _rank(level.graph[by_size]))
    turn = torch.where(rank // k % 2 == 1, k - 1 - rank % k, rank % k)  # there and back
    counts = torch.bincount(level.graph, minlength=graphs)
    number = torch.where(counts[level.graph] > k, turn, _rank(level.graph))
    return number[cluster]
