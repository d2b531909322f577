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
    x, group, mask, options = call
    if group is not None:
        y = x.new_zeros(options.groups, x.size(1))
        return (y.scatter_reduce_(0, group[:, None].expand_as(x), x, "amax", include_self=False),)
    if x.size(1) == 0:
        return (x.sum(1),)
    if mask is None:
        return (x.amax(1),)
    largest = torch.where(mask[..., None], x, -torch.inf).amax(1)
    return (largest.masked_fill_(~mask.any(1, keepdim=True), 0),)


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the rows."""
    x, group, mask, _ = call
    dtype = accumulation_dtype(x)  # CUDA adds in the dtype itself: bfloat16 counts to 256
    ones = torch.empty_like(x, dtype=dtype)  # at the maxima, else 0
    if group is not None:
        torch.eq(x, saved.y.index_select(0, group), out=ones)
        count = torch.zeros_like(upstream.y, dtype=dtype).index_add_(0, group, ones)
        return (ones.mul_((upstream.y / count).index_select(0, group)).to(x.dtype),)
    torch.eq(x, saved.y[:, None], out=ones)
    if mask is not None:
        ones.masked_fill_(~mask[..., None], 0)
    dx = ones.mul_((upstream.y / ones.sum(1))[:, None])
    if mask is not None:
        dx.masked_fill_(~mask[..., None], 0)  # 0 times inf of a group without rows
    return (dx.to(x.dtype),)
