"""Sparse products by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.contract import Csr, accumulation_dtype
from hierpool_kernels.core.target import target_of
from hierpool_kernels.spmm import launch_sampled_product, launch_spmm

if TYPE_CHECKING:
    from hierpool.ops.spmm import Call


def forward(call: Call) -> tuple[Tensor]:
    """The product."""
    x, adj, options = call
    rowptr, col, value = adj.factor(options.transpose)
    acc = accumulation_dtype(x, value)
    return (launch_spmm(rowptr, col, value, x, acc, x.dtype, target_of(x.device)),)


def sampled_product(adj: Csr, left: Tensor, right: Tensor) -> Tensor:
    """``left_i . right_j`` at every entry (i, j), in the dtype of the entries."""
    assert adj.value is not None
    acc = accumulation_dtype(left, right, adj.value)
    return launch_sampled_product(
        adj.rowptr, adj.col, left, right, acc, adj.value.dtype, target_of(left.device)
    )
