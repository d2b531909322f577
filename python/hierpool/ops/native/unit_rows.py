"""Rows of length 1 by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import DTYPES


def forward(h: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """What follows the rows, and their lengths; ``h`` becomes the rows of length 1."""
    if h.dtype in DTYPES:
        out, length = torch.ops.hierpool_native.unit_rows_.default(h, relu)
        return out, length
    wide = h.float()
    out, length = torch.ops.hierpool_native.unit_rows_.default(wide, relu)
    h.copy_(wide)
    return out.to(h.dtype), length


def backward(dout: Tensor, y: Tensor, length: Tensor, relu: bool, dh: Tensor) -> None:
    """The gradient to the rows before they were divided, into ``dh``, which lies as ``y`` does."""
    function = torch.ops.hierpool_native.unit_rows_backward.default
    dout = dout if dout.stride(1) == 1 else dout.contiguous()
    if dh.dtype in DTYPES:
        function(dout, y, length, relu, dh)
        return
    wide = torch.empty(dh.shape)
    function(dout.float(), y.to(torch.float32, memory_format=torch.contiguous_format), length, relu, wide)
    dh.copy_(wide)
