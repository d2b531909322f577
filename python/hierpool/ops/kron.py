"""The Kron reduction of a batch of graphs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.facts import normally
from hierpool.graph.undirected import undirected
from hierpool.ops.sparse_pool import sparse_pool


def kron(
    graph: RaggedGraph,
    assignment: Assignment,
    *,
    threshold: float = 0.0,
    max_entries: int = 1 << 26,
    backend: str = "auto",
) -> RaggedGraph:
    r"""Eliminate nodes of graphs, so that those that are kept have the same effective resistances.

    .. math:: L' = L_{++} - L_{+-} L_{--}^{-1} L_{-+}, \qquad A' = \operatorname{diag}(L') - L'

    where :math:`L = D - A` is divided by the nodes that are kept (+) and eliminated (-). Two nodes that are kept become
    neighbours if they were, or if a path over eliminated nodes joins them. A connected part of eliminated nodes with
    :math:`b` neighbours that are kept adds :math:`b (b - 1)` entries; one without such neighbours is dropped. Parts are
    eliminated one by one. The result is exactly symmetric, and does not depend on the number of threads. It has no
    gradient.

    Args:
        graph: :math:`A`, with weights that are not negative. Of the two directions of an edge, the larger weight
            counts. Self-loops are ignored.
        assignment: the nodes that are kept, as of :meth:`hierpool.Assignment.from_kept`; its weights are ignored.
        threshold: leave out entries with at most this weight, after the elimination.
        max_entries: largest number of entries that the elimination may add.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        The graph of the nodes that are kept, with weights in the dtype of those of ``graph``, or float32.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``assignment`` is not of this graph or merges nodes, a weight is negative, infinite or NaN, or the
            elimination would add more than ``max_entries`` entries.

    Source: Dörfler and Bullo, "Kron Reduction of Graphs with Applications to Electrical Networks", IEEE TCAS-I 60, 2013
    (arXiv:1102.2950).
    """
    if not math.isfinite(threshold) or threshold < 0:
        raise ValueError(f"threshold must be a finite number that is not negative, got {threshold}")
    if isinstance(graph, RaggedGraph):
        if graph.edge_attr is not None:
            raise ValueError("graph must not have edge_attr: paths over other nodes have no features")
        dtype = torch.float32 if graph.dtype is None else graph.dtype
        graph = undirected(graph)
    kept = sparse_pool(None, graph, assignment, loops="drop", weights="keep").graph
    _check_injective(assignment)
    module: Any = backends.module("kron", graph.device.type, backend)
    place = assignment.clusters().cluster.to(graph.col.dtype)
    fill = normally(module.fill, graph.rowptr, graph.col, graph.value, place, max_entries)
    if fill.size > max_entries:
        raise ValueError(
            f"assignment must keep nodes such that the elimination of the others adds at most"
            f" max_entries={max_entries} entries, but it would add {fill.size}"
        )
    return normally(_joined, kept, fill.row, fill.col, fill.value, threshold, dtype)


def _check_injective(assignment: Assignment) -> None:
    if not assignment.is_injective and not bool((assignment.transposed()[0].diff() == 1).all()):
        raise ValueError("assignment must have one node for each cluster")


def _joined(
    kept: RaggedGraph, row: Tensor, col: Tensor, value: Tensor, threshold: float, dtype: torch.dtype
) -> RaggedGraph:
    """The graph with more entries, without small ones."""
    own = value.new_ones(kept.num_edges) if kept.value is None else kept.value
    ends = torch.cat([torch.stack([kept.row, kept.col]), torch.stack([row, col])], 1)
    n, ptr = kept.num_nodes, kept.ptr
    weight = torch.cat([own, value])
    whole = RaggedGraph.from_edge_index(ends, n, edge_weight=weight, ptr=ptr, symmetric=True)
    assert whole.value is not None
    large = whole.value > threshold
    ends = torch.stack([whole.row, whole.col])[:, large]
    weight = whole.value[large].to(dtype)
    return RaggedGraph.from_edge_index(
        ends, n, edge_weight=weight, ptr=ptr, symmetric=True, is_coalesced=True
    )
