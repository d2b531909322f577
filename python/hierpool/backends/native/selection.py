"""Selection of nodes and pairs by the C++ kernels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.backends.native import graph_contract
from hierpool.backends.native._tensors import ACTIVATIONS, in_dtype
from hierpool.contract import (
    Assigned,
    ClusteringGoal,
    Clusters,
    ContractOptions,
    Csr,
    Links,
    accumulation_dtype,
)
from hierpool.reference.scored_pool import Scored, Selected


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


def mis_pool(
    rows: Scored,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    priority: Tensor | None,
    greedy: bool,
    hops: int,
    seed: int,
    options: ContractOptions,
) -> Selected:
    """See :func:`hierpool.backends.reference.selection.mis_pool`."""
    found = torch.ops.hierpool_native.mis_pool.default(
        *_scored(rows), *links, _summed(value, options), ptr, priority, greedy, hops, seed, *options
    )
    return _selected(found, value)


def pair_pool(
    x: Tensor,
    known: Tensor,
    shift: float,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    seed: int,
    options: ContractOptions,
) -> Selected:
    """See :func:`hierpool.backends.reference.selection.pair_pool`."""
    *found, score, mate = torch.ops.hierpool_native.pair_pool.default(
        x.detach().contiguous(), known, shift, *links, _summed(value, options), ptr, seed, *options
    )
    return _selected(found, value)._replace(of_entry=score, mate=mate)


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


def topk_pool(
    rows: Scored,
    links: Links,
    value: Tensor | None,
    ptr: Tensor,
    over: int,
    under: int,
    most: int,
    options: ContractOptions,
) -> Selected:
    """See :func:`hierpool.backends.reference.selection.topk_pool`."""
    found = torch.ops.hierpool_native.topk_pool.default(
        *_scored(rows), links.rowptr, links.col, _summed(value, options), ptr, over, under, most, *options
    )
    return _selected(found, value)


def _scored(rows: Scored) -> tuple[Tensor, Tensor, Tensor | None, bool, int, float]:
    x, weight, bias, activation, is_unit, multiplier = rows
    x, weight = x.detach().contiguous(), weight.detach().contiguous()
    shift = None if bias is None else bias.detach()
    return x, weight, shift, is_unit, ACTIVATIONS[activation], multiplier


def _summed(value: Tensor | None, options: ContractOptions) -> Tensor | None:
    return in_dtype(value, accumulation_dtype(value)) if options.want_sum else None


def _selected(found: Any, value: Tensor | None) -> Selected:
    valid, score, y, cluster_ptr, rowptr, cluster, of_row, first, row, entry, *matrix = found
    if not valid:
        return Selected(score, None, None, None)
    assigned = Assigned(cluster_ptr, rowptr, cluster, Clusters(of_row, first, row), entry)
    return Selected(score, y, assigned, graph_contract.result(matrix, value))


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
