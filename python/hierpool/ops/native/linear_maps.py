"""Linear maps of valid rows by the C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierpool.ops.fallback import linear_maps as fallback
from hierpool.ops.native._tensors import DTYPES, contiguous, packed, rows

# Multiply-adds from which packing the valid rows for torch's BLAS pays (measured with MKL on Zen 3).
_LARGE = 1 << 23


def forward(x: Tensor, mask: Tensor | None, tensors: Sequence[Tensor]) -> Tensor:
    """See :func:`hierpool.ops.fallback.linear_maps.forward`."""
    if not takes(x, tensors):
        return fallback.forward(x, mask, tensors)
    y: Tensor = torch.ops.hierpool_native.linear_maps.default(rows(x), contiguous(mask), packed(tensors))
    return y


def backward(
    dy: Tensor, x: Tensor, mask: Tensor | None, tensors: Sequence[Tensor], need_x: bool, need_maps: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """See :func:`hierpool.ops.fallback.linear_maps.backward`."""
    if not takes(x, tensors):
        return fallback.backward(dy, x, mask, tensors, need_x, need_maps)
    args = (rows(dy), rows(x), contiguous(mask), packed(tensors), need_x, need_maps)
    grads: tuple[Tensor, list[Tensor]] = torch.ops.hierpool_native.linear_maps_backward.default(*args)
    return grads


def takes(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether the C++ kernels are for such features, weights and biases."""
    dtype = x.dtype
    if dtype not in DTYPES:
        return False
    for t in tensors:
        if t.dtype is not dtype:
            return False
    return x.numel() * len(tensors[-1]) < _LARGE
