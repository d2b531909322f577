"""Matrices whose nodes are merged into clusters, in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool import reference
from hierpool.contract import Clusters, Contracted, ContractOptions, Loops, Reduce, ranges_of


def contract(
    rowptr: Tensor, col: Tensor, value: Tensor | None, clusters: Clusters, options: ContractOptions
) -> Contracted:
    """The matrix of the clusters."""
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
            value = torch.ones(col.numel(), device=col.device)
        separate = options.loops == Loops.SEPARATE
        total, _ = reference.coalesce(
            value, slot, rowptr_out, col_out, Reduce.SUM, separate, options.symmetric
        )
    merged = index.numel() > keys.numel()
    return Contracted(rowptr_out, col_out, total, slot.to(col.dtype) if options.want_slot else None, merged)
