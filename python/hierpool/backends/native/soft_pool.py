"""Soft pooling by the C++ kernels, which copy what they cannot read in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import as_float, in_dtype
from hierpool.contract import Csr, Dense, Ragged, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.soft_pool import Call, Leaves, Saved, Upstream


def forward(call: Call) -> tuple[Tensor, ...]:
    """See :class:`hierpool.ops.soft_pool.Out`."""
    logits, x, adj, rows, temperature, num_clusters, options = call
    given, symmetric, *wanted, _ = options
    kernels, scale = torch.ops.hierpool_native, as_float(temperature)
    if isinstance(adj, Dense):
        known = -1 if symmetric is None else int(symmetric)
        return kernels.soft_pool_dense_forward.default(
            logits, x, adj.value, *rows, num_clusters, scale, given, known, *wanted
        )
    structure = _structure(call, accumulation_dtype(logits, x, adj.value))
    return kernels.soft_pool_csr_forward.default(
        logits, x, *structure, num_clusters, scale, given, symmetric, *wanted
    )


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of logits, features and entries of A."""
    _, x, adj, rows, temperature, num_clusters, options = call
    kernels = torch.ops.hierpool_native
    last = (as_float(temperature), options.given, options.mean, *needs[:3])
    if isinstance(adj, Dense):
        return kernels.soft_pool_dense_backward.default(
            *upstream, *saved, x, adj.value, *rows, num_clusters, *last
        )
    *kept, _ = saved
    dtype = saved.m.dtype
    transpose = (adj.rowptr_t, adj.col_t, in_dtype(adj.value_t, dtype))
    dlogits, dx, dvalue = kernels.soft_pool_csr_backward.default(
        *upstream, *kept, x, *_structure(call, dtype), num_clusters, *transpose, *last
    )
    return dlogits, dx, dvalue if adj.value is None else dvalue.to(adj.value.dtype)


def _structure(call: Call, dtype: torch.dtype) -> tuple[Tensor | None, ...]:
    adj, rows = call.adj, call.rows
    assert isinstance(adj, Csr)
    assert isinstance(rows, Ragged)
    return in_dtype(adj.value, dtype), adj.rowptr, adj.col, rows.ptr
