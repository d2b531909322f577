"""Sparse products by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype, rows
from hierpool.contract import Csr, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.spmm import Call


def forward(call: Call) -> tuple[Tensor]:
    """The product."""
    x, adj, options = call
    rowptr, col, value = adj.factor(options.transpose)
    dtype = accumulation_dtype(x, value)
    out: Tensor = torch.ops.hierpool_native.spmm.default(
        rowptr, col, in_dtype(value, dtype), rows(x.to(dtype))
    )
    return (out.to(x.dtype),)


def sampled_product(adj: Csr, left: Tensor, right: Tensor) -> Tensor:
    """``left_i . right_j`` at every entry (i, j), in the dtype of the entries."""
    assert adj.value is not None
    dtype = accumulation_dtype(left, right, adj.value)
    ends = rows(left.to(dtype)), rows(right.to(dtype))
    out: Tensor = torch.ops.hierpool_native.sampled_product.default(adj.rowptr, adj.col, *ends)
    return out.to(adj.value.dtype)
