"""Multilevel clustering."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics, multilevel_clusters
from hierpool.data import stochastic_block_model
from tests.selection.graphs import alone, drawn_batch


def goals(graph: RaggedGraph, kind: int) -> dict[str, Any]:
    """Arguments for every kind of clustering."""
    counts = torch.arange(graph.num_graphs) % 4 + 1
    start = torch.arange(graph.num_nodes) % 2
    return (
        {},
        {"num_clusters": 3},
        {"num_clusters": counts, "resolution": 0.5},
        {"num_clusters": 4, "objective": "cut"},
        {"num_clusters": counts, "objective": "cut", "max_imbalance": 0.3},
        {"num_clusters": 3, "max_imbalance": 0.0},
        {"start": start, "resolution": 2},
        {"start": start, "objective": "cut"},
        {"start": start, "num_clusters": 5, "cycles": 1},
    )[kind]


def cut_of(graph: RaggedGraph, clusters: Tensor) -> float:
    row, col = graph.to_edge_index()[0]
    weight = torch.ones(graph.num_edges) if graph.value is None else graph.value
    return float(weight[clusters[row] != clusters[col]].sum())


def ring_of_cliques(cliques: int, size: int) -> RaggedGraph:
    """The nodes of a clique follow each other; its last node is joined with the first of the next clique."""
    inside = torch.tensor([*itertools.permutations(range(size), 2)]).T
    edges = [inside + size * c for c in range(cliques)]
    last = torch.arange(cliques) * size + size - 1
    edges.append(torch.stack([last, (last + 1) % (cliques * size)]))
    edges.append(edges[-1].flip(0))
    return RaggedGraph.from_edge_index(torch.cat(edges, 1), cliques * size)


@pytest.mark.parametrize("kind", range(9))
def test_backends_agree_and_graphs_do_not_depend_on_the_rest_of_the_batch(kind: int) -> None:
    for seed in range(30):
        graph, _ = drawn_batch(seed)
        given = goals(graph, kind)
        clusters = multilevel_clusters(graph, **given, seed=seed)
        assert torch.equal(multilevel_clusters(graph, **given, seed=seed, backend="reference"), clusters)
        for b in range(graph.num_graphs):
            one, nodes = alone(graph, b)
            of_one = {
                name: value[b : b + 1] if name == "num_clusters" and isinstance(value, Tensor) else value
                for name, value in given.items()
            }
            if "start" in given:
                of_one["start"] = given["start"][nodes]
            assert torch.equal(multilevel_clusters(one, **of_one, seed=seed), clusters[nodes])


@pytest.mark.parametrize("objective", ["modularity", "cut"])
@pytest.mark.parametrize("k", [1, 2, 5, 40])
def test_there_are_k_clusters_numbered_by_first_nodes(objective: str, k: int) -> None:
    for seed in range(30):
        graph, _ = drawn_batch(seed)
        clusters = multilevel_clusters(graph, k, objective=objective)
        for b in range(graph.num_graphs):
            found = clusters[graph.batch == b].tolist()
            assert list(dict.fromkeys(found)) == list(range(min(k, len(found))))
            if found and objective == "cut":
                n = len(found)
                assert max(map(found.count, found)) <= max(-(-n // min(k, n)), int(1.03 * n / k))


def test_small_graphs_get_the_best_clustering() -> None:
    """Of all clusterings of seven nodes, and of those in two clusters of bounded size."""
    clusterings = torch.tensor([*itertools.product(range(4), repeat=6)])
    clusterings = torch.cat([torch.zeros(len(clusterings), 1, dtype=torch.int64), clusterings], 1)
    best_cut = best_modularity = 0
    for seed in range(12):
        draw = torch.Generator().manual_seed(seed)
        adj = torch.randint(3, (7, 7), generator=draw).triu(1).double()
        graph = RaggedGraph.from_dense(adj + adj.T)
        same = clusterings[:, :, None] == clusterings[:, None, :]  # [C, N, N]
        degree = graph.degree
        share = (adj + adj.T) / degree.sum() - torch.outer(degree, degree) / degree.sum() ** 2
        found = metrics.modularity(graph, multilevel_clusters(graph))
        best = float((same * share).sum((1, 2)).max())
        assert found <= best + 1e-12
        best_modularity += found > best - 1e-12
        halves = clusterings[(clusterings.max(1).values == 1) & ((clusterings.sum(1) - 3.5).abs() < 1)]
        cuts = ((halves[:, :, None] != halves[:, None, :]) * (adj + adj.T)).sum((1, 2))
        found = cut_of(graph, multilevel_clusters(graph, 2, objective="cut"))
        assert found >= float(cuts.min())
        best_cut += found == float(cuts.min())
    assert best_modularity >= 9
    assert best_cut >= 6


def test_cliques_are_found_exactly() -> None:
    graph = ring_of_cliques(12, 6)
    expected = torch.arange(12).repeat_interleave(6)
    for given in ({}, {"num_clusters": 12}, {"num_clusters": 12, "objective": "cut"}):
        assert torch.equal(multilevel_clusters(graph, **given), expected)
    pairs = multilevel_clusters(graph, 6)
    assert cut_of(graph, pairs) == 12
    assert pairs.bincount().tolist() == [12] * 6


@pytest.mark.parametrize("objective", ["modularity", "cut"])
def test_planted_communities_are_found(objective: str) -> None:
    graph, labels = stochastic_block_model(20_000, 20, mean_degree=12, mixing=0.25, seed=3)
    clusters = multilevel_clusters(graph, 20, objective=objective)
    assert metrics.normalized_mutual_information(clusters, labels) > 0.97
    assert metrics.modularity(graph, clusters) > metrics.modularity(graph, labels)
    assert metrics.modularity(graph, multilevel_clusters(graph)) > 0.99 * metrics.modularity(graph, labels)


def test_modularity_is_at_least_that_of_networkx() -> None:
    """Of the agglomeration of Clauset, Newman and Moore, and nearly that of the best of ten runs of Louvain."""
    networkx = pytest.importorskip("networkx", reason="networkx is not installed")
    named = [
        networkx.karate_club_graph(),
        networkx.les_miserables_graph(),
        networkx.florentine_families_graph(),
    ]
    for one in named:
        one = networkx.convert_node_labels_to_integers(one)
        adj = torch.from_numpy(networkx.to_numpy_array(one, weight="weight"))
        graph = RaggedGraph.from_dense(adj)
        clusters = multilevel_clusters(graph, cycles=5)
        sets = [set((clusters == c).nonzero()[:, 0].tolist()) for c in range(int(clusters.max()) + 1)]
        found = networkx.community.modularity(one, sets, weight="weight")
        assert metrics.modularity(graph, clusters) == pytest.approx(found, abs=1e-12)
        greedy = networkx.community.greedy_modularity_communities(one, weight="weight")
        assert found >= networkx.community.modularity(one, greedy, weight="weight") - 1e-12
        runs = [networkx.community.louvain_communities(one, weight="weight", seed=s) for s in range(10)]
        assert found > 0.99 * max(networkx.community.modularity(one, r, weight="weight") for r in runs)


@pytest.mark.parametrize("objective", ["modularity", "cut"])
def test_a_start_is_never_made_worse(objective: str) -> None:
    graph, labels = stochastic_block_model(3000, 6, mean_degree=10, mixing=0.3, seed=1)
    torch.manual_seed(0)
    noisy = torch.where(torch.rand(3000) < 0.4, torch.randint(6, (3000,)), labels)
    clusters = multilevel_clusters(graph, objective=objective, start=noisy, max_imbalance=None)
    assert metrics.normalized_mutual_information(clusters, labels) > 0.85
    for seed in range(20):
        drawn, rng = drawn_batch(seed)
        if drawn.num_graphs != 1 or not drawn.num_nodes or not drawn.is_symmetric:
            continue
        start = torch.arange(drawn.num_nodes) % rng.choice([1, 2, 3])
        better = multilevel_clusters(drawn, objective=objective, start=start, cycles=1)
        if objective == "cut":
            assert cut_of(drawn, better) <= cut_of(drawn, start)
        else:
            assert metrics.modularity(drawn, better) >= metrics.modularity(drawn, start) - 1e-12


def test_a_start_keeps_its_number_of_clusters_or_gets_up_to_k() -> None:
    graph = ring_of_cliques(8, 5)
    start = torch.arange(40) // 20
    assert int(multilevel_clusters(graph, 2, start=start).max()) == 1
    assert int(multilevel_clusters(graph, start=start, objective="cut").max()) == 1
    assert torch.equal(multilevel_clusters(graph, 8, start=start), torch.arange(40) // 5)
    assert torch.equal(multilevel_clusters(graph, start=start), torch.arange(40) // 5)


@pytest.mark.parametrize("given", [{}, {"num_clusters": 50}, {"num_clusters": 50, "objective": "cut"}])
def test_threads_order_of_edges_and_unit_of_weights_are_of_no_account(given: dict[str, Any]) -> None:
    graph, _ = stochastic_block_model(30_000, 50, mean_degree=8, mixing=0.3, seed=2)
    ends = graph.to_edge_index()[0]
    weight = 0.5 + (ends[0] * ends[1] % 7).double() / 3
    order = torch.randperm(ends.size(1), generator=torch.Generator().manual_seed(0))
    one = RaggedGraph.from_edge_index(ends, edge_weight=weight)
    other = RaggedGraph.from_edge_index(ends[:, order], edge_weight=weight[order] * 2.0**-600)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        clusters = multilevel_clusters(one, **given)
        torch.set_num_threads(3)
        assert torch.equal(multilevel_clusters(one, **given), clusters)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(multilevel_clusters(other, **given), clusters)
    assert not torch.equal(multilevel_clusters(one, **given, seed=1), clusters)


def test_directed_graphs_are_symmetrised_and_zero_weights_are_no_edges() -> None:
    for seed in range(20):
        graph, _ = drawn_batch(seed)
        ends, value = graph.to_edge_index()
        weight = torch.ones(ends.size(1)) if value is None else value
        none = ends[:, :1].flip(0) if ends.size(1) else ends  # of weight 0
        both = torch.cat([ends, ends.flip(0), none, none.flip(0)], 1)
        weights = torch.cat([weight, weight, torch.zeros(2 * none.size(1))])
        batch = {"batch": graph.batch, "num_graphs": graph.num_graphs}
        whole = RaggedGraph.from_edge_index(both, graph.num_nodes, edge_weight=weights, **batch)
        for given in ({}, {"num_clusters": 2}):
            assert torch.equal(multilevel_clusters(graph, **given), multilevel_clusters(whole, **given))


def test_wide_indices() -> None:
    graph = ring_of_cliques(12, 6)
    wide = RaggedGraph(graph.rowptr.long(), graph.col.long(), None, graph.ptr, None, True)
    assert torch.equal(multilevel_clusters(wide, 5), multilevel_clusters(graph, 5))


@pytest.mark.parametrize("kind", ["star", "path", "edgeless"])
def test_time_is_near_linear_on_extreme_graphs(kind: str) -> None:
    n = 100_000
    node = torch.arange(1, n)
    ends = torch.stack([torch.zeros_like(node) if kind == "star" else node - 1, node])[
        :, : 0 if kind == "edgeless" else n
    ]
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), n)
    for given in ({}, {"num_clusters": 7}, {"num_clusters": 7, "objective": "cut"}):
        started = time.perf_counter()
        clusters = multilevel_clusters(graph, **given)
        assert time.perf_counter() - started < 5  # 0.3 s on an idle machine; quadratic: minutes
        if "objective" in given:
            assert int(clusters.bincount().max()) <= 1.03 * n / 7


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"num_clusters": 0}, ValueError, "num_clusters must be at least 1, got 0"),
        ({"num_clusters": 2.0}, TypeError, "num_clusters must be an int, got float"),
        ({"num_clusters": torch.ones(2)}, TypeError, "num_clusters must be an int or an int64 tensor"),
        ({"num_clusters": torch.ones(3).long()}, ValueError, r"num_clusters must have shape \[B\] = \[2\]"),
        ({"num_clusters": torch.tensor([1, 0])}, ValueError, "num_clusters must be at least 1, got 0"),
        ({"objective": "ncut"}, ValueError, "objective must be 'modularity' or 'cut', got 'ncut'"),
        ({"objective": "cut"}, ValueError, "num_clusters must be given with objective='cut'"),
        ({"max_imbalance": 0.1}, ValueError, "num_clusters must be given with max_imbalance"),
        (
            {"num_clusters": 2, "max_imbalance": -1},
            ValueError,
            "max_imbalance must be finite and not negative",
        ),
        ({"resolution": float("inf")}, ValueError, "resolution must be finite and not negative, got inf"),
        ({"cycles": 0}, ValueError, "cycles must be at least 1, got 0"),
        ({"start": [0, 0, 0, 0]}, TypeError, "start must be a torch.Tensor, got list"),
        ({"start": torch.zeros(4)}, TypeError, "start must have an integer dtype, got torch.float32"),
        ({"start": torch.zeros(3).long()}, ValueError, r"start must have shape \[N\] = \[4\], got \[3\]"),
        ({"start": torch.tensor([0, -1, 0, 0])}, ValueError, "start must not be negative, got -1"),
        (
            {"start": torch.tensor([0, 2, 0, 0]), "num_clusters": 2},
            ValueError,
            "start must have integers below",
        ),
    ],
)
def test_bad_arguments_are_named(given: dict[str, Any], error: type[Exception], message: str) -> None:
    edges = torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]])
    graph = RaggedGraph.from_edge_index(edges, 4, ptr=torch.tensor([0, 2, 4]))
    with pytest.raises(error, match=message):
        multilevel_clusters(graph, **given)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_bad_weights_are_named(weight: float) -> None:
    graph = RaggedGraph.from_dense(torch.full((2, 2), weight))
    with pytest.raises(ValueError, match="graph must have weights that are finite and not negative"):
        multilevel_clusters(graph)
