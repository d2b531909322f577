"""The values of merged entries by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.coalesce import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """See :class:`hierpool.ops.coalesce.Out`."""
    value, *structure, options = call
    out, source = torch.ops.hierpool_native.coalesce.default(
        in_dtype(value, accumulation_dtype(value)), *structure, *options[:-1]
    )
    return out.to(value.dtype), source


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the values."""
    value, *structure, options = call
    dtype = accumulation_dtype(value)
    dvalue = torch.ops.hierpool_native.coalesce_backward.default(
        in_dtype(value, dtype), *structure, *options[:-1], saved.source, in_dtype(upstream.value, dtype)
    )
    return (dvalue.to(value.dtype),)
