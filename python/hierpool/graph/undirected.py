"""The weights of a graph as those of undirected edges."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import index_dtype
from hierpool.graph.facts import normally
from hierpool.graph.ragged import RaggedGraph


def undirected(graph: RaggedGraph) -> RaggedGraph:
    """A symmetric graph with weights in float64, or none: the larger one of those of both directions, detached.

    Raises:
        ValueError: a weight is negative, infinite or NaN.
    """
    value = graph.value
    if value is not None:
        value = value.detach()
        if not bool((value >= 0).all() & value.isfinite().all()):
            raise ValueError("graph must have finite weights that are not negative")
        value = value.double()
    if graph.is_symmetric:
        return RaggedGraph(graph.rowptr, graph.col, value, graph.ptr, graph.order, True)
    rowptr, col, value = normally(_larger, graph, value)
    return RaggedGraph(rowptr, col, value, graph.ptr, graph.order, True)


def _larger(graph: RaggedGraph, value: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    row, col, n = graph.row.long(), graph.col.long(), max(graph.num_nodes, 1)
    keys, place = torch.unique(torch.cat([row * n + col, col * n + row]), return_inverse=True)
    dtype = index_dtype(graph.num_nodes, keys.numel())
    rowptr = torch.searchsorted(keys, torch.arange(graph.num_nodes + 1, device=keys.device) * n).to(dtype)
    if value is not None:
        value = value.new_zeros(keys.numel()).scatter_reduce(0, place, value.repeat(2), "amax")
    return rowptr, (keys % n).to(dtype), value
