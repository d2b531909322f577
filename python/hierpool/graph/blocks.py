"""Some graphs of a batch as a batch of their own, without a loop over graphs."""

from __future__ import annotations

from torch import Tensor

from hierpool.graph import build
from hierpool.graph.assignment import Assignment
from hierpool.graph.levels import Level
from hierpool.graph.ragged import RaggedGraph
from hierpool.graph.values import Own


def graphs_at(graph: RaggedGraph, index: Tensor) -> tuple[RaggedGraph, Tensor]:
    """The graphs at ``index``, int64 ``[b]``, in this order, and the caller's node of each of their nodes.

    Their nodes are in the order of the matrix, and weights and features are copies, which follow no changes.
    """
    value, attr = graph.value, graph.edge_attr
    has_values = value is not None or attr is not None
    found = build.blocks(graph.rowptr, graph.col, graph.ptr, graph.ptr, index, has_values)
    if found.entry is not None:
        value, attr = (None if t is None else t.index_select(0, found.entry) for t in (value, attr))
    stated = True if graph._stated else None
    chosen = RaggedGraph(
        found.rowptr, found.col, None if value is None else Own(value), found.ptr, None, stated
    )
    # Of a batch that is not symmetric, some graphs may be.
    chosen._with_symmetry(True if graph.is_symmetric else None)._with_attr(attr)
    return chosen, found.row if graph.order is None else graph.order[found.row]


def assignments_at(assignment: Assignment, index: Tensor) -> Assignment:
    """The assignment of the graphs at ``index``, whose nodes are in the order of the matrix."""
    arrays = assignment.rowptr, assignment.cluster, assignment.ptr, assignment.cluster_ptr
    weight = assignment.weight
    rowptr, cluster, ptr, cluster_ptr, _, entry = build.blocks(*arrays, index, weight is not None)
    if weight is not None and entry is not None:
        weight = weight.index_select(0, entry)
    total = int(cluster_ptr[-1])
    kinds = assignment.is_hard, assignment.is_injective
    return Assignment(rowptr, cluster, weight, ptr, cluster_ptr, None, total, *kinds)


def levels_at(levels: tuple[Level, ...], index: Tensor) -> tuple[Level, ...]:
    """The levels of the graphs at ``index``."""
    return tuple(
        Level(assignments_at(level.assignment, index), graphs_at(level.graph, index)[0]) for level in levels
    )
