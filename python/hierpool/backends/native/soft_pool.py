"""Soft pooling by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import all_contiguous, as_float, contiguous, in_dtype, rows
from hierpool.contract import Csr, Dense, Padded, Ragged, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.soft_pool import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor, ...]:
    """See :class:`hierpool.ops.soft_pool.Out`."""
    logits, x, adj, _, temperature, _, options = call
    given, symmetric, *wanted, _ = options
    kernels = torch.ops.hierpool_native
    scale = as_float(temperature)
    if isinstance(adj, Dense):
        known = -1 if symmetric is None else int(symmetric)
        return kernels.soft_pool_dense_forward.default(
            rows(logits), rows(x), rows(adj.value), *_padding(call), scale, given, known, *wanted
        )
    out = kernels.soft_pool_csr_forward.default(
        rows(logits),
        rows(x),
        *_structure(call, accumulation_dtype(logits, x, adj.value)),
        scale,
        given,
        symmetric,
        *wanted,
    )
    return (*out, logits.new_empty(0, dtype=torch.bool))


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of logits, features and entries of A."""
    _, x, adj, _, temperature, _, options = call
    kernels = torch.ops.hierpool_native
    grads = all_contiguous(upstream)
    last = (as_float(temperature), options.given, options.mean, *needs[:3])
    if isinstance(adj, Dense):
        return kernels.soft_pool_dense_backward.default(
            *grads, *saved, rows(x), rows(adj.value), *_padding(call), *last
        )
    *kept, _ = saved
    dtype = saved.m.dtype
    transpose = (adj.rowptr_t, adj.col_t, in_dtype(adj.value_t, dtype))
    dlogits, dx, dvalue = kernels.soft_pool_csr_backward.default(
        *grads, *kept, rows(x), *_structure(call, dtype), *transpose, *last
    )
    return dlogits, dx, dvalue if adj.value is None else dvalue.to(adj.value.dtype)


def _padding(call: Call) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    assert isinstance(call.rows, Padded)
    mask, num_nodes = call.rows
    if num_nodes is call.num_clusters is None:
        return contiguous(mask), None, None
    return contiguous(mask), contiguous(num_nodes), contiguous(call.num_clusters)


def _structure(call: Call, dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    adj = call.adj
    assert isinstance(adj, Csr)
    assert isinstance(call.rows, Ragged)
    return in_dtype(adj.value, dtype), adj.rowptr, adj.col, call.rows.ptr, contiguous(call.num_clusters)
