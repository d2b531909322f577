"""Cuts by an eigenvector, and connected components."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.selection import components, spectral_sign
from tests.selection.graphs import alone, drawn_batch
from tests.support.tgp import import_tgp


def dense(graph: RaggedGraph) -> Tensor:
    """The larger weight of both directions of each edge, without loops, in the caller's order."""
    ends, value = graph.to_edge_index()
    weight = torch.ones(graph.num_edges) if value is None else value
    adj = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    adj.index_put_(tuple(ends), weight.double(), accumulate=True)
    return torch.maximum(adj, adj.T).fill_diagonal_(0)


def undirected(ends: list[tuple[int, int]], n: int) -> RaggedGraph:
    edges = torch.tensor(ends, dtype=torch.int64).view(-1, 2).T
    return RaggedGraph.from_edge_index(torch.cat([edges, edges.flip(0)], 1), n)


def test_backends_agree_and_components_are_those_of_scipy() -> None:
    csgraph = pytest.importorskip("scipy.sparse.csgraph")
    for seed in range(150):
        graph, rng = drawn_batch(seed)
        kept = spectral_sign(graph, seed=seed)
        assert torch.equal(spectral_sign(graph, seed=seed, backend="reference"), kept)
        usable = torch.rand(graph.num_edges) < rng.choice([0.3, 1.0])
        first = components(graph, usable)
        assert torch.equal(components(graph, usable, backend="reference"), first)
        adj = torch.zeros(graph.num_nodes, graph.num_nodes)
        adj[tuple(graph.to_edge_index()[0][:, usable])] = 1
        label = torch.from_numpy(csgraph.connected_components(adj.numpy(), directed=False)[1]).long()
        assert torch.equal(first[:, None] == first, label[:, None] == label)
        assert torch.equal(first[first], first)


def test_every_component_keeps_a_node_and_half_of_its_weight_is_cut() -> None:
    for seed in range(150):
        graph, _ = drawn_batch(seed)
        kept, adj = spectral_sign(graph), dense(graph)
        ends = graph.to_edge_index()[0]
        first = components(graph, adj[tuple(ends)] > 0)
        for head in first.unique().tolist():
            own = first == head
            assert bool(kept[own].any())
            assert bool(kept[own].all()) == (int(own.sum()) == 1)
            weights = adj[own][:, own]
            assert float(weights[kept[own]][:, ~kept[own]].sum()) >= 0.2499999 * float(weights.sum())


def test_parts_are_the_signs_of_the_eigenvector() -> None:
    compared = 0
    for seed in range(300):
        graph, _ = drawn_batch(seed)
        adj, kept = dense(graph), spectral_sign(graph)
        first = components(graph, adj[tuple(graph.to_edge_index()[0])] > 0)
        for head in first.unique().tolist():
            nodes = (first == head).nonzero()[:, 0]
            weights = adj[nodes][:, nodes]
            if nodes.numel() < 3:
                continue
            scale = weights.sum(1).rsqrt()
            values, vectors = torch.linalg.eigh(scale[:, None] * weights * scale)
            vector = vectors[:, 0]
            if values[1] - values[0] < 1e-3 or vector.abs().min() < 1e-4:
                continue
            side = vector * vector[vector.abs().argmax()].sign() > 0
            if float(weights[side][:, ~side].sum()) < 0.25 * float(weights.sum()):
                continue
            own = kept[nodes]
            assert torch.equal(own, side) or torch.equal(own, ~side)
            compared += 1
    assert compared > 100


def test_parts_are_those_of_torch_geometric_pool() -> None:
    """Of connected graphs with one largest eigenvalue."""
    select = import_tgp("tgp.select.ndp_select").NDPSelect()
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        ring = torch.stack([torch.arange(30), torch.arange(30).roll(-1)])
        ends = torch.cat([ring, torch.randint(30, (2, 12), generator=generator)], 1)
        ends = ends[:, ends[0] != ends[1]]
        ends = torch.cat([ends, ends.flip(0)], 1).unique(dim=1)
        theirs = torch.zeros(30, dtype=torch.bool)
        torch.manual_seed(0)
        theirs[select(ends, num_nodes=30).node_index] = True
        ours = spectral_sign(RaggedGraph.from_edge_index(ends, 30))
        assert torch.equal(ours, theirs) or torch.equal(ours, ~theirs)


def test_parts_do_not_depend_on_the_batch_or_on_threads() -> None:
    for seed in range(0, 200, 4):
        graph, _ = drawn_batch(seed)
        kept = spectral_sign(graph, seed=3)
        for b in range(graph.num_graphs):
            one, nodes = alone(graph, b)
            assert torch.equal(kept[nodes], spectral_sign(one, seed=3))
    torch.manual_seed(0)
    ends = torch.randint(2000, (2, 3000))
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), 2000)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_thread = spectral_sign(graph)
        torch.set_num_threads(8)
        assert torch.equal(spectral_sign(graph), one_thread)
    finally:
        torch.set_num_threads(threads)


def test_small_graphs() -> None:
    star = undirected([(0, i) for i in range(1, 9)], 9)
    assert spectral_sign(star).tolist() == [True] + [False] * 8  # the hub, whichever the seed
    assert torch.equal(spectral_sign(star, seed=7), spectral_sign(star))
    path = undirected([(i, i + 1) for i in range(6)], 7)
    assert spectral_sign(path).tolist() in ([True, False] * 3 + [True], [False, True] * 3 + [False])
    assert spectral_sign(undirected([], 3)).tolist() == [True] * 3
    complete = undirected([(i, j) for i in range(6) for j in range(i)], 6)
    assert 2 <= int(spectral_sign(complete).sum()) <= 4
    loops = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [0, 1]]))
    assert spectral_sign(loops).tolist() == [True, True]


def test_bad_arguments_are_named() -> None:
    graph = undirected([(0, 1)], 2)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="graph must have finite weights that are not negative"):
            spectral_sign(graph.with_value(torch.tensor([weight, weight])))
    with pytest.raises(TypeError, match="graph must be a RaggedGraph, got Tensor"):
        spectral_sign(torch.zeros(2, 2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seed must be an int, got float"):
        spectral_sign(graph, seed=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"usable must be a bool tensor, got torch\.float32"):
        components(graph, torch.ones(2))
    with pytest.raises(ValueError, match=r"usable must have shape \[2\], got \[3\]"):
        components(graph, torch.ones(3, dtype=torch.bool))
