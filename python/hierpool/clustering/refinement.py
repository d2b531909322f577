"""Refinement of the clusters of a network by moves of nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool._hashes import mix
from hierpool.clustering.shared import Graph, whole_graph
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.selection import multilevel_clusters

_WHOLE_ENTRIES = 1 << 22  # up to which one process refines a graph that several share
_ROUNDS = 30
_LINKS = 1 << 19  # elements of a block of nodes and clusters
_LEAST = 1e-5  # gain of modularity in a round


def refine(graph: Graph, clusters: Tensor, k: int, *, seed: int = 0) -> Tensor:
    """Clusters of a larger modularity, by moves of nodes and of groups of nodes between at most ``k`` clusters.

    Old and new clusters have the same number where they have the most nodes in common.

    If several processes share the graph, all call the function with the clusters of their nodes. The first process
    moves the nodes of a graph of up to four million entries, as if it were alone. In a larger graph, each process moves
    single nodes of its own.

    Args:
        graph: one undirected graph.
        clusters: cluster of each node, int64 ``[N]`` from 0 to ``k - 1``.
        k: the largest number of clusters.
        seed: seed of the order of moves.

    Returns:
        int64 ``[N]``, from 0 to ``k - 1``.
    """
    if not isinstance(graph, RaggedGraph):
        return _refine_shared(graph, clusters, k, seed)
    refined = multilevel_clusters(graph, k, start=clusters, seed=seed)
    pair, count = (refined * k + clusters).unique(return_counts=True)
    number, free = [-1] * k, [True] * k
    for one in pair[count.argsort(descending=True, stable=True)].tolist():
        new, old = divmod(one, k)
        if number[new] < 0 and free[old]:
            number[new], free[old] = old, False
    unused = (old for old in range(k) if free[old])
    return torch.tensor([next(unused) if old < 0 else old for old in number])[refined]


def _refine_shared(graph: ShardedGraph, clusters: Tensor, k: int, seed: int) -> Tensor:
    """:func:`refine` for a graph that several processes share."""
    if graph.total_edges > _WHOLE_ENTRIES:
        return _moved(graph, clusters, k, seed)
    whole, before = whole_graph(graph), graph.gather(clusters, dst=0)
    return graph.scatter(None if whole is None else refine(whole, before, k, seed=seed))


def _moved(graph: ShardedGraph, clusters: Tensor, k: int, seed: int) -> Tensor:
    r"""Clusters after rounds in which half of the nodes move to the cluster that increases the modularity most.

    Moving node i with degree :math:`d_i` from cluster c to k changes :math:`W Q / 2` by
    :math:`l_{ik} - l_{ic} - d_i (v_k - v_c + d_i) / W`, with the weight :math:`l_{ik}` of its edges to cluster k. All
    nodes of a round see the clusters before it. The half depends on the round, the node and the seed.

    Source: Blondel et al., "Fast unfolding of communities in large networks", J. Stat. Mech. 2008, for the gain;
    Staudt, Meyerhenke, "Engineering parallel algorithms for community detection in massive networks", IEEE TPDS 27,
    2016.
    """
    degree = graph.degree.double()
    weight = graph.total(degree.sum())
    best, modularity = clusters, -float("inf")
    for step in range(_ROUNDS):
        volume = graph.total(clusters.bincount(degree, minlength=k))
        of_halo = graph.halo.rows(clusters)
        moved, inside = clusters.clone(), degree.new_zeros(())
        turn = mix(graph.nodes ^ mix(torch.tensor(seed * _ROUNDS + step))) & 1 == 0
        width = max(_LINKS // k, 1)
        for start in range(0, graph.num_nodes, width):
            rows = slice(start, min(start + width, graph.num_nodes))
            own, d = clusters[rows, None], degree[rows, None]
            links = _links(graph, clusters, of_halo, rows, k)
            kept = links.gather(1, own)
            inside += kept.sum()
            gain = links - kept - d * (volume - volume[own] + d) / weight
            gain.scatter_(1, own, 0)
            value, target = gain.max(1)
            moved[rows] = torch.where((value > 0) & turn[rows], target, clusters[rows])
        found = float(graph.total(inside) / weight - (volume / weight).square().sum())
        if found > modularity:
            best = clusters
        if found < modularity + _LEAST:
            break
        clusters, modularity = moved, found
    return best


def _links(graph: ShardedGraph, clusters: Tensor, of_halo: Tensor, rows: slice, k: int) -> Tensor:
    """The weight of the edges between each of some nodes and each cluster, float64 ``[rows, k]``."""
    inner, outer, border = graph.blocks
    first, last = (int(place) for place in torch.searchsorted(border, torch.tensor([rows.start, rows.stop])))
    out = torch.zeros((rows.stop - rows.start) * k, dtype=torch.float64)
    parts = zip(
        graph.blocks.parts(graph.value), ((inner, rows.start, rows.stop), (outer, first, last)), strict=True
    )
    for (value, (block, low, high)), label in zip(parts, (clusters, of_halo), strict=True):
        start, stop = int(block.rowptr[low]), int(block.rowptr[high])
        row = torch.repeat_interleave(block.rowptr[low : high + 1].diff())
        row = row if block is inner else border[low + row] - rows.start
        weights = None if value is None else value[start:stop].double()
        place = row * k + label[block.col[start:stop].long()]
        out += place.bincount(weights, minlength=out.numel())
    return out.view(-1, k)
