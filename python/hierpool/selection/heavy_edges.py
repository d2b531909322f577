"""Clusters by matching along heavy edges, computed once for a graph instead of learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool.contract import Clusters, ContractOptions, Loops, index_dtype, ranges_of
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.values import ones_or_values
from hierpool.selection import _shared
from hierpool.selection.matching import match

_STALL = 16
"""A level of a graph stalls if less than one pair is matched for this many nodes."""


def heavy_edge_clusters(graph: RaggedGraph, k: int) -> Tensor:
    r"""Cluster the nodes of each graph by matching along heavy edges, level by level, as Graclus does.

    Edges are visited by descending :math:`a_{ij} (1/d_i + 1/d_j)`, equal ones as in :func:`hierpool.selection.match`.
    The ends of an edge become one cluster if neither is matched. This repeats on the coarsened graph until ``k``
    clusters are left. Where few nodes can be matched, as around a hub, the others join the clusters of their best
    neighbours. If no edge joins the remaining clusters, the smallest are merged. The clusters of a graph do not depend
    on the rest of the batch.

    With :meth:`hierpool.nn.SelectOutput.from_clusters` they are the fixed assignment of DiffPool-DET.

    Args:
        graph: weights must not be negative; for a directed graph, :math:`A + A^T` is used.
        k: :math:`K`, clusters of each graph; a graph with fewer nodes has one cluster per node.

    Returns:
        int64 ``[N]``: cluster of each node in its own graph, from 0, in the caller's order. Synchronises the device.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, or ``k`` is no int.
        ValueError: ``k`` is less than 1, or a weight is negative or NaN.

    Source: the objective of Dhillon, Guan, Kulis, "Weighted Graph Cuts without Eigenvectors", PAMI 29, 2007, with
    matchings of locally heaviest edges (Preis, STACS 1999) instead of a random order of nodes.
    """
    _shared.check_graph(graph)
    k = _shared.check_count("k", k)
    if graph.value is not None and not bool((graph.value >= 0).all()):
        raise ValueError("graph must have weights that are not negative")
    level = _undirected(graph)
    cluster = torch.arange(graph.num_nodes, device=graph.device)
    while True:
        merged = _merged(level, k)
        if merged is None:
            return graph.in_callers_order(_limit(level, cluster, k))
        cluster = merged[cluster]
        level = _contracted(level, merged)


def _undirected(graph: RaggedGraph) -> RaggedGraph:
    """:math:`A + A^T` in float64, or :math:`A` if it is symmetric, without self-loops."""
    if graph.is_symmetric:
        weight = ones_or_values(graph, torch.float32).detach()
        graph = RaggedGraph(graph.rowptr, graph.col, weight.double(), graph.ptr, None, True)
    else:
        graph = _shared.sum_of_directions(graph)
    return _contracted(graph, torch.arange(graph.num_nodes, device=graph.device), is_injective=True)


def _contracted(level: RaggedGraph, merged: Tensor, is_injective: bool = False) -> RaggedGraph:
    """The next level, in which cluster ``i`` of this one is part of cluster ``merged[i]``."""
    number = torch.cat([merged.new_zeros(1), merged.cummax(0).values + 1])  # of clusters of the first nodes
    ptr = number[level.ptr]
    own = merged - ptr[:-1][level.graph_of_node()]
    clusters = Clusters(*(t.to(level.col.dtype) for t in Assignment.from_clusters(own, level).clusters()))
    options = ContractOptions(Loops.DROP, is_injective, True, True, False)
    module: Any = backends.module("graph_contract", level.device.type)
    found = module.contract(level.rowptr, level.col, level.value, clusters, ptr, options)
    dtype = index_dtype(int(ptr[-1]), found.col.numel())
    return RaggedGraph(found.rowptr.to(dtype), found.col.to(dtype), found.value, ptr, None, True)


def _merged(level: RaggedGraph, k: int) -> Tensor | None:
    """The cluster of the next level that each cluster becomes part of; ``None`` if no edge is left to match."""
    n, excess = level.num_nodes, level.ptr.diff() - k
    row, col, graph = level.row.long(), level.col.long(), level.graph_of_node()
    share = 1 / level.degree
    assert level.value is not None
    usable = (excess[graph[row]] > 0) & (level.value > 0)
    score = torch.where(usable, level.value * (share[row] + share[col]), -torch.inf)
    mate = match(level.with_value(score, symmetric=True))
    chosen = (mate[row] == col) & (row < col)
    low, high = row[chosen], col[chosen]
    if not low.numel():
        return None
    pairs = torch.bincount(graph[low], minlength=level.num_graphs)
    ptr = torch.cat([pairs.new_zeros(1), pairs.cumsum(0)])
    counts = torch.minimum(pairs, excess.clamp(min=0))  # at most as many merges as excess clusters
    best = _first(score[chosen], ptr, counts)
    first = torch.arange(n, device=level.device).index_copy(0, high[best], low[best])
    left = excess.clamp(min=0) - pairs
    stalled = (pairs * _STALL < level.ptr.diff()) & (left > 0)
    if bool(stalled.any()):
        first = _joined(level, first, score, (mate < 0) & stalled[graph], left)
    is_first = first == torch.arange(n, device=level.device)
    return (is_first.cumsum(0) - 1)[first]


def _joined(level: RaggedGraph, first: Tensor, score: Tensor, loose: Tensor, left: Tensor) -> Tensor:
    """``first``, with at most ``left[b]`` of the ``loose`` nodes at their best neighbours, all of which are matched."""
    n, row, col = level.num_nodes, level.row.long(), level.col.long()
    best = score.new_full((n,), -torch.inf).scatter_reduce(0, row, score, "amax")
    loose = loose & (best > -torch.inf)
    goes = loose[row] & (score == best[row])
    target = torch.full_like(first, n).scatter_reduce(0, row[goes], col[goes], "amin")
    nodes = loose.nonzero()[:, 0]
    count = torch.bincount(level.graph_of_node()[nodes], minlength=level.num_graphs)
    ptr = torch.cat([count.new_zeros(1), count.cumsum(0)])
    joining = nodes[_first(best[nodes], ptr, torch.minimum(count, left.clamp(min=0)))]
    return first.index_copy(0, joining, first[target[joining]])


def _first(score: Tensor, ptr: Tensor, counts: Tensor) -> Tensor:
    """The first ``counts[b]`` elements of each group by descending score."""
    best, _, _ = _shared.backend_of(score).topk(score, ptr, None, 1, 1, _shared.LARGEST)
    group = ranges_of(ptr, score.numel())
    place = torch.arange(score.numel(), device=score.device) - ptr[group]
    return best[place < counts[group]]


def _rank(group: Tensor) -> Tensor:
    """The number of earlier elements of the same group, for each element."""
    order = torch.argsort(group, stable=True)
    ordered = group[order]
    first = torch.searchsorted(ordered, ordered)
    rank = torch.arange(group.numel(), device=group.device) - first
    return torch.empty_like(order).index_copy(0, order, rank)


def _limit(level: RaggedGraph, cluster: Tensor, k: int) -> Tensor:
    """The cluster of each node in its own graph; of more than ``k`` clusters, small ones are merged."""
    graph = ranges_of(level.ptr, level.num_nodes)
    sizes = torch.bincount(cluster, minlength=level.num_nodes)
    by_size = torch.argsort(sizes, descending=True, stable=True)
    rank = torch.empty_like(by_size).index_copy(0, by_size, _rank(graph[by_size]))
    folded = torch.where(rank // k % 2 == 1, k - 1 - rank % k, rank % k)  # 0 .. k - 1, k - 1 .. 0, ...
    return torch.where(level.ptr.diff()[graph] > k, folded, _rank(graph))[cluster]
