"""Selection of nodes and pairs by the C++ kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.backends.native import graph_contract
from hierpool.backends.native._tensors import in_dtype
from hierpool.contract import (
    Assigned,
    ClusteringGoal,
    Clusters,
    Contracted,
    ContractOptions,
    Csr,
    Links,
    accumulation_dtype,
)


def match(links: Links, ptr: Tensor, score: Tensor | None, loops: bool, seed: int) -> tuple[Tensor, bool]:
    """The node that each node is matched with, or -1, and whether no score is NaN."""
    found: tuple[Tensor, bool] = torch.ops.hierpool_native.match.default(*links, ptr, score, loops, seed)
    return found


def mis(
    links: Links, ptr: Tensor, priority: Tensor | None, hops: int, seed: int, greedy: bool = False
) -> tuple[Tensor, bool]:
    """The first node of the set within ``hops`` edges of each node, and whether no priority is NaN."""
    found: tuple[Tensor, bool] = torch.ops.hierpool_native.mis.default(
        *links, ptr, priority, greedy, hops, seed
    )
    return found


def mis_graph(
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    score: Tensor,
    hops: int,
    seed: int,
    greedy: bool,
    options: ContractOptions,
) -> tuple[Assigned, Contracted] | None:
    """See :func:`hierpool.backends.reference.selection.mis_graph`."""
    found = torch.ops.hierpool_native.mis_graph.default(
        *links, _summed(value, options), ptr, score, greedy, hops, seed, int(options.loops), *options[1:]
    )
    return _selected(found, value, options)


def multilevel_clusters(
    graph: Csr, ptr: Tensor, goal: ClusteringGoal, start: Tensor | None, cycles: int, seed: int
) -> Tensor:
    """The cluster of each node in its graph."""
    found: Tensor = torch.ops.hierpool_native.multilevel_clusters.default(
        graph.rowptr.contiguous(), graph.col.contiguous(), graph.value, ptr, *goal, start, cycles, seed
    )
    return found


def topk(
    score: Tensor, ptr: Tensor, order: Tensor | None, over: int, under: int, most: int
) -> tuple[Tensor, Tensor, bool]:
    """See :func:`hierpool.backends.reference.selection.topk`."""
    found: tuple[Tensor, Tensor, bool] = torch.ops.hierpool_native.topk.default(
        score, ptr, order, over, under, most
    )
    return found


def topk_graph(
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    score: Tensor,
    over: int,
    under: int,
    most: int,
    options: ContractOptions,
) -> tuple[Assigned, Contracted] | None:
    """See :func:`hierpool.backends.reference.selection.topk_graph`."""
    found = torch.ops.hierpool_native.topk_graph.default(
        *links[:2], _summed(value, options), ptr, score, over, under, most, int(options.loops), *options[1:]
    )
    return _selected(found, value, options)


def _summed(value: Tensor | None, options: ContractOptions) -> Tensor | None:
    return in_dtype(value, accumulation_dtype(value)) if options.want_sum else None


def _selected(
    found: Any, value: Tensor | None, options: ContractOptions
) -> tuple[Assigned, Contracted] | None:
    valid, cluster_ptr, rowptr, cluster, of_row, first, row, entry, *matrix = found
    if not valid:
        return None
    assigned = Assigned(cluster_ptr, rowptr, cluster, Clusters(of_row, first, row), entry)
    return assigned, graph_contract.result(matrix, value, options)


def components(rowptr: Tensor, col: Tensor, usable: Tensor | None) -> Tensor:
    """The first node of the connected component of each node."""
    return torch.ops.hierpool_native.components.default(rowptr, col, usable)


def spectral_sign(rowptr: Tensor, col: Tensor, value: Tensor | None, ptr: Tensor, seed: int) -> Tensor:
    """Whether each node is in the half of its component that is kept."""
    return torch.ops.hierpool_native.spectral_sign.default(rowptr, col, value, ptr, seed)


def propagate(rowptr: Tensor, col: Tensor, label: Tensor, hops: int) -> Tensor:
    """The label of each node after some rounds in which labels spread from the columns of rows without one, or -1."""
    return torch.ops.hierpool_native.propagate.default(rowptr, col, label.contiguous(), hops)


def topk_in_batch(score: Tensor, batch: Tensor, over: int, under: int, most: int) -> tuple[Tensor, bool]:
    """:func:`topk` with ``min(most, ceil(n * over / under))`` nodes of each graph, and whether no score is NaN."""
    found: tuple[Tensor, bool] = torch.ops.hierpool_native.topk_in_batch.default(
        score, batch.contiguous(), over, under, most
    )
    return found
