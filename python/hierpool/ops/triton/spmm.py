"""``hierpool::spmm`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.batch import accumulation_dtype, readable
from hierpool_kernels.spmm import launch_sampled_product, launch_spmm
from hierpool_kernels.target import target_of


def _product(
    x: Tensor,
    value: Tensor | None,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    transpose: bool,
) -> Tensor:
    """A X, or A^T X, of which nothing else is known where A is its own transpose."""
    x = readable(x)
    acc = accumulation_dtype(x, value)
    if transpose and rowptr_t is not None:
        assert col_t is not None
        rowptr, col, value = rowptr_t, col_t, value_t
    return launch_spmm(rowptr, col, value, x, acc, x.dtype, target_of(x.device))


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
    return _product(x, value, rowptr, col, rowptr_t, col_t, value_t, transpose)


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
    dvalue, dx = (x if value is None else value).new_empty(0), x.new_empty(0)
    if need_value and value is not None:
        left, right = map(readable, (x, grad) if transpose else (grad, x))
        acc = accumulation_dtype(x, value)
        dvalue = launch_sampled_product(rowptr, col, left, right, acc, value.dtype, target_of(x.device))
    if need_x:
        dx = _product(grad, value, rowptr, col, rowptr_t, col_t, value_t, not transpose)
    return dvalue, dx
