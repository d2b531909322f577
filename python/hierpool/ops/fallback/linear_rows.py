"""A linear map of valid rows by plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor


def forward(x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """:math:`Y = m (X W^T + b)`, whatever is in the rows that are not valid.

    Args:
        x: ``[R, F]``.
        mask: bool ``[R]``; ``None``: all rows are valid.
        weight, bias: ``[G, F]`` and ``[G]``.

    Returns:
        ``[R, G]``.
    """
    valid = _valid(mask)
    return _placed(torch.addmm(bias, _chosen(x, valid), weight.t()), valid, len(x))


def backward(
    dy: Tensor, x: Tensor, mask: Tensor | None, weight: Tensor, need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to ``x``, ``weight`` and ``bias``; of size 0 where they are not needed."""
    valid = _valid(mask)
    dy, none = _chosen(dy, valid), dy.new_empty(0)
    dx = _placed(dy @ weight, valid, len(x)) if need_x else none
    return (dx, dy.t() @ _chosen(x, valid), dy.sum(0)) if need_weight else (dx, none, none)


def _valid(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.nonzero().squeeze(1)


def _chosen(rows: Tensor, valid: Tensor | None) -> Tensor:
    return rows if valid is None else rows.index_select(0, valid)


def _placed(rows: Tensor, valid: Tensor | None, count: int) -> Tensor:
    return rows if valid is None else rows.new_zeros(count, rows.size(1)).index_copy_(0, valid, rows)
