"""Maxima over the rows of each group by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import contiguous, in_dtype
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.segment_max import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor]:
    """The maxima."""
    x, group, mask, options = call
    y = torch.ops.hierpool_native.segment_max.default(
        in_dtype(x, accumulation_dtype(x)), contiguous(group), contiguous(mask), options.groups
    )
    return (y.to(x.dtype),)


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the rows."""
    x, group, mask, _ = call
    dtype = accumulation_dtype(x)
    dx = torch.ops.hierpool_native.segment_max_backward.default(
        in_dtype(x, dtype),
        contiguous(group),
        contiguous(mask),
        in_dtype(saved.y, dtype),
        in_dtype(upstream.y, dtype),
    )
    return (dx.to(x.dtype),)
