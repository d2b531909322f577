"""Distances at edges by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import rows
from hierpool.contract import accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.edge_distances import Call, Leaves, Upstream


def forward(call: Call) -> tuple[Tensor]:
    """The distances."""
    x, adj = call.x, call.adj
    converted = rows(x.to(accumulation_dtype(x)))
    out = torch.ops.hierpool_native.edge_distances.default(adj.rowptr, adj.col, converted, None, None)
    return (out.to(x.dtype),)


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the features."""
    x, adj = call.x, call.adj
    assert call.source is not None
    dtype = accumulation_dtype(x)
    weight = upstream.distance.to(dtype).contiguous()
    out = torch.ops.hierpool_native.signed_sums.default(
        adj.rowptr,
        adj.col,
        weight,
        adj.rowptr_t,
        adj.col_t,
        weight[call.source],
        rows(x.to(dtype)),
        None,
        None,
    )
    return (out.to(x.dtype),)
