"""Graphs that workloads are made of: batches of data sets, random batches and large random graphs, all seeded.

Sizes and adjacency are the data; features and logits are drawn from a normal distribution, as they would come out of a
network's embedding and assignment layers. Functions called without a request return ``build(request)``. Large
graphs have no edge weights and no duplicate edges.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import NormalDist

import torch
from torch import Tensor

from bench.harness.workload import Request, Unavailable
from bench.ops.batches import Batch, SparseBatch, builder, draw, generator, make_batch, make_sparse
from hierpool.data import DatasetError, load_tu

Sparse = Callable[[Request], SparseBatch]


@builder
def tu_batch(request: Request, name: str, count: int) -> Batch:
    """A random batch of graphs of a TU data set, padded to the largest of them, N, with K = N / 4 and F = 64."""
    known = name == "MUTAG"  # comes with grakel; the others would be fetched from the network
    if request.data_root is None and not known:
        raise Unavailable(f"{name}: give --data-root or set HIERPOOL_DATA (a folder with tu/{name}/raw)")
    try:
        graphs = load_tu(name, None if known else request.data_root).graphs
    except (DatasetError, ImportError) as error:
        raise Unavailable(str(error)) from error
    picked = torch.randperm(len(graphs), generator=torch.Generator().manual_seed(request.seed))[:count]
    chosen = [graphs[i] for i in picked.tolist()]
    sizes = [graph.x.size(0) for graph in chosen]
    n = max(sizes)
    adj = torch.zeros(len(chosen), n, n)
    for one, graph in zip(adj, chosen, strict=True):
        one[tuple(graph.edge_index)] = 1.0
    return make_batch(adj, sizes, 64, max(1, n // 4), torch.equal(adj, adj.mT), request.seed)


# ---- synthetic -----------------------------------------------------------------------------------------------------

# Log-normal quantiles with these parameters give 20 sizes from 127 to 629 that add up to 6118 nodes, and 2.505 edges
# a node about 30650 entries: the totals of a batch of 20 protein graphs of the D&D data set.
DND_MU, DND_SIGMA, DND_EDGES_PER_NODE = 5.646, 0.40716, 2.505


def dnd_like(request: Request) -> Batch:
    """20 undirected random graphs with the sizes (log-normal, heavy tail) and the mean degree (5) of D&D."""
    quantiles = [NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)]
    sizes = tuple(round(math.exp(DND_MU + DND_SIGMA * z)) for z in quantiles)
    gen = torch.Generator().manual_seed(request.seed)
    n = max(sizes)
    adj = torch.zeros(len(sizes), n, n)
    for i, size in enumerate(sizes):
        row, col = torch.triu_indices(size, size, offset=1)
        edge = torch.randperm(row.numel(), generator=gen)[: round(DND_EDGES_PER_NODE * size)]
        adj[i, row[edge], col[edge]] = 1.0
    return make_batch(adj + adj.mT, sizes, 64, n // 4, True, request.seed)


# ---- large graphs ---------------------------------------------------------------------------------------------------


def random_pairs(nodes: int, count: int, gen: torch.Generator, *, ordered: bool) -> Tensor:
    """``count`` different pairs of different nodes in random order, ``[2, count]``; ascending unless ``ordered``."""
    if count > nodes * (nodes - 1) // (1 if ordered else 2):
        raise ValueError(f"{nodes} nodes have fewer than {count} pairs")
    keys = torch.empty(0, dtype=torch.int64)
    while keys.numel() < count:
        i, j = torch.randint(nodes, (2, count - keys.numel() + count // 8 + 8), generator=gen)
        if not ordered:
            i, j = torch.minimum(i, j), torch.maximum(i, j)
        keys = torch.cat([keys, (i * nodes + j)[i != j]]).unique()
    keys = keys[torch.randperm(keys.numel(), generator=gen)[:count]]
    return torch.stack([keys // nodes, keys % nodes])


def random_edges(nodes: int, entries: int, gen: torch.Generator, *, symmetric: bool = True) -> Tensor:
    """A uniformly random graph as ``edge_index [2, entries]`` in random order, both directions if ``symmetric``."""
    if not symmetric:
        return random_pairs(nodes, entries, gen, ordered=True)
    return both_ways(random_pairs(nodes, entries // 2, gen, ordered=False), gen)


def both_ways(ends: Tensor, gen: torch.Generator) -> Tensor:
    """Undirected edges ``[2, m]`` as ``edge_index [2, 2 m]`` in random order."""
    return torch.cat([ends, ends.flip(0)], 1)[:, torch.randperm(2 * ends.size(1), generator=gen)]


@builder
def random_graph(
    request: Request, nodes: int, entries: int, clusters: int = 64, features: int = 64, *, symmetric: bool = True
) -> SparseBatch:  # fmt: skip
    """One uniformly random graph."""
    edges = random_edges(nodes, entries, torch.Generator().manual_seed(request.seed), symmetric=symmetric)
    return make_sparse(edges, (nodes,), features, clusters, symmetric, request.seed)


@builder
def star(request: Request, leaves: int, clusters: int = 64, features: int = 64) -> SparseBatch:
    """One hub and its leaves: half of all entries are in one row."""
    ends = torch.stack([torch.zeros(leaves, dtype=torch.int64), torch.arange(1, leaves + 1)])
    edges = both_ways(ends, torch.Generator().manual_seed(request.seed))
    return make_sparse(edges, (leaves + 1,), features, clusters, True, request.seed)


@builder
def one_huge_many_tiny(
    request: Request, nodes: int, entries: int, tiny: int, clusters: int = 64, features: int = 64
) -> SparseBatch:
    """One uniformly random graph, then ``tiny`` cycles of 10 to 29 nodes."""
    gen = torch.Generator().manual_seed(request.seed)
    sizes = [nodes, *(10 + i % 20 for i in range(tiny))]
    parts, first = [random_pairs(nodes, entries // 2, gen, ordered=False)], nodes
    for size in sizes[1:]:
        ring = torch.arange(size)
        parts.append(torch.stack([ring, ring.roll(-1)]) + first)
        first += size
    return make_sparse(both_ways(torch.cat(parts, 1), gen), sizes, features, clusters, True, request.seed)


# ---- on any device, and on "meta", which has shapes alone; edges are sorted by row, both directions of each ----------


@builder
def dense(
    request: Request, graphs: int, nodes: int, clusters: int, features: int, dtype: torch.dtype = torch.float32,
    density: float = 1.0, symmetric: bool = True,
) -> Batch:  # fmt: skip
    """Graphs of equal size in dense storage: uniform weights, a share ``density`` of them non-zero."""
    shape, gen = (graphs, nodes, nodes), generator(request.seed, request.device)
    adj = 1 - torch.rand(shape, device=request.device, generator=gen)
    if density < 1.0:
        adj *= torch.rand(shape, device=request.device, generator=gen) < density
    adj = (adj.triu() + adj.triu(1).mT if symmetric else adj).to(dtype)
    entries = adj.numel() if density == 1.0 else int(adj.count_nonzero())
    x, logits, grads = draw((graphs, nodes), graphs, nodes, features, clusters, request, dtype)
    return Batch(grads, x.requires_grad_(), (nodes,) * graphs, entries, symmetric, logits, adj)


@builder
def scattered(
    request: Request,
    nodes: int,
    degree: int,
    clusters: int,
    features: int,
    dtype: torch.dtype = torch.float32,
) -> SparseBatch:
    """One graph: every node is joined to ``degree`` others, at random distances on a ring of shuffled nodes."""
    seed, device = request.seed, request.device
    # At least 1 and less than half of the ring, so that no two of the neighbours are one.
    steps = torch.tensor(random.Random(seed).sample(range(1, (nodes + 1) // 2), degree // 2))
    steps = torch.cat([steps, -steps]).to(device)
    order = torch.randperm(nodes, device=device, generator=generator(seed, device))
    place = torch.empty_like(order)
    place[order] = torch.arange(nodes, device=device)
    edges = torch.empty(2, nodes, degree, dtype=torch.int64, device=device)
    rows = max(1, (1 << 26) // degree)
    for first in range(0, nodes, rows):  # sorting a row takes several times its size
        row = torch.arange(first, min(first + rows, nodes), device=device)
        edges[0, row] = row[:, None].expand(-1, degree)
        edges[1, row] = order[(place[row][:, None] + steps) % nodes].sort(-1).values
    return make_sparse(edges.view(2, -1), (nodes,), features, clusters, True, seed, dtype, coalesced=True)


@builder
def rings(
    request: Request, graphs: int, smallest: int, largest: int, clusters: int, features: int
) -> SparseBatch:
    """Graphs of all sizes between two, every node joined to the two nodes before and after it."""
    seed, device = request.seed, request.device
    sizes = tuple(smallest + i % (largest - smallest + 1) for i in range(graphs))
    lengths = torch.tensor(sizes)
    first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)[:, None]
    size = torch.repeat_interleave(lengths, lengths)[:, None]
    row = torch.arange(sum(sizes))[:, None]
    col = first + (row - first + torch.tensor([-2, -1, 1, 2])) % size
    edges = torch.stack([row.expand_as(col), col.sort(-1).values]).flatten(1)
    return make_sparse(edges.to(device), sizes, features, clusters, True, seed, coalesced=True)
