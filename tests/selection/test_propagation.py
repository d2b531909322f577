"""Labels that spread from some nodes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.selection import propagate
from tests.selection.graphs import alone, drawn_batch
from tests.support.tgp import import_tgp


def some_labels(graph: RaggedGraph, seed: int) -> Tensor:
    """Some nodes of each graph, numbered in a drawn order."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.full((graph.num_nodes,), -1)
    for b in range(graph.num_graphs):
        nodes = (graph.batch == b).nonzero()[:, 0]
        nodes = nodes[torch.randperm(nodes.numel(), generator=generator)][: seed % 4]
        label[nodes] = torch.arange(nodes.numel())
    return label


def test_labels_are_those_of_a_plain_loop_and_backends_agree() -> None:
    for seed in range(150):
        graph, rng = drawn_batch(seed)
        label, hops = some_labels(graph, seed), rng.choice([1, 2, 5])
        found = propagate(graph, label, hops=hops, seed=seed)
        assert torch.equal(propagate(graph, label, hops=hops, seed=seed, backend="reference"), found)
        expected = label.tolist()
        edges = graph.to_edge_index()[0].T.tolist()
        for _ in range(hops):
            brought: dict[int, list[int]] = {}
            for i, j in edges:
                if expected[i] >= 0 and expected[j] < 0:
                    brought.setdefault(j, []).append(expected[i])
            for j, labels in brought.items():
                expected[j] = min(set(labels), key=lambda one, all=labels: (-all.count(one), one))
        reached = torch.tensor(expected) >= 0
        assert torch.equal(found[reached], torch.tensor(expected)[reached])
        for b in range(graph.num_graphs):
            own = graph.batch == b
            largest = int(label[own].max()) if bool(own.any()) else -1
            assert bool(((found[own] >= min(largest, 0)) & (found[own] <= largest)).all())


def test_labels_are_those_of_torch_geometric_pool() -> None:
    """Where all nodes are reached."""
    assignments = import_tgp("tgp.utils.ops").get_assignments
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        ring = torch.stack([torch.arange(40), torch.arange(40).roll(-1)])
        ends = torch.cat([ring, torch.randint(40, (2, 30), generator=generator)], 1).unique(dim=1)
        kept = torch.randperm(40, generator=generator)[:15]
        theirs = assignments(kept, edge_index=ends, max_iter=50, batch=torch.zeros(40, dtype=torch.int64))
        theirs = theirs[1][theirs[0].argsort()]
        label = torch.full((40,), -1).index_copy(0, kept, torch.arange(15))
        ours = propagate(RaggedGraph.from_edge_index(ends, 40).with_value(None), label, hops=50)
        # Theirs are numbered again.
        assert torch.equal(ours[:, None] == ours, theirs[:, None] == theirs)


def test_labels_do_not_depend_on_the_batch() -> None:
    for seed in range(0, 200, 4):
        graph, _ = drawn_batch(seed)
        label = some_labels(graph, seed + 3)
        found = propagate(graph, label, hops=2, seed=3)
        for b in range(graph.num_graphs):
            one, nodes = alone(graph, b)
            assert torch.equal(found[nodes], propagate(one, label[nodes], hops=2, seed=3))


def test_bad_arguments_are_named() -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]))
    label = torch.tensor([0, -1])
    with pytest.raises(ValueError, match="label must be at least -1, got -2"):
        propagate(graph, label - 1)
    with pytest.raises(ValueError, match=r"label must have shape \[N\] = \[2\], got \(1,\)"):
        propagate(graph, label[:1])
    with pytest.raises(TypeError, match="label must"):
        propagate(graph, label.float())
    with pytest.raises(ValueError, match="hops must be at least 1, got 0"):
        propagate(graph, label, hops=0)
    assert propagate(graph, label, hops=10**30).tolist() == [0, 0]
