"""S^T A S of sparse matrices, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Csr, Loops, accumulation_dtype, ranges_of
from hierpool.reference.coalesce import mirrored


def triple_product(
    value: Tensor | None,
    weight: Tensor,
    rowptr: Tensor,
    col: Tensor,
    s: Csr,
    product: Csr,
    loops: Loops = Loops.KEEP,
    symmetric: bool = False,
) -> Tensor:
    """The values of the entries of :math:`S^T A S`, differentiable any number of times by autograd.

    It makes arrays with an element for every pair of entries of S that an entry of A joins.

    Args:
        value: of the entries of A, ``[E]``; ``None``: 1.
        weight: of the entries of S, ``[M]``.
        rowptr: first entry of each row of A, ``[N + 1]``.
        col: column of each entry of A, ``[E]``.
        s: S, of whose structure the transpose is not read.
        product: the structure of the result; terms that have no place in it are ignored.
        loops: what becomes of terms on the diagonal.
        symmetric: whether A equals its transpose: the result does so bit for bit.

    Returns:
        ``[E']``, or with ``Loops.SEPARATE`` ``[E' + K]``, in the promoted dtype of ``value`` and ``weight``.
    """
    k, entries = product.rowptr.numel() - 1, product.col.numel()
    row, first, size = ranges_of(rowptr, col.numel()).long(), s.rowptr[:-1].long(), s.rowptr.diff().long()
    right = size[col]
    entry, number = concatenated_ranges(torch.zeros_like(row), size[row] * right)
    p = first[row[entry]] + number // right[entry]
    q = first[col[entry]] + number % right[entry]
    one, other = s.col[p].long(), s.col[q].long()
    keys = ranges_of(product.rowptr, entries).long() * k + product.col
    key = one * k + other
    slot = torch.searchsorted(keys, key)
    found = torch.cat([keys, keys.new_full((1,), -1)])[slot] == key
    total = entries + (k if loops == Loops.SEPARATE else 0)
    slot = torch.where(found, slot, total)  # others are collected behind the last
    if loops != Loops.KEEP:
        slot = torch.where(one == other, entries + one if loops == Loops.SEPARATE else total, slot)
    dtype = weight.dtype if value is None else torch.promote_types(weight.dtype, value.dtype)
    acc = accumulation_dtype(weight, value)
    weight = weight.to(acc)
    terms = weight[p] * weight[q]
    terms = terms if value is None else terms * value.to(acc)[entry]
    out = terms.new_zeros(total + 1).index_add(0, slot, terms)[:total]
    return (mirrored(out, product.rowptr, product.col) if symmetric else out).to(dtype)


def concatenated_ranges(first: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The numbers ``first[i]`` to ``first[i] + size[i] - 1`` for all i, one after the other, and i of each; int64."""
    end = size.cumsum(0)
    total = int(end[-1]) if end.numel() else 0
    owner = torch.repeat_interleave(torch.arange(size.numel(), device=size.device), size, output_size=total)
    return owner, (first - end + size)[owner] + torch.arange(total, device=size.device)
