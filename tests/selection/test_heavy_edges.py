"""Clusters by matching along heavy edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, heavy_edge_clusters
from hierpool.nn import DiffPool, SelectOutput
from hierpool.selection import heavy_edges
from tests.support.ragged import both_forms

SIZES = (12, 1, 30, 5, 2)


def of_each(graph: RaggedGraph, clusters: Tensor) -> list[Tensor]:
    return list(clusters.split(graph.ptr.diff().tolist()))


@pytest.mark.parametrize("k", [1, 2, 4, 7, 40])
@pytest.mark.parametrize("directed", [False, True])
def test_every_graph_has_k_clusters_or_one_for_each_node(k: int, directed: bool) -> None:
    graph = both_forms(SIZES, weighted=True, directed=directed).graph
    clusters = heavy_edge_clusters(graph, k)
    for size, part in zip(SIZES, of_each(graph, clusters), strict=True):
        assert part.unique().tolist() == list(range(min(size, k)))


def test_clusters_do_not_depend_on_the_rest_of_the_batch() -> None:
    batch = both_forms(SIZES, weighted=True)
    together = of_each(batch.graph, heavy_edge_clusters(batch.graph, 3))
    for b, size in enumerate(SIZES):
        alone = RaggedGraph.from_dense(batch.adj[b, :size, :size])
        assert torch.equal(heavy_edge_clusters(alone, 3), together[b])


def test_clusters_are_in_the_callers_order() -> None:
    edges = torch.tensor([[0, 2, 1, 4, 3, 5], [2, 0, 4, 1, 5, 3]])
    batch = torch.tensor([0, 1, 0, 1, 1, 1])
    graph = RaggedGraph.from_edge_index(edges, 6, batch=batch)
    clusters = heavy_edge_clusters(graph, 2)
    assert clusters[0] != clusters[2]  # as many as nodes
    assert clusters[1] == clusters[4] != clusters[3] == clusters[5]


def test_heavy_edges_come_first() -> None:
    """Three heavy pairs are matched first, then the two pairs with the heavier edge between them."""
    adj = torch.zeros(6, 6)
    for i, j, weight in ((0, 1, 9), (2, 3, 8), (4, 5, 9), (1, 2, 2), (3, 4, 1)):
        adj[i, j] = adj[j, i] = weight
    graph = RaggedGraph.from_dense(adj)
    assert heavy_edge_clusters(graph, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert heavy_edge_clusters(graph, 2).tolist() == [0, 0, 0, 0, 1, 1]


def test_clusters_of_a_connected_graph_are_connected() -> None:
    n = 40
    ring = torch.arange(n)
    edges = torch.stack([torch.cat([ring, ring.roll(1)]), torch.cat([ring.roll(1), ring])])
    clusters = heavy_edge_clusters(RaggedGraph.from_edge_index(edges, n), 6)
    changes = int((clusters != clusters.roll(1)).sum())
    assert changes == clusters.unique().numel() == 6


def test_clusters_without_edges_are_merged() -> None:
    adj = torch.zeros(7, 7)
    adj[0, 1] = adj[1, 0] = 1
    clusters = heavy_edge_clusters(RaggedGraph.from_dense(adj), 3)
    assert clusters[0] == clusters[1]
    assert sorted(clusters.bincount().tolist()) == [2, 2, 3]


def test_a_fixed_assignment_pools_as_the_contracted_graph() -> None:
    batch = both_forms(SIZES, weighted=True)
    clusters = heavy_edge_clusters(batch.graph, 4)
    so = SelectOutput.from_clusters(clusters, 4, batch.graph)
    out = DiffPool(4, 4, link_loss=None, entropy=False).double()(batch.nodes, batch.graph, so=so)
    first = 0
    for b, size in enumerate(SIZES):
        of = clusters[first : first + size]
        expected = torch.zeros(4, 4, dtype=torch.float64)
        expected.index_put_((of[:, None], of[None, :]), batch.adj[b, :size, :size], accumulate=True)
        torch.testing.assert_close(out.adj[b], expected)
        first += size


@pytest.mark.parametrize("nodes", [0, 1])
def test_graphs_of_one_node_and_of_none(nodes: int) -> None:
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), nodes)
    assert heavy_edge_clusters(graph, 2).tolist() == [0] * nodes


def test_bad_arguments_are_named() -> None:
    graph = both_forms((3,)).graph
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        heavy_edge_clusters(graph, 0)
    with pytest.raises(TypeError, match="k must be an int, got float"):
        heavy_edge_clusters(graph, 2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="graph must be a RaggedGraph, got Tensor"):
        heavy_edge_clusters(torch.zeros(3, 3), 2)  # type: ignore[arg-type]
    negative = RaggedGraph.from_dense(-torch.ones(2, 2))
    with pytest.raises(ValueError, match="graph must have weights that are not negative"):
        heavy_edge_clusters(negative, 1)


def test_leaves_join_their_hub_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matching merges one of them in a level: a pass over the edges for each leaf."""
    leaves = 20_000
    ends = torch.stack([torch.zeros(leaves, dtype=torch.int64), torch.arange(1, leaves + 1)])
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1))
    levels: list[int] = []
    real = heavy_edges.match
    monkeypatch.setattr(heavy_edges, "match", lambda level: levels.append(level.num_nodes) or real(level))
    clusters = heavy_edge_clusters(graph, 10)
    assert sorted(clusters.bincount().tolist()) == [1] * 9 + [leaves - 8]
    assert len(levels) < 10
