"""The largest or smallest of the rows that a sparse matrix gathers, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, ranges_of


def spmm_max(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor, rows: int, smallest: bool = False
) -> tuple[Tensor, Tensor]:
    r""":math:`y_{kf} = \max_i a_{ik} x_{if}` over the entries of :math:`A`, differentiable by autograd.

    Args:
        rowptr: first entry of each row of :math:`A`, ``[N + 1]``.
        col: column of each entry, ``[E]``.
        value: the entries, ``[E]``; ``None``: 1.
        x: :math:`X`, ``[N, F]``.
        rows: columns of :math:`A`, :math:`K`.
        smallest: take the smallest.

    Returns:
        ``[K, F]``, 0 for a column without entries, and int64 of the same shape: the row of X that each element came
        from, of equal ones the first, or N if there is none.
    """
    acc, n = accumulation_dtype(x, value), x.size(0)
    row, col = ranges_of(rowptr, col.numel()).to(torch.int64), col.to(torch.int64)
    terms = x.to(acc)[row]  # [E, F]
    if value is not None:
        terms = terms * value.to(acc)[:, None]
    known, index = terms.detach(), col[:, None].expand_as(terms)
    which = "amin" if smallest else "amax"
    best = known.new_zeros(rows, x.size(1)).scatter_reduce(0, index, known, which, include_self=False)
    number = torch.arange(col.numel(), device=x.device)[:, None].expand_as(terms)
    number = torch.where((known == best[col]) | known.isnan(), number, col.numel())
    empty = number.new_full((rows, x.size(1)), col.numel())
    first = empty.scatter_reduce(0, index, number, "amin")
    y = torch.cat([terms, terms.new_zeros(1, x.size(1))]).gather(0, first)
    return y.to(x.dtype), torch.cat([row, row.new_full((1,), n)])[first]
