"""Assignments of each node to at most one cluster by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Assigned, Clusters


def by_clusters(
    cluster: Tensor, ptr: Tensor, order: Tensor | None, counts: Tensor | None, most: int
) -> Assigned | None:
    """See :func:`hierpool.backends.reference.graph_assign.by_clusters`."""
    valid, cluster_ptr, rowptr, entries, of_row, first, row, entry = (
        torch.ops.hierpool_native.assign_clusters.default(
            cluster.contiguous(), ptr, order, None if counts is None else counts.contiguous(), most
        )
    )
    return Assigned(cluster_ptr, rowptr, entries, Clusters(of_row, first, row), entry) if valid else None


def by_heads(head: Tensor, ptr: Tensor, order: Tensor | None, pairs: bool) -> Assigned:
    """See :func:`hierpool.backends.reference.graph_assign.by_heads`."""
    _, cluster_ptr, rowptr, entries, of_row, first, row, entry = (
        torch.ops.hierpool_native.assign_heads.default(head, ptr, order, pairs)
    )
    return Assigned(cluster_ptr, rowptr, entries, Clusters(of_row, first, row), entry)


def by_kept(
    index: Tensor, ptr: Tensor, order: Tensor | None, num_nodes: int
) -> tuple[Assigned, Tensor] | None:
    """See :func:`hierpool.backends.reference.graph_assign.by_kept`."""
    valid, cluster_ptr, rowptr, entries, of_row, first, row, entry, position = (
        torch.ops.hierpool_native.assign_kept.default(index.contiguous(), ptr, order, num_nodes)
    )
    found = Assigned(cluster_ptr, rowptr, entries, Clusters(of_row, first, row), entry)
    return (found, position) if valid else None
