"""Metrics of clusterings: formulas, values of other libraries, and special cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics


def make_graph(seed: int, *, directed: bool = False, weighted: bool = True) -> tuple[RaggedGraph, Tensor]:
    """A graph of 30 nodes with self-loops, in float64, and five clusters of which one is empty."""
    generator = torch.Generator().manual_seed(seed)
    adj = torch.rand(30, 30, generator=generator, dtype=torch.float64)
    adj = torch.where(adj < 0.2, 5 * adj if weighted else torch.ones_like(adj), 0)
    adj = adj if directed else torch.maximum(adj, adj.t())
    labels = torch.tensor([0, 1, 2, 4])[torch.randint(4, (30,), generator=generator)]
    return RaggedGraph.from_dense(adj if weighted else adj.bool()), labels


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("chunk", [7, 1 << 22])
def test_modularity_and_conductance_are_their_formulas(
    directed: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_CHUNK", chunk)
    graph, labels = make_graph(1, directed=directed)
    adj = graph.to_dense()[0]
    one = torch.nn.functional.one_hot(labels, 5).double()
    total, out, into = adj.sum(), adj.sum(1), adj.sum(0)
    expected = ((adj - torch.outer(out, into) / total) * (one @ one.t())).sum() / total
    assert metrics.modularity(graph, labels) == pytest.approx(expected.item(), rel=1e-12)
    both = adj + adj.t()
    cut = torch.einsum("ik,ij,jk->k", one, both, 1 - one)
    volume = both.sum(1) @ one
    conductance = metrics.conductance(graph, labels)
    torch.testing.assert_close(
        conductance, cut / torch.minimum(volume, volume.sum() - volume), equal_nan=True
    )
    assert conductance.isnan().tolist() == [False, False, False, True, False]
    torch.testing.assert_close(metrics.pooled_weights(graph, labels, 5), one.t() @ adj @ one)


def test_values_of_networkx() -> None:
    nx = pytest.importorskip("networkx", reason="networkx is not installed")
    for directed in (False, True):
        graph, labels = make_graph(2, directed=directed)
        adj = graph.to_dense()[0]
        adj.fill_diagonal_(0)  # libraries differ in how often an undirected self-loop counts
        graph = RaggedGraph.from_dense(adj)
        theirs = nx.from_numpy_array(adj.numpy(), create_using=nx.DiGraph if directed else nx.Graph)
        parts = [set((labels == c).nonzero().flatten().tolist()) for c in labels.unique()]
        expected = nx.algorithms.community.modularity(theirs, parts)
        assert metrics.modularity(graph, labels) == pytest.approx(expected, rel=1e-12)
        if not directed:
            ours = metrics.conductance(graph, labels)[labels.unique()].tolist()
            assert ours == pytest.approx([nx.conductance(theirs, part, weight="weight") for part in parts])


def test_order_of_nodes_of_an_unsorted_batch() -> None:
    graph, labels = make_graph(3, weighted=False)
    edges, _ = graph.to_edge_index()
    shuffled = RaggedGraph.from_edge_index(
        torch.cat([edges, edges], 1)[:, : graph.num_edges], 30, batch=torch.arange(30) % 1
    )
    assert metrics.modularity(shuffled, labels) == pytest.approx(metrics.modularity(graph, labels))
    two = RaggedGraph.from_edge_index(
        torch.tensor([[0, 2, 1, 3], [2, 0, 3, 1]]), batch=torch.tensor([1, 0, 1, 0])
    )
    assert two.order is not None
    assert metrics.modularity(two, torch.tensor([0, 1, 0, 1])) == pytest.approx(0.5)
    assert metrics.modularity(two, torch.tensor([0, 0, 1, 1])) == pytest.approx(-0.5)


def test_labels_of_any_size() -> None:
    graph, labels = make_graph(4)
    large = (labels + 3) * 10**12
    assert metrics.modularity(graph, large) == metrics.modularity(graph, labels)
    other = (labels * 7) % 3
    expected = metrics.normalized_mutual_information(labels, other)
    assert metrics.normalized_mutual_information(large, other) == expected
    assert metrics.normalized_mutual_information(other, large) == pytest.approx(expected, rel=1e-12)


def test_perfect_and_trivial_clusterings() -> None:
    adj = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4))
    graph = RaggedGraph.from_dense(adj)
    halves, whole = torch.arange(8) // 4, torch.zeros(8, dtype=torch.int64)
    assert metrics.modularity(graph, halves) == pytest.approx(0.5)
    assert metrics.conductance(graph, halves).tolist() == [0.0, 0.0]
    assert metrics.modularity(graph, whole) == pytest.approx(0.0)
    assert metrics.conductance(graph, whole).isnan().all()
    empty = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 8)
    assert metrics.modularity(empty, halves) == 0.0
    assert metrics.conductance(empty, halves).isnan().all()


@pytest.mark.parametrize("seed", range(3))
def test_mutual_information_is_that_of_scikit_learn(seed: int) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    generator = torch.Generator().manual_seed(seed)
    a = torch.randint(9, (500,), generator=generator)
    noise = torch.randint(7, (500,), generator=generator)
    b = torch.where(torch.rand(500, generator=generator) < 0.3 * seed, noise, a * 5 % 11).to(torch.int32)
    expected = sklearn.normalized_mutual_info_score(a, b)
    assert metrics.normalized_mutual_information(a, b) == pytest.approx(expected, rel=1e-12)
    assert metrics.normalized_mutual_information(b, a) == pytest.approx(expected, rel=1e-12)


def test_mutual_information_of_equal_and_independent_clusterings() -> None:
    a = torch.arange(12) % 4
    assert metrics.normalized_mutual_information(a, (a + 3) % 4 * 10) == pytest.approx(1.0)
    assert metrics.normalized_mutual_information(a, torch.arange(12) // 4) == pytest.approx(0.0, abs=1e-12)
    one = torch.zeros(12, dtype=torch.int64)
    assert metrics.normalized_mutual_information(one, one) == 1.0
    assert metrics.normalized_mutual_information(a, one) == 0.0


def test_bad_labels() -> None:
    graph, labels = make_graph(0)
    with pytest.raises(ValueError, match=r"labels must have shape \[N\] = \[30\], got \(29,\)"):
        metrics.modularity(graph, labels[:29])
    with pytest.raises(TypeError, match=r"labels must have an integer dtype, got torch\.float32"):
        metrics.conductance(graph, labels.float())
    with pytest.raises(ValueError, match="first must not be negative, got -1"):
        metrics.normalized_mutual_information(labels - 1, labels)
    with pytest.raises(ValueError, match=r"same shape \[N\], N at least 1, got \(0,\) and \(0,\)"):
        metrics.normalized_mutual_information(labels[:0], labels[:0])
    with pytest.raises(ValueError, match=r"second must have shape \[N\], got \(30, 1\)"):
        metrics.normalized_mutual_information(labels, labels[:, None])


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_that_are_no_cluster_of_the_pooled_graph(label: int) -> None:
    """Their weights would be added to those of other pairs."""
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    with pytest.raises(ValueError, match=r"labels must (not be negative|be less than k = 2), got"):
        metrics.pooled_weights(graph, torch.tensor([0, 1, label]), 2)
    with pytest.raises(ValueError, match=r"labels must have shape \[N\] = \[3\], got \(2,\)"):
        metrics.pooled_weights(graph, torch.tensor([0, 1]), 2)
