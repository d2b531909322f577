"""Pooling by a clustering that is computed."""

from __future__ import annotations

import math

import pytest
import torch

from hierpool import Assignment, multilevel_clusters, sparse_pool
from hierpool.nn import DETPool, get_pooler
from tests.selection.graphs import drawn_batch


@pytest.mark.parametrize("objective", ["modularity", "cut"])
def test_the_supernodes_are_the_clusters(objective: str) -> None:
    for seed in range(30):
        graph, rng = drawn_batch(seed)
        x = torch.randn(graph.num_nodes, 3, dtype=torch.float64)
        sizes = graph.ptr.diff().tolist()
        ratio, k = rng.choice([0.07, 0.25, 1.0]), rng.choice([None, 1, 4])
        pool = DETPool(ratio, k=k, objective=objective, seed=seed)
        out = pool(x, graph)
        counts = [math.ceil(ratio * n) if k is None else min(n, k) for n in sizes]
        assert out.graph.ptr.diff().tolist() == counts
        wanted = torch.tensor(counts).clamp(min=1)
        clusters = multilevel_clusters(graph, wanted, objective=objective, seed=seed)
        expected = sparse_pool(x, graph, Assignment.from_clusters(clusters, graph), loops="drop")
        assert torch.equal(out.x, expected.x)
        assert torch.equal(out.graph.to_dense()[0], expected.graph.to_dense()[0])


def test_the_name_and_bad_arguments() -> None:
    assert isinstance(get_pooler("det", k=4), DETPool)
    assert repr(get_pooler("det", in_channels=5, ratio=0.3)).startswith(
        "DETPool(ratio=0.3, objective='modularity'"
    )
    with pytest.raises(
        ValueError, match=r"ratio must be in \(0, 1\], got 4; give k for a number of clusters"
    ):
        DETPool(4)
    with pytest.raises(ValueError, match="objective must be 'modularity' or 'cut', got 'ncut'"):
        DETPool(objective="ncut")
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        DETPool(k=0)
