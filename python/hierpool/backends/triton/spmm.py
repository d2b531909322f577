"""Sparse products by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.contract import Csr, accumulation_dtype
from hierpool_kernels.core.target import target_of
from hierpool_kernels.spmm import launch_sampled_product, launch_spmm

if TYPE_CHECKING:
    from hierpool.ops.spmm import Call, Leaves, Upstream


def _product(adj: Csr, x: Tensor, transpose: bool) -> Tensor:
    rowptr, col, value = adj.factor(transpose)
    acc = accumulation_dtype(x, value)
    return launch_spmm(rowptr, col, value, x, acc, x.dtype, target_of(x.device))


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
        left, right = (x, upstream.y) if options.transpose else (upstream.y, x)
        acc, dtype = accumulation_dtype(x, adj.value), adj.value.dtype
        dvalue = launch_sampled_product(adj.rowptr, adj.col, left, right, acc, dtype, target_of(x.device))
    return dx, dvalue
