"""Candidates for the clusters of a node."""

from __future__ import annotations

import pytest
import torch

from hierpool import RaggedGraph, heavy_edge_clusters
from hierpool.selection import cluster_candidates
from tests.support.assignments import draw


def by_hand(graph: RaggedGraph, cluster: list[int], i: int, m: int) -> list[int]:
    edge_index, value = graph.to_edge_index()
    weight: dict[int, float] = {}
    for e, (row, col) in enumerate(edge_index.T.tolist()):
        if row == i and cluster[col] >= 0:
            weight[cluster[col]] = weight.get(cluster[col], 0) + (1 if value is None else float(value[e]))
    own = [cluster[i]] if cluster[i] >= 0 else []
    others = sorted((k for k in weight if k not in own), key=lambda k: (-weight[k], k))
    found = (own + others)[:m]
    return found + [-1] * (m - len(found))


def test_own_cluster_first_then_those_of_the_heaviest_edges() -> None:
    for seed in range(40):
        graph = draw(seed).graph
        random = torch.Generator().manual_seed(seed)
        cluster = torch.randint(-1, 5, (graph.num_nodes,), generator=random)
        for m in (1, 3, 6):
            got = cluster_candidates(graph, cluster, m)
            assert got.tolist() == [by_hand(graph, cluster.tolist(), i, m) for i in range(graph.num_nodes)]


def test_of_a_matching() -> None:
    graph = draw(1).graph
    cluster = heavy_edge_clusters(graph, 2)
    assert torch.equal(cluster_candidates(graph, cluster, 2)[:, 0], cluster)


def test_bad_arguments() -> None:
    graph = draw(2).graph
    cluster = torch.zeros(graph.num_nodes, dtype=torch.int64)
    with pytest.raises(TypeError, match="graph must be a RaggedGraph, got int"):
        cluster_candidates(1, cluster, 2)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        cluster_candidates(graph, cluster, 0)
    with pytest.raises(ValueError, match=r"cluster must have shape \[N\]"):
        cluster_candidates(graph, cluster[:-1], 2)
    with pytest.raises(ValueError, match=r"graph.value must not contain NaN"):
        cluster_candidates(graph.with_value(torch.full((graph.num_edges,), torch.nan)), cluster, 2)
