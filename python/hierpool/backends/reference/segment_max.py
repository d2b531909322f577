"""Maxima over groups in plain PyTorch, with an explicit gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.segment_max import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor]:
    """The maxima."""
    x, group, options = call
    lowest = x.new_full((options.groups, x.size(1)), -torch.inf)
    return (lowest.scatter_reduce_(0, group[:, None].expand_as(x), x, "amax"),)


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the rows."""
    x, group, _ = call
    dtype = accumulation_dtype(x)  # CUDA adds in the dtype itself: bfloat16 counts to 256
    ones = torch.empty_like(x, dtype=dtype)  # at the maxima, else 0
    torch.eq(x, saved.y.index_select(0, group), out=ones)
    count = torch.zeros_like(upstream.y, dtype=dtype).index_add_(0, group, ones)
    return (ones.mul_((upstream.y / count).index_select(0, group)).to(x.dtype),)
