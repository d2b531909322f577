"""``hierpool::spmm`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import accumulated, rows
from hierpool.reference.soft_pool_dense import accumulation_dtype


def _multiply(rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor) -> Tensor:
    value = accumulated(value, x)
    dtype = accumulation_dtype(x) if value is None else value.dtype
    out = torch.ops.hierpool_native.spmm.default(rowptr, col, value, rows(x.to(dtype)))
    return out.to(x.dtype)


def forward(
    value: Tensor | None,
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    transpose: bool,
) -> Tensor:
    """The output of the operator."""
    if transpose and rowptr_t is not None and col_t is not None:
        return _multiply(rowptr_t, col_t, value_t, x)
    return _multiply(rowptr, col, value, x)


def backward(
    grad: Tensor,
    value: Tensor | None,
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    transpose: bool,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to value and x; of size 0 where they are not needed."""
    need_value, need_x = needs
    dvalue, dx = x.new_empty(0), x.new_empty(0)
    if value is not None:
        dvalue = value.new_empty(0)
        if need_value:
            dtype = accumulation_dtype(x, value)
            ends = (x, grad) if transpose else (grad, x)
            left, right = (rows(t.to(dtype)) for t in ends)
            product = torch.ops.hierpool_native.sampled_product.default(rowptr, col, left, right)
            dvalue = product.to(value.dtype)
    if need_x:
        dx = forward(value, grad, rowptr, col, rowptr_t, col_t, value_t, not transpose)
    return dvalue, dx
