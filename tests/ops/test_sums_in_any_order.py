"""Sums of weights that lose digits: the result of a symmetric graph is symmetric, bit for bit."""

from __future__ import annotations

import pytest
import torch

from hierpool import Assignment, RaggedGraph, sparse_pool

RANGES = {"equal": 0.0, "short": 5.0, "long": 60.0}  # of binary exponents


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("nodes", [40, 400])
def test_sums_are_symmetric(nodes: int, span: str, dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(nodes)
    edges = torch.randint(nodes, (2, 8 * nodes), generator=random)
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    low, high = edges.sort(0).values
    drawn = torch.rand(2, nodes, nodes, generator=random, dtype=torch.float64)
    weight = (drawn[0, low, high] * 2 ** (RANGES[span] * (drawn[1, low, high] - 0.5))).to(dtype)
    weight = torch.where(low == high, 0, weight)  # also a weight of 0
    graph = RaggedGraph.from_edge_index(edges, nodes, edge_weight=weight)
    assert graph.is_symmetric
    assignment = Assignment.from_clusters(torch.randint(-1, nodes // 4, (nodes,), generator=random), graph)
    pooled = sparse_pool(None, graph, assignment).graph
    dense = pooled.to_dense()[0]
    assert torch.equal(dense, dense.T)
    s = assignment.to_dense().double()
    rtol = 2 * torch.finfo(dtype).eps + 64 * torch.finfo(torch.float64).eps
    expected = s.T @ graph.to_dense()[0].double() @ s
    torch.testing.assert_close(dense.double(), expected, rtol=rtol, atol=0)
