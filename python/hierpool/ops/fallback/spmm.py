"""``hierpool::spmm`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool.reference.soft_pool_dense import accumulation_dtype
from hierpool.reference.spmm import sampled_product, spmm


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
    return spmm(rowptr, col, value, x, transpose)


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
            acc = accumulation_dtype(x, value)
            left, right = (x, grad) if transpose else (grad, x)
            dvalue = sampled_product(rowptr, col, left.to(acc), right.to(acc)).to(value.dtype)
    if need_x:
        dx = spmm(rowptr, col, value, grad, not transpose).to(x.dtype)
    return dvalue, dx
