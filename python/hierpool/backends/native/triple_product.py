"""S^T A S of sparse matrices by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.triple_product import Call, Leaves, Upstream


def forward(call: Call) -> tuple[Tensor]:
    """The values of the product."""
    weight, (value, rowptr, col, *_), *structure, options = call
    acc = accumulation_dtype(weight, value)
    out = torch.ops.hierpool_native.triple_product.default(
        in_dtype(weight, acc), in_dtype(value, acc), rowptr, col, *structure, *options[:-1]
    )
    dtype = weight.dtype if value is None else torch.promote_types(weight.dtype, value.dtype)
    return (out.to(dtype),)


def backward(
    call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of the weights of S and of the values of A."""
    weight, (value, rowptr, col, rowptr_t, col_t, value_t), *structure, options = call
    acc = accumulation_dtype(weight, value)
    want_value = needs.value and value is not None
    dweight, dvalue = torch.ops.hierpool_native.triple_product_backward.default(
        *(in_dtype(weight, acc), in_dtype(value, acc), rowptr, col),
        *(in_dtype(value_t, acc), rowptr_t, col_t, *structure, *options[:-1]),
        *(in_dtype(upstream.value, acc), needs.weight, want_value),
    )
    return (
        dweight.to(weight.dtype) if needs.weight else None,
        dvalue.to(value.dtype) if want_value and value is not None else None,
    )
