"""Products with a sparse matrix in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, ranges_of


def spmm(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    x: Tensor,
    transpose: bool = False,
    rows: int | None = None,
) -> Tensor:
    r""":math:`A X`, or :math:`A^T X`, differentiable any number of times by autograd.

    Sums are taken in float32, or in float64 if an input is float64, and rounded to the dtype of ``x``.

    Args:
        rowptr: first entry of each row of :math:`A`, ``[N + 1]``.
        col: column of each entry, ``[E]``.
        value: the entries, ``[E]``; ``None``: 1.
        x: :math:`X`, ``[N, F]``.
        transpose: multiply by :math:`A^T`.
        rows: of the product; ``None``: as many as ``x`` has.
    """
    rows = x.size(0) if rows is None else rows
    acc = accumulation_dtype(x, value)
    row = ranges_of(rowptr, col.numel())
    source, target = (index.long() for index in ((row, col) if transpose else (col, row)))
    terms = x.to(acc)[source]  # [E, F]
    if value is not None:
        terms = terms * value.to(acc)[:, None]
    out = torch.zeros(rows, x.size(1), dtype=acc, device=x.device).index_add(0, target, terms)
    return out.to(x.dtype)
