"""Maximal independent sets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.selection import mis
from tests.selection.graphs import alone, drawn_batch
from tests.support.tgp import import_tgp


def priorities(graph: RaggedGraph, kind: int) -> Tensor | None:
    n = graph.num_nodes
    return (None, torch.rand(n), torch.randint(3, (n,)))[kind]


def distances(graph: RaggedGraph) -> Tensor:
    """Number of edges between each pair of nodes, without direction."""
    n = graph.num_nodes
    hops = torch.full((n, n), 10**6)
    row, col = graph.to_edge_index()[0]
    hops[row, col] = hops[col, row] = 1
    hops.fill_diagonal_(0)
    for k in range(n):
        hops = torch.minimum(hops, hops[:, k, None] + hops[None, k])
    return hops


@pytest.mark.parametrize("first", range(0, 100, 25))
def test_the_set_is_that_of_a_pass_over_the_nodes(first: int) -> None:
    for seed in range(first, first + 25):
        torch.manual_seed(seed)
        graph, rng = drawn_batch(seed)
        hops = rng.choice([1, 2, 3])
        priority = torch.rand(graph.num_nodes, dtype=torch.float64)
        near = distances(graph) <= hops
        expected = torch.full((graph.num_nodes,), -1)
        for i in priority.argsort(descending=True).tolist():
            if expected[i] < 0:
                expected[near[i] & (expected < 0)] = i
        assert torch.equal(mis(graph, priority, hops=hops), expected)


def test_backends_agree_and_equal_priorities_do_not_depend_on_the_batch() -> None:
    for seed in range(100):
        torch.manual_seed(seed)
        graph, rng = drawn_batch(seed)
        priority, hops = priorities(graph, seed % 3), rng.choice([1, 2, 3])
        head = mis(graph, priority, hops=hops, seed=seed)
        assert torch.equal(mis(graph, priority, hops=hops, seed=seed, backend="reference"), head)
        for b in range(graph.num_graphs):
            one, nodes = alone(graph, b)
            of_one = None if priority is None else priority[nodes]
            assert torch.equal(head[nodes], nodes[mis(one, of_one, hops=hops, seed=seed)])


def test_backends_agree_on_many_nodes_of_equal_priority() -> None:
    torch.manual_seed(0)
    graph = RaggedGraph.from_edge_index(torch.randint(20_000, (2, 40_000)), 20_000)
    few = torch.randint(3, (20_000,))
    for priority, hops in ((None, 1), (few, 1), (few.double(), 2), (torch.rand(20_000), 1)):
        head = mis(graph, priority, hops=hops)
        assert torch.equal(mis(graph, priority, hops=hops, backend="reference"), head)


def test_the_set_is_that_of_torch_geometric_pool() -> None:
    """Where priorities are distinct and the graph is undirected."""
    kmis = import_tgp("tgp.select.kmis_select")
    for seed in range(20):
        torch.manual_seed(seed)
        ends = torch.randint(60, (2, 90))
        ends = torch.cat([ends, ends.flip(0)], 1)
        graph = RaggedGraph.from_edge_index(ends, 60)
        priority = torch.rand(60)
        for hops in (1, 2):
            order = priority.argsort(descending=True)
            members = kmis.maximal_independent_set(graph.to_edge_index()[0], hops, order, 60)
            assert torch.equal(mis(graph, priority, hops=hops) == torch.arange(60), members)


def test_bad_arguments_are_named() -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ValueError, match="hops must be at least 1, got 0"):
        mis(graph, hops=0)
    with pytest.raises(
        ValueError, match=r"priority must have shape \[2\], one score for each node, got \[1\]"
    ):
        mis(graph, torch.zeros(1))
    with pytest.raises(TypeError, match="hops must be an int, got float"):
        mis(graph, hops=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seed must be an int, got str"):
        mis(graph, seed="1")  # type: ignore[arg-type]
    assert torch.equal(mis(graph, hops=10**30, seed=2**64 - 1), mis(graph, hops=2, seed=-1))
