"""Batches of nodes of one graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hierpool.clustering.features import NodeInputs
from hierpool.clustering.shared import Graph
from hierpool.contract import entries_of
from hierpool.data.loader import epoch_generator
from hierpool.graph import RaggedGraph


def count_batches(num_nodes: int, batch_nodes: int) -> int:
    """The number of batches in a pass over the nodes."""
    return max(1, -(-num_nodes // batch_nodes))


def batches(num_nodes: int, batch_nodes: int, seed: int, epoch: int, start: int = 0) -> Iterator[Tensor]:
    """Yield the batches of a pass over the nodes, starting at batch ``start``; ascending int64 node indices.

    Batches depend on the seed and the epoch only. Their sizes differ by at most one and are at most ``batch_nodes``.
    """
    order = torch.randperm(num_nodes, generator=epoch_generator(seed, epoch))
    for index in order.tensor_split(count_batches(num_nodes, batch_nodes))[start:]:
        yield index.sort().values


def sampled(graph: Graph, inputs: NodeInputs, nodes: Tensor) -> tuple[Graph, NodeInputs]:
    """The subgraph of a batch of nodes and their inputs; if several processes share the graph, the part of each."""
    if isinstance(graph, RaggedGraph):
        return induced_subgraph(graph, nodes), inputs.rows(nodes)
    kept = torch.zeros(graph.total_nodes, dtype=torch.bool)
    kept[nodes] = True
    return graph.induced(kept), inputs.rows(kept[graph.low : graph.low + graph.num_nodes])


def induced_subgraph(graph: RaggedGraph, nodes: Tensor) -> RaggedGraph:
    """The subgraph of ``nodes`` and the entries between them.

    A random fraction p of the nodes has a fraction p^2 of the entries on average, evenly over nodes and pairs of
    clusters. Losses that are quotients of sums over entries therefore keep their values on average.

    Args:
        graph: one undirected graph with N nodes.
        nodes: ascending node indices, int64 ``[n]``.
    """
    new_index = torch.full((graph.num_nodes,), -1, dtype=graph.col.dtype)
    new_index[nodes] = torch.arange(nodes.numel(), dtype=graph.col.dtype)
    row, entry = entries_of(graph.rowptr, nodes)
    col = new_index[graph.col[entry].long()]
    inside = col >= 0
    rowptr = torch.zeros(nodes.numel() + 1, dtype=graph.rowptr.dtype)
    rowptr[1:] = row[inside].bincount(minlength=nodes.numel()).cumsum(0)
    value = None if graph.value is None else graph.value[entry[inside]]
    return RaggedGraph.from_csr(rowptr, col[inside], value, symmetric=graph.is_symmetric, is_coalesced=True)
