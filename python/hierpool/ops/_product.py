"""S^T A S of a soft assignment S as a graph: its structure by a backend, its weights by an operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced
from hierpool.contract import Csr, Loops, index_dtype, sum_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.facts import normally
from hierpool.ops import _checks, triple_product
from hierpool.ops._contraction import not_triton

MAX_ENTRIES = 2**28
"""Entries that a product may have if nothing else is asked for: 2 GiB of columns and weights."""


def multiplied(
    graph: RaggedGraph,
    assignment: Assignment,
    weight: Tensor,
    loops: Loops = Loops.KEEP,
    most: int = MAX_ENTRIES,
    backend: str = "auto",
) -> tuple[RaggedGraph, Tensor | None]:
    """:math:`S^T A S`, and the weights of self-loops that are separate.

    Args:
        graph: A.
        assignment: the structure of S.
        weight: of the entries of S, ``[M]``.
        loops: what becomes of entries on the diagonal.
        most: entries that the product may have.
        backend: of the steps that have it.
    """
    turned: tuple[Any, ...] = ()
    if not graph.is_symmetric and _checks.needs_gradient(weight):
        turned = graph.transposed()
    adj = Csr(graph.value, graph.rowptr, graph.col, *turned)
    return _product(adj, assignment, weight, loops, most, backend, graph.is_symmetric, "S^T A S")


def gram_of(
    assignment: Assignment, weight: Tensor, most: int = MAX_ENTRIES, backend: str = "auto"
) -> RaggedGraph:
    """:math:`S^T S`; see :func:`multiplied`."""
    dtype, device = assignment.cluster.dtype, assignment.device
    if assignment.is_hard:
        k = assignment.num_clusters
        value = sum_by_index(weight.square(), assignment.cluster, k)
        number = torch.arange(k + 1, dtype=dtype, device=device)
        return RaggedGraph(number, number[:-1], value, assignment.cluster_ptr, None, True)
    number = torch.arange(assignment.num_nodes + 1, dtype=dtype, device=device)
    identity = Csr(None, number, number[:-1])
    return _product(identity, assignment, weight, Loops.KEEP, most, backend, True, "S^T S")[0]


def _product(
    adj: Csr,
    assignment: Assignment,
    weight: Tensor,
    loops: Loops,
    most: int,
    backend: str,
    symmetric: bool,
    name: str,
) -> tuple[RaggedGraph, Tensor | None]:
    if is_traced():
        raise RuntimeError(
            f"{name} of an assignment with several clusters for a node cannot be compiled or exported, as its size"
            " depends on values; leave the call out with torch.compiler.disable"
        )
    backend = not_triton(backend)
    s = Csr(None, assignment.rowptr, assignment.cluster, *assignment.transposed())
    dtype = torch.promote_types(adj.col.dtype, s.col.dtype)
    adj, s = _in_dtype(adj, dtype), _in_dtype(s, dtype)
    module: Any = backends.module("graph_product", adj.col.device.type, backend)
    places = normally(module.product, adj, s, loops, most)
    if isinstance(places, int):
        raise ValueError(
            f"max_entries must be at least {places}, the entries of {name} for this assignment of"
            f" {assignment.num_nodes} nodes and {assignment.num_entries} entries to {assignment.num_clusters}"
            f" clusters, got {most}; give each node fewer clusters, or the clusters of its neighbours"
        )
    adj, s = (_in_dtype(one, places.col.dtype) for one in (adj, s))
    options = triple_product.Options(loops, symmetric, backend)
    structure = s.rowptr, s.col, s.rowptr_t, s.col_t, s.value_t
    call = triple_product.Call(weight, adj, *structure, places.rowptr, places.col, options)  # type: ignore[arg-type]
    (value,) = triple_product.OPERATOR(call)
    apart, entries = None, places.col.numel()
    if loops is Loops.SEPARATE:
        value, apart = value[:entries], value[entries:].clone()
    index = index_dtype(assignment.num_clusters, entries)
    arrays = places.rowptr.to(index), places.col.to(index), value, assignment.cluster_ptr, None
    return RaggedGraph(*arrays, True if symmetric else None)._with_symmetry(), apart


def _in_dtype(matrix: Csr, dtype: torch.dtype) -> Csr:
    """The matrix with its indices, and what ``value_t`` holds if it is no weight, in a dtype."""
    return Csr(*(t if t is None or t.is_floating_point() else t.to(dtype) for t in matrix))  # type: ignore[arg-type]
