"""``hierpool::total_variation`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import accumulated, contiguous, rows
from hierpool.reference.soft_pool_dense import accumulation_dtype


def _accumulation(s: Tensor, value: Tensor | None) -> torch.dtype:
    return accumulation_dtype(s, *(() if value is None else (value,)))


def forward(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The outputs of the operator."""
    kernels = torch.ops.hierpool_native
    if rowptr is None:
        assert adj is not None
        return kernels.total_variation_dense.default(
            rows(s), rows(adj), contiguous(mask), contiguous(num_nodes)
        )
    x = rows(s.to(_accumulation(s, adj)))
    return kernels.total_variation_csr.default(rowptr, col, accumulated(adj, s), ptr, x)


def backward(
    dvariation: Tensor,
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to ``s`` and ``adj``; of size 0 where they are not needed."""
    kernels, scale = torch.ops.hierpool_native, dvariation.contiguous()
    if rowptr is None:
        assert adj is not None
        return kernels.total_variation_dense_backward.default(
            scale, rows(s), rows(adj), contiguous(mask), contiguous(num_nodes), *needs
        )
    x = rows(s.to(_accumulation(s, adj)))
    ds, dvalue = s.new_empty(0), (s if adj is None else adj).new_empty(0)
    if needs[0]:
        once = rowptr_t is None  # A is its own transpose
        also = (rowptr_t, col_t, None if once else accumulated(value_t, x))
        factor = 2 * scale if once else scale
        value = accumulated(adj, s)
        ds = kernels.signed_sums.default(rowptr, col, value, *also, x, ptr, factor).to(s.dtype)
    if needs[1]:
        dvalue = kernels.edge_distances.default(rowptr, col, x, ptr, scale).to(dvalue.dtype)
    return ds, dvalue
