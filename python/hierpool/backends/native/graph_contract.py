"""Matrices whose nodes are merged into clusters, by the C++ kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import Clusters, Contracted, ContractOptions, accumulation_dtype


def contract(
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    clusters: Clusters,
    ptr: Tensor,
    options: ContractOptions,
) -> Contracted:
    """The matrix of the clusters, of which ``ptr``, int64 ``[B + 1]``, holds the first of each graph."""
    loops, *flags = options
    given = in_dtype(value, accumulation_dtype(value)) if options.want_sum else None
    found = torch.ops.hierpool_native.graph_contract.default(
        rowptr.contiguous(), col.contiguous(), given, *clusters, ptr, int(loops), *flags
    )
    return result(found, value)


def result(found: Any, value: Tensor | None) -> Contracted:
    """What the kernel returns, with the sums of ``value`` in its dtype."""
    rowptr, col, total, slot, merged = found
    if total is not None and value is not None and value.dtype is not total.dtype:
        total = total.to(value.dtype)
    return Contracted(rowptr, col, total, slot, merged)


def filter_edges(edge_index: Tensor, number: Tensor, want_kept: bool) -> tuple[Tensor, Tensor, int]:
    """The edges between numbered nodes, which edges these are, and the first that a node is missing of or -1."""
    found: tuple[Tensor, Tensor, int] = torch.ops.hierpool_native.filter_edges.default(
        edge_index.contiguous(), number, want_kept
    )
    return found


def merge_edges(
    edge_index: Tensor, cluster: Tensor, num_clusters: int, drop_loops: bool, want_slot: bool
) -> tuple[Tensor, Tensor, int]:
    """The different edges between clusters, the place of each edge among them or -1, and the first bad edge or -1."""
    found: tuple[Tensor, Tensor, int] = torch.ops.hierpool_native.merge_edges.default(
        edge_index.contiguous(), cluster, num_clusters, drop_loops, want_slot
    )
    return found
