"""The places of the entries of S^T A S, in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Csr, Loops, index_dtype, ranges_of
from hierpool.reference.triple_product import concatenated_ranges

_TERMS = 2**24  # pairs of entries of S that are looked at at once


def product(adj: Csr, s: Csr, loops: Loops, most: int) -> Csr | int:
    """The structure of the product, or the number of its entries if there are more than ``most``."""
    assert s.rowptr_t is not None
    k, device = s.rowptr_t.numel() - 1, adj.col.device
    found, count = [], 0
    for begin, end in _parts(adj, s):
        keys = _keys(adj, s, begin, end)
        if loops != Loops.KEEP:
            keys = keys[keys // k != keys % k]
        keys = keys.unique()
        count += keys.numel()
        if count <= most:
            found.append(keys)
    if count > most:
        return count
    keys = torch.cat(found) if found else torch.zeros(0, dtype=torch.int64, device=device)
    dtype = torch.promote_types(adj.col.dtype, index_dtype(0, count))
    rowptr = torch.searchsorted(keys, torch.arange(k + 1, device=device) * k)
    return Csr(None, rowptr.to(dtype), (keys % max(k, 1)).to(dtype))


def _parts(adj: Csr, s: Csr) -> list[tuple[int, int]]:
    """Ranges of clusters with at most ``_TERMS`` terms, or of one cluster."""
    assert s.rowptr_t is not None
    assert s.col_t is not None
    row = ranges_of(adj.rowptr, adj.col.numel()).long()
    of_node = torch.zeros(adj.rowptr.numel() - 1, dtype=torch.int64, device=row.device)
    of_node = of_node.index_add(0, row, s.rowptr.diff().long()[adj.col])
    before = (
        torch.cat([of_node[:1] * 0, of_node[s.col_t].cumsum(0)]) if of_node.numel() else of_node.new_zeros(1)
    )
    before = before[s.rowptr_t]
    parts, begin, k = [], 0, before.numel() - 1
    while begin < k:
        limit = before[begin] + _TERMS
        end = max(int(torch.searchsorted(before, limit, right=True)) - 1, begin + 1)
        parts.append((begin, end))
        begin = end
    return parts


def _keys(adj: Csr, s: Csr, begin: int, end: int) -> Tensor:
    """A number for each term of the rows of these clusters, in the order of rows and columns."""
    assert s.rowptr_t is not None
    assert s.col_t is not None
    k, bounds = s.rowptr_t.numel() - 1, s.rowptr_t[begin : end + 1].long()
    node = s.col_t[bounds[0] : bounds[-1]].long()
    cluster = torch.repeat_interleave(torch.arange(begin, end, device=node.device), bounds.diff())
    member, entry = concatenated_ranges(adj.rowptr[node].long(), adj.rowptr.diff()[node].long())
    neighbour = adj.col[entry]
    step, place = concatenated_ranges(s.rowptr[neighbour].long(), s.rowptr.diff()[neighbour].long())
    return cluster[member[step]] * k + s.col[place]
