"""Matrices whose nodes are merged into clusters, in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool import reference
from hierpool.contract import Clusters, Contracted, ContractOptions, Loops, Reduce, ranges_of


def contract(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    clusters: Clusters,
    ptr: Tensor,
    options: ContractOptions,
) -> Contracted:
    """The matrix of the clusters, of which ``ptr``, int64 ``[B + 1]``, holds the first of each graph."""
    cluster, k = clusters.cluster.to(torch.int64), clusters.first.numel() - 1
    first, second = cluster[ranges_of(rowptr, col.numel())], cluster[col]
    kept = (first >= 0) & (second >= 0)
    loop = kept & (first == second)
    if options.loops != Loops.KEEP:
        kept = kept & ~loop
    keys, index = torch.unique((first * k + second)[kept], return_inverse=True)
    rows = torch.arange(k + 1, device=col.device)
    rowptr_out = torch.searchsorted(keys, rows * k).to(rowptr.dtype)
    col_out = (keys % max(k, 1)).to(col.dtype)
    slot = torch.full_like(first, -1).masked_scatter(kept, index)
    if options.loops == Loops.SEPARATE:
        slot = torch.where(loop, first + keys.numel(), slot)
    total = None
    if options.want_sum:
        if value is None:
            value = torch.ones(col.numel(), dtype=torch.float32, device=col.device)
        separate = options.loops == Loops.SEPARATE
        total, _ = reference.coalesce(
            value, slot, rowptr_out, col_out, Reduce.SUM, separate, options.symmetric
        )
    merged = index.numel() > keys.numel()
    return Contracted(rowptr_out, col_out, total, slot.to(col.dtype) if options.want_slot else None, merged)


def filter_edges(edge_index: Tensor, number: Tensor, want_kept: bool) -> tuple[Tensor, Tensor, int]:
    """The edges between numbered nodes, which edges these are, and the first that a node is missing of or -1."""
    wrong = _first_wrong(edge_index, number.numel())
    if wrong >= 0:
        return edge_index[:, :0], edge_index[0, :0], wrong
    ends = number[edge_index]
    kept = (ends >= 0).all(0).nonzero()[:, 0]
    return ends[:, kept], kept, -1


def merge_edges(
    edge_index: Tensor, cluster: Tensor, num_clusters: int, drop_loops: bool, want_slot: bool
) -> tuple[Tensor, Tensor, int]:
    """The different edges between clusters, the place of each edge among them or -1, and the first bad edge or -1."""
    wrong = _first_wrong(edge_index, cluster.numel())
    if wrong >= 0:
        return edge_index[:, :0], edge_index[0, :0], wrong
    source, target = cluster[edge_index]
    kept = (source != target) if drop_loops else torch.ones_like(source, dtype=torch.bool)
    keys, index = torch.unique((source * num_clusters + target)[kept], return_inverse=True)
    slot = torch.full_like(source, -1).masked_scatter(kept, index)
    edges = torch.stack([keys // max(num_clusters, 1), keys % max(num_clusters, 1)])
    return edges, slot if want_slot else slot[:0], -1


def _first_wrong(edge_index: Tensor, nodes: int) -> int:
    """The first edge with a node that does not exist, or -1."""
    missing = ((edge_index < 0) | (edge_index >= nodes)).any(0)
    return int(missing.int().argmax()) if bool(missing.any()) else -1
