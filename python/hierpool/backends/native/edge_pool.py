"""Rows pooled in pairs by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import ACTIVATIONS, in_dtype, like, rows
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops._operator import NothingSaved
    from hierpool.ops.edge_pool import Call, Leaves, Upstream


def linear(x: Tensor, weight: Tensor, bias: Tensor, rowptr: Tensor, col: Tensor) -> Tensor:
    """The linear map of the features of both ends of each entry, ``[E]``; without gradients."""
    out: Tensor = torch.ops.hierpool_native.edge_linear.default(
        x.contiguous(), weight.contiguous(), bias, rowptr, col
    )
    return out


def forward(call: Call) -> tuple[Tensor, Tensor, Tensor]:
    """The pooled rows, the scores of entries, and the factors of nodes."""
    x, _, _, known, rowptr, col, mate, first, node, options = call
    dtype = accumulation_dtype(x)
    # Added in the dtype of the scores, as nodes were paired by the sums.
    score = known + options.shift
    factor = torch.ops.hierpool_native.edge_factors.default(in_dtype(score, dtype), rowptr, col, mate)
    y: Tensor = torch.ops.hierpool_native.spmm.default(
        first, node, factor.index_select(0, node), rows(x.to(dtype))
    )
    return y.to(x.dtype), score, factor.to(known.dtype)


def backward(call: Call, saved: NothingSaved, upstream: Upstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of rows, weight and bias."""
    x, weight, bias, known, rowptr, col, mate, first, node, options = call
    dtype = accumulation_dtype(x)
    score = known + options.shift
    wide = (in_dtype(t, dtype) for t in (x, weight, known, score))
    gradients = (in_dtype(t, dtype) for t in upstream)
    found = torch.ops.hierpool_native.edge_pool_backward.default(
        *wide, rowptr, col, mate, first, node, *gradients, ACTIVATIONS[options.activation]
    )
    return like((x, weight, bias), found)
