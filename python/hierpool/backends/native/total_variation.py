"""The total variation by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import contiguous, in_dtype, rows
from hierpool.contract import Dense, Padded, Ragged, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.total_variation import Call, Leaves, Upstream


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """The variation and the number of entries of each graph."""
    s, adj, batch, _ = call
    kernels = torch.ops.hierpool_native
    if isinstance(adj, Dense):
        assert isinstance(batch, Padded)
        return kernels.total_variation_dense.default(rows(s), rows(adj.value), *map(contiguous, batch))
    assert isinstance(batch, Ragged)
    ptr, dtype = batch.ptr, accumulation_dtype(s, adj.value)
    x = rows(s.to(dtype))
    return kernels.total_variation_csr.default(adj.rowptr, adj.col, in_dtype(adj.value, dtype), ptr, x)


def backward(
    call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the assignment and of the entries."""
    s, adj, batch, _ = call
    kernels, scale = torch.ops.hierpool_native, upstream.variation.contiguous()
    if isinstance(adj, Dense):
        return kernels.total_variation_dense_backward.default(
            scale, rows(s), rows(adj.value), *map(contiguous, batch), *needs
        )
    assert isinstance(batch, Ragged)
    ptr, dtype = batch.ptr, accumulation_dtype(s, adj.value)
    x, value = rows(s.to(dtype)), in_dtype(adj.value, dtype)
    ds = dvalue = None
    if needs.s:
        is_symmetric = adj.rowptr_t is None
        transpose = (adj.rowptr_t, adj.col_t, in_dtype(adj.value_t, dtype))
        factor = 2 * scale if is_symmetric else scale
        ds = kernels.signed_sums.default(adj.rowptr, adj.col, value, *transpose, x, ptr, factor).to(s.dtype)
    if needs.value and adj.value is not None:
        dvalue = kernels.edge_distances.default(adj.rowptr, adj.col, x, ptr, scale).to(adj.value.dtype)
    return ds, dvalue
