"""Batches of nodes of one graph."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hierpool.data.graphs import epoch_generator
from hierpool.graph import RaggedGraph


def count_batches(num_nodes: int, batch_nodes: int) -> int:
    """Steps in a pass over the nodes."""
    return max(1, -(-num_nodes // batch_nodes))


def batches(num_nodes: int, batch_nodes: int, seed: int, epoch: int, start: int = 0) -> Iterator[Tensor]:
    """The batches of a pass over the nodes from number ``start`` on, ascending int64 ``[batch_nodes or fewer]``.

    They depend on the seed and the epoch alone, and differ in size by at most one.
    """
    order = torch.randperm(num_nodes, generator=epoch_generator(seed, epoch))
    for index in order.tensor_split(count_batches(num_nodes, batch_nodes))[start:]:
        yield index.sort().values


def induced_subgraph(graph: RaggedGraph, nodes: Tensor) -> RaggedGraph:
    """The graph of some nodes and the entries between them.

    Of a random share p of the nodes, it has a share of p^2 of the entries on average, of which every node and every
    pair of clusters has its part: losses that are quotients of sums over entries keep their values on average.

    Args:
        graph: one undirected graph of N nodes.
        nodes: ascending, int64 ``[n]``.
    """
    number = torch.full((graph.num_nodes,), -1, dtype=graph.col.dtype)
    number[nodes] = torch.arange(nodes.numel(), dtype=graph.col.dtype)
    first = graph.rowptr[nodes].long()
    count = graph.rowptr[nodes + 1].long() - first
    row = torch.repeat_interleave(torch.arange(nodes.numel()), count)
    entry = torch.arange(row.numel()) + (first - (count.cumsum(0) - count))[row]
    col = number[graph.col[entry].long()]
    kept = col >= 0
    rowptr = torch.zeros(nodes.numel() + 1, dtype=graph.rowptr.dtype)
    rowptr[1:] = row[kept].bincount(minlength=nodes.numel()).cumsum(0)
    value = None if graph.value is None else graph.value[entry[kept]]
    return RaggedGraph.from_csr(rowptr, col[kept], value, symmetric=graph.is_symmetric, is_coalesced=True)
