"""The places of the entries of S^T A S, by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Csr, Loops


def product(adj: Csr, s: Csr, loops: Loops, most: int) -> Csr | int:
    """The structure of the product, or the number of its entries if there are more than ``most``.

    Args:
        adj: A; its values are not read.
        s: S with its transpose; indices have the dtype of those of A.
        loops: what becomes of entries on the diagonal.
        most: entries that are allowed.

    Returns:
        Its indices have the dtype of those of A, or are int64 if int32 cannot hold the entries.
    """
    assert s.rowptr_t is not None
    assert s.col_t is not None
    structure = [adj.rowptr, adj.col, s.rowptr, s.col, s.rowptr_t, s.col_t]
    held = 2**31 - 1 if adj.col.dtype == torch.int32 else most
    rowptr, col = _places(structure, loops, min(most, held))
    entries = int(rowptr[-1])
    if entries > most:
        return entries
    if entries > held:
        rowptr, col = _places([t.to(torch.int64) for t in structure], loops, most)
    return Csr(None, rowptr.to(col.dtype), col)


def _places(structure: list[Tensor], loops: Loops, most: int) -> tuple[Tensor, Tensor]:
    """Row pointers, int64, and columns, without elements if there are more than ``most``."""
    rowptr, col = torch.ops.hierpool_native.triple_product_places.default(*structure, loops, most)
    return rowptr, col
