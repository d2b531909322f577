"""Batches of nodes of one graph."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from hierpool.clustering.features import NodeInputs
from hierpool.clustering.shared import Graph, count_nodes
from hierpool.contract import entries_of
from hierpool.data.loader import epoch_generator
from hierpool.distributed import ShardedGraph
from hierpool.distributed.partition import Kept
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


def sampled(
    graph: Graph, inputs: NodeInputs, batch_nodes: int, seed: int, epoch: int, start: int = 0
) -> Iterator[tuple[Graph, NodeInputs]]:
    """The subgraphs of the batches of a pass and their inputs; if several processes share the graph, the part of each.

    Without batches, the graph itself.
    """
    nodes = count_nodes(graph)
    if count_batches(nodes, batch_nodes) == 1:
        yield graph, inputs
    elif isinstance(graph, RaggedGraph):
        for index in batches(nodes, batch_nodes, seed, epoch, start):
            yield induced_subgraph(graph, index), inputs.rows(index)
    else:
        for kept in _kept(graph, batch_nodes, seed, epoch, start):
            yield graph.induced(kept), inputs.rows(kept.own)


def _kept(graph: ShardedGraph, batch_nodes: int, seed: int, epoch: int, start: int) -> Iterator[Kept]:
    """What this process has to know of each batch; numbers of all nodes are in memory before the first one only."""
    count, n = count_batches(graph.total_nodes, batch_nodes), graph.total_nodes
    batch, number = (torch.empty(n, dtype=torch.int32) for _ in range(2))
    for i, index in enumerate(batches(n, batch_nodes, seed, epoch)):
        batch[index] = i
        number[index] = torch.arange(index.numel(), dtype=torch.int32)
    bounds = graph.offsets.tolist()
    sizes = [batch[low:high].bincount(minlength=count) for low, high in pairwise(bounds)]
    offsets = torch.cat([torch.zeros(1, count, dtype=torch.int64), torch.stack(sizes).cumsum(0)])
    own = batch[graph.low : graph.low + graph.num_nodes].clone()
    halo, number = batch[graph.halo.nodes], number[graph.halo.nodes]
    del batch
    for i in range(start, count):
        in_halo = halo == i
        yield Kept(own == i, in_halo, offsets[:, i].contiguous(), number[in_halo].long())


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
