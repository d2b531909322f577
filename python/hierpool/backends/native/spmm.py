"""Sparse products by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype, rows
from hierpool.contract import Csr, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.spmm import Call, Leaves, Upstream


def _product(adj: Csr, x: Tensor, transpose: bool) -> Tensor:
    rowptr, col, value = adj.factor(transpose)
    dtype = accumulation_dtype(x, value)
    out: Tensor = torch.ops.hierpool_native.spmm.default(
        rowptr, col, in_dtype(value, dtype), rows(x.to(dtype))
    )
    return out.to(x.dtype)


def forward(call: Call) -> tuple[Tensor]:
    """The product."""
    return (_product(call.adj, call.x, call.options.transpose),)


def backward(
    call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and entries."""
    x, adj, options = call
    dx = dvalue = None
    if needs.x:
        dx = _product(adj, upstream.y, not options.transpose)
    if needs.value and adj.value is not None:
        dtype = accumulation_dtype(x, adj.value)
        ends = (x, upstream.y) if options.transpose else (upstream.y, x)
        left, right = (rows(t.to(dtype)) for t in ends)
        dvalue = torch.ops.hierpool_native.sampled_product.default(adj.rowptr, adj.col, left, right)
        dvalue = dvalue.to(adj.value.dtype)
    return dx, dvalue
