"""Rows of length 1 by plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

SHORTEST = 1e-12


def forward(h: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """What follows the rows, and their lengths; ``h`` becomes the rows of length 1.

    Args:
        h: ``[R, n]``.
        relu: whether ReLU follows.

    Returns:
        ``[R, n]``, and ``[R, 1]``, at least 1e-12.
    """
    wide = torch.promote_types(h.dtype, torch.float32)  # 1e-12 is 0 in float16
    length = torch.linalg.vector_norm(h, dim=1, keepdim=True, dtype=wide).clamp_(min=SHORTEST)
    h.copy_(h / length)
    return h.relu() if relu else h.clone(), length


def backward(dout: Tensor, y: Tensor, length: Tensor, relu: bool, dh: Tensor) -> None:
    """The gradient to the rows before they were divided, into ``dh``."""
    if relu:
        dout = torch.ops.aten.threshold_backward(dout, y, 0)
    along = torch.where(length > SHORTEST, (dout * y).sum(1, keepdim=True, dtype=length.dtype), 0)
    dh.copy_((dout - y * along) / length)
