"""A linear map of valid rows by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.fallback import linear_rows as fallback
from hierpool.ops.native._tensors import contiguous, rows

_DTYPES = (torch.float32, torch.float64)
_LARGE = (
    1 << 23
)  # multiply-adds from which packing the valid rows for torch's BLAS pays (measured with MKL on Zen 3)


def forward(x: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """See :func:`hierpool.ops.fallback.linear_rows.forward`."""
    if _is_for_torch(x, weight) or bias.dtype != x.dtype:
        return fallback.forward(x, mask, weight, bias)
    args = (rows(x), contiguous(mask), weight.contiguous(), bias.contiguous())
    out: Tensor = torch.ops.hierpool_native.linear_rows.default(*args)
    return out


def backward(
    dy: Tensor, x: Tensor, mask: Tensor | None, weight: Tensor, need_x: bool, need_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`hierpool.ops.fallback.linear_rows.backward`."""
    if _is_for_torch(x, weight):
        return fallback.backward(dy, x, mask, weight, need_x, need_weight)
    args = (rows(dy), rows(x), contiguous(mask), weight.contiguous(), need_x, need_weight)
    grads: tuple[Tensor, Tensor, Tensor] = torch.ops.hierpool_native.linear_rows_backward.default(*args)
    return grads


def _is_for_torch(x: Tensor, weight: Tensor) -> bool:
    return x.dtype not in _DTYPES or weight.dtype != x.dtype or x.numel() * weight.size(0) >= _LARGE
