"""Stacks of GraphSAGE layers by the C++ kernels, which compute valid rows only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierpool.backends.native._tensors import contiguous, in_dtype, rows
from hierpool.contract import Csr, accumulation_dtype, reshaped

if TYPE_CHECKING:
    from hierpool.ops.sage_stack import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor, Tensor | None, Tensor]:
    """See :class:`hierpool.ops.sage_stack.Out`."""
    o = call.options
    y, updated, saved = torch.ops.hierpool_native.sage_stack.default(
        *_arguments(call), o.normalize, o.training, o.momentum, o.eps
    )
    y = reshaped(y.to(call.x.dtype), *call.x.shape[:-1], y.size(1))
    if call.running is None or not o.training:
        return y, None, saved
    return y, updated.view(call.running.shape).to(call.running.dtype), saved


def backward(
    call: Call, saved: Saved, upstream: Upstream, needs: Leaves
) -> tuple[Tensor | None, Tensor | None, tuple[Tensor | None, ...]]:
    """Gradients of features, adjacency and weights."""
    x, adj, o = call.x, call.adj, call.options
    dy = rows(upstream.y.flatten(0, -2).to(accumulation_dtype(x)))
    dx, dvalue, grads = torch.ops.hierpool_native.sage_stack_backward.default(
        dy, saved.saved, *_arguments(call), o.normalize, o.training, needs.x, needs.value, any(needs.layers)
    )
    if needs.value and adj.value is not None:
        value = adj.value
        if isinstance(adj, Csr) or value.size(0) == x.size(0):
            dvalue = dvalue.view(value.shape).to(value.dtype)
        else:
            dvalue = dvalue.view(x.size(0), *value.shape[1:]).sum(0, keepdim=True).to(value.dtype)
    layers = [grad.to(t.dtype) for grad, t in zip(grads, call.layers, strict=False)]
    return (
        dx.view(x.shape).to(x.dtype) if needs.x else None,
        dvalue if needs.value else None,
        tuple(layers) or (None,) * len(call.layers),
    )


def _arguments(call: Call) -> tuple[Any, ...]:
    """The arguments that forward and backward of the C++ kernels share."""
    x, adj, mask, running, layers, o = call
    dtype = accumulation_dtype(x)
    if isinstance(adj, Csr):
        arrays = (adj.rowptr, adj.col, adj.value, adj.rowptr_t, adj.col_t, adj.value_t)
        graphs = [
            t if t.dtype in (torch.int32, torch.int64) else in_dtype(t, dtype)
            for t in arrays
            if t is not None
        ]
    else:
        graphs = [in_dtype(adj.value, dtype)]
    weights = [in_dtype(t, dtype) for t in layers]
    features = rows(x.flatten(0, -2).to(dtype))
    return (
        features, graphs, contiguous(mask), in_dtype(running, dtype), weights,
        o.root, o.bias, o.mean, o.aggregate_first,
    )  # fmt: skip
