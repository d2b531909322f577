"""Assignments of each node to at most one cluster in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Assigned, Clusters, index_dtype, ranges_of


def by_clusters(
    cluster: Tensor, ptr: Tensor, order: Tensor | None, counts: Tensor | None, most: int
) -> Assigned | None:
    """An assignment by the cluster of each of the caller's nodes in its graph, int64 ``[N]``; -1: none.

    Args:
        cluster: the clusters.
        ptr: first row of each graph, int64 ``[B + 1]``.
        order: the caller's node of each row, int64 ``[N]``; ``None``: the same.
        counts: clusters of each graph, int64 ``[B]``; ``None``: one more than the largest in ``cluster``.
        most: clusters of all graphs that are taken without ``counts``.

    Returns:
        ``None`` if a cluster does not exist, or there are too many.
    """
    own, graph_of = cluster if order is None else cluster[order], ranges_of(ptr, cluster.numel())
    stated = counts is not None
    if counts is None:
        counts = own.new_zeros(ptr.numel() - 1).scatter_reduce_(0, graph_of, own + 1, "amax")
    cluster_ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    wrong = ((own < -1) | (own >= counts[graph_of])).any()
    total, is_wrong = torch.stack([cluster_ptr[-1], wrong.to(torch.int64)]).tolist()
    if is_wrong or not (stated or total <= most):
        return None
    return _assigned(torch.where(own < 0, -1, own + cluster_ptr[:-1][graph_of]), cluster_ptr, total)


def by_heads(head: Tensor, ptr: Tensor, order: Tensor | None, pairs: bool) -> Assigned:
    """An assignment by the head of each of the caller's nodes, a node of the same graph that is its own head.

    Clusters are numbered in the order of the rows of their heads. With ``pairs``, ``head`` has the other node of the
    pair of each node, or -1; the head of a pair is its smaller node.
    """
    node = torch.arange(head.numel(), device=head.device)
    if pairs:
        head = torch.where(head < 0, node, torch.minimum(head, node))
    row = node if order is None else order
    is_head = head[row] == row
    number = torch.cat([ptr[:1], is_head.cumsum(0)])  # of heads before each row
    cluster = torch.empty_like(head).index_copy_(0, row, number[:-1])
    return _assigned(cluster[head[row]], number[ptr], int(number[-1]))


def by_kept(
    index: Tensor, ptr: Tensor, order: Tensor | None, num_nodes: int
) -> tuple[Assigned, Tensor] | None:
    """An assignment of each of the caller's nodes ``index`` to a cluster of its own.

    Returns:
        It, and the place of each cluster in ``index``; ``None`` if a node does not exist or is there twice.
    """
    if index.numel() and bool(((index < 0) | (index >= num_nodes)).any()):
        return None
    row = index
    if order is not None:
        numbers = torch.arange(num_nodes, device=index.device)
        row = torch.empty_like(order).index_copy_(0, order, numbers)[index]
    graph_of, position = torch.sort(ranges_of(ptr, num_nodes)[row], stable=True)
    cluster_ptr = torch.searchsorted(graph_of, torch.arange(ptr.numel(), device=index.device))
    of_row = index.new_full((num_nodes,), -1)
    of_row.index_copy_(0, row[position], torch.arange(index.numel(), device=index.device))
    found = _assigned(of_row, cluster_ptr, index.numel())
    return (found, position) if found.cluster.numel() == index.numel() else None


def _assigned(of_row: Tensor, cluster_ptr: Tensor, total: int) -> Assigned:
    """The assignment by the cluster of each row, counted over all graphs."""
    n = of_row.numel()
    dtype = index_dtype(max(n, total), n)
    kept = of_row >= 0
    rowptr = torch.cat([cluster_ptr.new_zeros(1), kept.cumsum(0)]).to(dtype)
    row = kept.nonzero()[:, 0]
    cluster, entry = torch.sort(of_row[row], stable=True)
    first = torch.searchsorted(cluster, torch.arange(total + 1, device=of_row.device))
    of_row = of_row.to(dtype)
    clusters = Clusters(of_row, first.to(dtype), row[entry].to(dtype))
    return Assigned(cluster_ptr, rowptr, of_row[row], clusters, entry.to(dtype))
