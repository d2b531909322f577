"""Drawn batches of graphs for the tests of selections."""

from __future__ import annotations

import random

import torch

from hierpool import RaggedGraph


def drawn_batch(seed: int) -> tuple[RaggedGraph, random.Random]:
    """Graphs of 0 to 30 nodes, directed or not, weighted or not, sorted or interleaved, with loops and hubs."""
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = [rng.choice([0, 1, 2, 5, 9, 30]) for _ in range(rng.randint(1, 5))]
    first, edges = 0, []
    for size in sizes:
        if size:
            count = rng.choice([0, size, 3 * size])
            edges.append(first + torch.randint(size, (2, count), generator=generator))
        first += size
    ends = torch.cat(edges, 1) if edges else torch.zeros(2, 0, dtype=torch.int64)
    if rng.random() < 0.5:
        ends = torch.cat([ends, ends.flip(0)], 1)
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = torch.randperm(first, generator=generator) if rng.random() < 0.5 else torch.arange(first)
    ends, batch = order.argsort()[ends], batch[order]
    count = ends.size(1)
    weights = (
        None,
        torch.randint(1, 4, (count,), generator=generator).float(),
        torch.rand(count, generator=generator, dtype=torch.float64),
    )
    graph = RaggedGraph.from_edge_index(
        ends, first, edge_weight=rng.choice(weights), batch=batch, num_graphs=len(sizes)
    )
    return graph, rng


def alone(graph: RaggedGraph, b: int) -> tuple[RaggedGraph, torch.Tensor]:
    """Graph ``b`` of a batch by itself, and the caller's indices of its nodes."""
    nodes = (graph.batch == b).nonzero()[:, 0]
    place = torch.full((graph.num_nodes,), -1).index_copy(0, nodes, torch.arange(nodes.numel()))
    ends, value = graph.to_edge_index()
    inside = place[ends[0]] >= 0
    weight = None if value is None else value[inside]
    return RaggedGraph.from_edge_index(place[ends[:, inside]], nodes.numel(), edge_weight=weight), nodes
