"""The update step of GraphSAGE layers, with rows of length 1 by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import DTYPES
from hierpool.backends.reference import sage_update

if TYPE_CHECKING:
    from hierpool.ops.sage_update import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[object, ...]:
    """See :class:`hierpool.ops.sage_update.Out`."""
    return sage_update.forward(call, unit_rows)


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of features, weights and bias."""
    return sage_update.backward(call, saved, upstream, needs, unit_rows_backward)


def unit_rows(h: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """See :func:`hierpool.backends.reference.sage_update.unit_rows`."""
    if h.dtype in DTYPES:
        out, length = torch.ops.hierpool_native.unit_rows_.default(h, relu)
        return out, length
    converted = h.float()
    out, length = torch.ops.hierpool_native.unit_rows_.default(converted, relu)
    h.copy_(converted)
    return out.to(h.dtype), length


def unit_rows_backward(dout: Tensor, y: Tensor, length: Tensor, relu: bool, dh: Tensor) -> None:
    """See :func:`hierpool.backends.reference.sage_update.unit_rows_backward`; ``dh`` has the strides of ``y``."""
    function = torch.ops.hierpool_native.unit_rows_backward.default
    dout = dout if dout.stride(1) == 1 else dout.contiguous()
    if dh.dtype in DTYPES:
        function(dout, y, length, relu, dh)
        return
    converted = torch.empty(dh.shape)
    function(
        dout.float(), y.to(torch.float32, memory_format=torch.contiguous_format), length, relu, converted
    )
    dh.copy_(converted)
