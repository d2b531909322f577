"""Extremes over the columns of a sparse matrix by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.spmm_max import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """See :class:`hierpool.ops.spmm_max.Out`."""
    x, adj, options = call
    rowptr, col, value = adj.factor(True)
    dtype = accumulation_dtype(x, value)
    y, source = torch.ops.hierpool_native.spmm_max.default(
        rowptr, col, in_dtype(value, dtype), in_dtype(x, dtype), options.smallest
    )
    return y.to(x.dtype), source


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of the rows and of the entries."""
    x, adj, _ = call
    dtype = accumulation_dtype(x, adj.value)
    dx, dvalue = torch.ops.hierpool_native.spmm_max_backward.default(
        adj.rowptr,
        adj.col,
        in_dtype(adj.value, dtype),
        in_dtype(x, dtype),
        in_dtype(upstream.y, dtype),
        saved.source,
        adj.value is not None and needs.value,
    )
    return dx.to(x.dtype), None if adj.value is None else dvalue.to(adj.value.dtype)
