"""Matrices whose nodes are merged into clusters, by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import Clusters, Contracted, ContractOptions, accumulation_dtype


def contract(
    rowptr: Tensor, col: Tensor, value: Tensor | None, clusters: Clusters, options: ContractOptions
) -> Contracted:
    """The matrix of the clusters."""
    dtype = None if value is None else value.dtype
    rowptr, col, total, slot, merged = torch.ops.hierpool_native.graph_contract.default(
        rowptr.contiguous(),
        col.contiguous(),
        in_dtype(value, accumulation_dtype(value)) if options.want_sum else None,
        *clusters,
        *options,
    )
    total = total.to(dtype) if options.want_sum else None
    return Contracted(rowptr, col, total, slot if options.want_slot else None, merged)
