"""The graph of the clusters of a hard assignment: its structure by a backend, its weights by an operator or with it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced
from hierpool.contract import (
    Clusters,
    Contracted,
    ContractOptions,
    Links,
    Loops,
    Reduce,
    index_dtype,
)
from hierpool.graph import Assignment, RaggedGraph, build
from hierpool.graph.facts import normally
from hierpool.graph.pairs import rows_of
from hierpool.ops import _checks, coalesce
from hierpool.reference.scored_pool import Selected


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


Coarse = tuple[RaggedGraph, Tensor | None, Tensor | None]
"""The graph of the clusters, and the weights and features of self-loops that are separate."""

Selection = Callable[[ModuleType, Links, Tensor | None, ContractOptions], Selected]
"""Calls a backend's module ``selection`` with the entries of a graph, their values and options."""


def contracted(graph: RaggedGraph, given: Given, assignment: Assignment, how: How) -> Coarse:
    """The graph of the clusters of a hard assignment."""
    work = _Contraction(graph, given, how)
    clusters = _fitted(assignment.clusters(), graph)
    if is_traced():
        return work.finished(_traced(graph, work.value, assignment, clusters, how), clusters, assignment)
    module: Any = backends.module("graph_contract", graph.device.type, not_triton(how.backend))
    options = work.options(assignment.is_injective)
    matrix = graph.rowptr, graph.col, work.known
    found = normally(module.contract, *matrix, clusters, assignment.cluster_ptr, options)
    return work.finished(work.merged(found, clusters), clusters, assignment)


def selected(
    graph: RaggedGraph, links: Links, how: How, select: Selection, is_injective: bool
) -> tuple[Selected, Assignment, RaggedGraph]:
    """The clusters of nodes that are selected, without weights, and their graph, by one call of a backend.

    ``links``: the entries of the graph, which is not traced.
    """
    work = _Contraction(graph, Given(graph.value, graph.edge_attr), how)
    module = backends.module("selection", graph.device.type, not_triton(how.backend))
    options = work.options(is_injective)
    found = normally(select, module, links, work.known, options)
    assert found.assigned is not None
    assert found.contracted is not None
    assignment = Assignment._of_assigned(found.assigned, None, rows_of(graph), is_injective)
    clusters = _fitted(found.assigned.clusters, graph)
    merged = work.merged(found.contracted, clusters)
    return found, assignment, work.finished(merged, clusters, assignment)[0]


def _fitted(clusters: Clusters, graph: RaggedGraph) -> Clusters:
    if clusters.node.dtype is graph.col.dtype:
        return clusters
    return Clusters(*(t.to(graph.col.dtype) for t in clusters))


class _Contraction:
    """A graph whose nodes are merged into clusters."""

    def __init__(self, graph: RaggedGraph, given: Given, how: How) -> None:
        self.graph, self.how, self.symmetric = graph, how, graph.is_symmetric
        self.counted = how.reduce == "count"
        self.value, self.attr = None if self.counted else given.value, given.attr
        # The result has no weights.
        self.unweighted = self.value is None and not self.counted and (how.keep or how.reduce != "sum")
        # A backend sums the values; otherwise an operator reduces them, through which gradients flow.
        self.fused = self.value is None or (how.reduce == "sum" and not _checks.needs_gradient(self.value))

    @property
    def known(self) -> Tensor | None:
        """The values without their history."""
        return None if self.value is None else self.value.detach()

    def options(self, is_injective: bool) -> ContractOptions:
        """What a backend is to return."""
        loops = self.how.loops
        wanted = self.fused and (loops is Loops.SEPARATE or not self.unweighted)
        slots = not self.fused or self.attr is not None
        return ContractOptions(loops, is_injective, self.symmetric, wanted, slots)

    def merged(self, found: Contracted, clusters: Clusters) -> Merged:
        """What a backend returned, with values that are differentiable."""
        if self.fused:
            ones = self.unweighted or (self.value is None and not found.merged)
            return Merged(found.rowptr, found.col, found.value, ones, found.slot)
        assert self.value is not None
        assert found.slot is not None
        matrix = found.slot, found.rowptr, found.col
        return _by_operator(self.graph, self.value, clusters, self.how, *matrix, self.symmetric)

    def finished(self, merged: Merged, clusters: Clusters, assignment: Assignment) -> Coarse:
        """The graph of the clusters."""
        graph, how = self.graph, self.how
        rowptr, col, total, ones, slot = merged
        attr, apart, attr_apart = self.attr, None, None
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
            if self.unweighted and how.reduce != "sum":
                apart = apart.clamp(max=1)
        if ones and not self.counted:
            total = None
        dtype = index_dtype(assignment.num_clusters, col.numel())
        if col.dtype is not dtype:
            rowptr, col = rowptr.to(dtype), col.to(dtype)
        stated = True if self.symmetric else None
        coarse = RaggedGraph(rowptr, col, total, assignment.cluster_ptr, None, stated)
        return coarse._with_symmetry()._with_attr(attr), apart, attr_apart


def _traced(
    graph: RaggedGraph,
    value: Tensor | None,
    assignment: Assignment,
    clusters: Clusters,
    how: How,
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
        value = torch.ones(slot.numel(), dtype=torch.float32, device=slot.device)
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
