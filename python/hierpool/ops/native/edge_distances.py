"""``hierpool::edge_distances`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import rows
from hierpool.reference.soft_pool_dense import accumulation_dtype


def forward(
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    source: Tensor | None,
) -> Tensor:
    """The output of the operator."""
    wide = rows(x.to(accumulation_dtype(x)))
    return torch.ops.hierpool_native.edge_distances.default(rowptr, col, wide, None, None).to(x.dtype)


def backward(
    grad: Tensor,
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    source: Tensor | None,
) -> Tensor:
    """The gradient to x."""
    assert source is not None
    dtype = accumulation_dtype(x)
    weight = grad.to(dtype).contiguous()
    out = torch.ops.hierpool_native.signed_sums.default(
        rowptr, col, weight, rowptr_t, col_t, weight[source], rows(x.to(dtype)), None, None
    )
    return out.to(x.dtype)
