"""Rows pooled by a score that is a function of their projection, by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import ACTIVATIONS, in_dtype, like, rows
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops._operator import NothingSaved
    from hierpool.ops.scored_pool import Call, Leaves, Upstream


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """The pooled rows, and the scores."""
    x, _, _, score, _, first, node, options = call
    dtype = accumulation_dtype(x)
    if first.numel() - 1 == node.numel():  # clusters of one node, or some that are empty
        y = torch.ops.hierpool_native.scored_pool.default(
            *(in_dtype(x, dtype), in_dtype(score, dtype), first, node, options.multiplier)
        )
        return y.to(x.dtype), score.clone()
    value = score.to(dtype).index_select(0, node)
    value = value if options.multiplier == 1 else value * options.multiplier
    y = torch.ops.hierpool_native.spmm.default(first, node, value, rows(x.to(dtype)))
    return y.to(x.dtype), score.clone()


def backward(call: Call, saved: NothingSaved, upstream: Upstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of rows, weight and bias, in one pass over the rows."""
    x, weight, bias, score, cluster, _, _, options = call
    dtype = accumulation_dtype(x)
    wide = (in_dtype(t, dtype) for t in (x, weight, score))
    found = torch.ops.hierpool_native.scored_pool_backward.default(
        *wide,
        cluster,
        in_dtype(upstream.y, dtype),
        in_dtype(upstream.score, dtype),
        ACTIVATIONS[options.activation],
        options.is_unit,
        options.multiplier,
    )
    return like((x, weight, bias), found)
