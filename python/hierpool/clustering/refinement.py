"""Refinement of the clusters of a network by moves of nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.selection import multilevel_clusters


def refine(graph: RaggedGraph, clusters: Tensor, k: int, *, seed: int = 0) -> Tensor:
    """Clusters of a larger modularity, by moves of nodes and of groups of nodes between at most ``k`` clusters.

    Old and new clusters have the same number where they have the most nodes in common.

    Args:
        graph: one undirected graph.
        clusters: cluster of each node, int64 ``[N]`` from 0 to ``k - 1``.
        k: the largest number of clusters.
        seed: seed of the order of moves.

    Returns:
        int64 ``[N]``, from 0 to ``k - 1``.
    """
    refined = multilevel_clusters(graph, k, start=clusters, seed=seed)
    pair, count = (refined * k + clusters).unique(return_counts=True)
    number, free = [-1] * k, [True] * k
    for one in pair[count.argsort(descending=True, stable=True)].tolist():
        new, old = divmod(one, k)
        if number[new] < 0 and free[old]:
            number[new], free[old] = old, False
    unused = (old for old in range(k) if free[old])
    return torch.tensor([next(unused) if old < 0 else old for old in number])[refined]
