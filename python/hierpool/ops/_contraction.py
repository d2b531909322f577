"""The graph of the clusters of a hard assignment: its structure by a backend, its weights by an operator or with it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced
from hierpool.contract import Clusters, ContractOptions, Loops, Reduce, index_dtype
from hierpool.graph import Assignment, RaggedGraph, build
from hierpool.graph.facts import normally
from hierpool.ops import _checks, coalesce


class How(NamedTuple):
    """How entries are merged."""

    reduce: str  # name of a Reduce, or "count"
    of_attr: str  # name of the Reduce of features
    loops: Loops
    keep: bool  # a graph without weights stays so
    backend: str


class Merged(NamedTuple):
    """The matrix of the clusters."""

    rowptr: Tensor  # [K + 1]
    col: Tensor  # [E']
    value: Tensor | None  # [E'], or [E' + K] with separate loops; None: not computed, as all are 1
    ones: bool  # no weights were given, and no entry is the sum of several
    slot: Tensor | None  # [E], element of value that each entry is part of; -1: none; None: not needed


def not_triton(backend: str) -> str:
    """The backend for a step that has no Triton kernel."""
    return "auto" if backend == "triton" else backend


class Given(NamedTuple):
    """What the entries of the graph have."""

    value: Tensor | None  # [E]; None: 1
    attr: Tensor | None  # [E, R]


def contracted(
    graph: RaggedGraph, given: Given, assignment: Assignment, how: How
) -> tuple[RaggedGraph, Tensor | None, Tensor | None]:
    """The graph of the clusters, and the weights and features of self-loops that are separate."""
    value, attr = given
    counted = how.reduce == "count"
    value = None if counted else value
    unweighted = value is None and not counted and (how.keep or how.reduce != "sum")
    clusters = assignment.clusters()
    if clusters.node.dtype is not graph.col.dtype:
        clusters = Clusters(*(t.to(graph.col.dtype) for t in clusters))
    run = _traced if is_traced() else _eager
    rowptr, col, total, ones, slot = run(graph, value, assignment, clusters, how, unweighted)
    apart = attr_apart = None
    if attr is not None:
        assert slot is not None
        of_attr = how._replace(reduce=how.of_attr)
        symmetric = graph.has_symmetric_attr()
        attr = _by_operator(graph, attr, clusters, of_attr, slot, rowptr, col, symmetric).value
        assert attr is not None
        if how.loops is Loops.SEPARATE:
            attr, attr_apart = attr[: col.numel()], attr[col.numel() :].clone()
    if how.loops is Loops.SEPARATE:
        assert total is not None
        total, apart = total[: col.numel()], total[col.numel() :].clone()
        if unweighted and how.reduce != "sum":
            apart = apart.clamp(max=1)
    if ones and not counted:
        total = None
    dtype = index_dtype(assignment.num_clusters, col.numel())
    if col.dtype is not dtype:
        rowptr, col = rowptr.to(dtype), col.to(dtype)
    stated = True if graph.is_symmetric else None
    coarse = RaggedGraph(rowptr, col, total, assignment.cluster_ptr, None, stated)
    return coarse._with_symmetry()._with_attr(attr), apart, attr_apart


def _eager(
    graph: RaggedGraph,
    value: Tensor | None,
    assignment: Assignment,
    clusters: Clusters,
    how: How,
    unweighted: bool,
) -> Merged:
    separate, symmetric = how.loops is Loops.SEPARATE, graph.is_symmetric
    fused = value is None or (how.reduce == "sum" and not _checks.needs_gradient(value))
    wanted, slots = fused and (separate or not unweighted), not fused or graph._attr is not None
    options = ContractOptions(how.loops, assignment.is_injective, symmetric, wanted, slots)
    module: Any = backends.module("graph_contract", graph.device.type, not_triton(how.backend))
    known = None if value is None else value.detach()
    found = normally(
        module.contract, graph.rowptr, graph.col, known, clusters, assignment.cluster_ptr, options
    )
    if fused:
        ones = unweighted or (value is None and not found.merged)
        return Merged(found.rowptr, found.col, found.value, ones, found.slot)
    assert value is not None
    return _by_operator(graph, value, clusters, how, found.slot, found.rowptr, found.col, symmetric)


def _traced(
    graph: RaggedGraph,
    value: Tensor | None,
    assignment: Assignment,
    clusters: Clusters,
    how: How,
    unweighted: bool,
) -> Merged:
    """Every entry keeps an entry: the first of several has their value, the others and those without place have 0."""
    cluster, k = clusters.cluster, assignment.num_clusters
    row, col = (cluster.index_select(0, end.to(torch.int64)) for end in (graph.row, graph.col))
    kept = (row >= 0) & (col >= 0)
    loop = kept & (row == col)
    stays = kept if how.loops is Loops.KEEP else kept & ~loop
    ends = torch.where(stays, torch.stack([row, col]), 0)[:, : None if k else 0]
    edges = build.traced_rows(ends, assignment.cluster_ptr, k, assignment.num_graphs)
    rowptr, merged_col, entry = (t.to(cluster.dtype) for t in edges)
    if how.loops is Loops.SEPARATE and k:
        entry = torch.where(loop, row + merged_col.numel(), entry)
        stays = kept
    slot = torch.where(stays, entry, -1) if k else torch.full_like(row, -1)
    if value is None:
        value = torch.ones(slot.numel(), device=slot.device)
    how = how._replace(reduce="sum" if how.reduce == "count" else how.reduce)
    return _by_operator(graph, value, clusters, how, slot, rowptr, merged_col, False)


def _by_operator(
    graph: RaggedGraph,
    value: Tensor,
    clusters: Clusters,
    how: How,
    slot: Tensor,
    rowptr: Tensor,
    col: Tensor,
    symmetric: bool,
) -> Merged:
    """The values, differentiable in those of the graph."""
    backend = not_triton(how.backend)
    options = coalesce.Options(Reduce[how.reduce.upper()], how.loops is Loops.SEPARATE, symmetric, backend)
    structure = slot, graph.rowptr, clusters.first, clusters.node, rowptr, col
    (total,) = coalesce.OPERATOR(coalesce.Call(value, *structure, options))
    return Merged(rowptr, col, total, False, slot)
