"""The Kron reduction, against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, kron
from tests.selection.graphs import drawn_batch
from tests.selection.test_spectral import dense, undirected


def complement(adj: Tensor, kept: Tensor) -> Tensor:
    """The weights of the Schur complement of a Laplacian, of nodes in the order of ``kept``."""
    laplacian = adj.sum(1).diag() - adj
    gone = torch.ones(len(adj), dtype=torch.bool).index_fill(0, kept, False).nonzero()[:, 0]
    inner, edges = laplacian[gone][:, gone], laplacian[gone][:, kept]
    solved = torch.linalg.pinv(inner, hermitian=True, rtol=1e-11) @ edges
    return (edges.T @ solved - laplacian[kept][:, kept]).fill_diagonal_(0)


def drawn(seed: int) -> tuple[RaggedGraph, Tensor, Assignment, Tensor]:
    """A graph, its dense matrix, some of its nodes, and these nodes in the order of the result."""
    graph, rng = drawn_batch(seed)
    if graph.value is not None:
        graph = graph.with_value(graph.value.double())
    torch.manual_seed(seed)
    nodes = torch.randperm(graph.num_nodes)[: int(rng.random() * graph.num_nodes)]
    assignment = Assignment.from_kept(nodes, graph)
    node = assignment.clusters().node.long()
    return graph, dense(graph), assignment, node if graph.order is None else graph.order[node]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_weights_are_those_of_the_dense_complement(backend: str) -> None:
    for seed in range(200):
        graph, adj, assignment, node = drawn(seed)
        found = kron(graph, assignment, backend=backend)
        expected = complement(adj, node)
        ends, value = found.to_edge_index()
        assert value is not None
        whole = torch.zeros_like(expected).index_put(tuple(ends), value.double())
        tolerance = 1e-12 if graph.dtype else 1e-6  # without weights, results are float32
        error = (whole - expected).abs().sum()
        assert float(error) <= tolerance * (1 + float(adj.sum()))
        assert found.is_symmetric
        assert torch.equal(whole, whole.T)
        assert torch.equal(found.ptr, assignment.cluster_ptr)
        assert found.dtype is (graph.dtype or torch.float32)


def test_small_entries_are_left_out_after_the_elimination() -> None:
    for seed in range(50):
        graph, _, assignment, _ = drawn(seed)
        whole, some = kron(graph, assignment), kron(graph, assignment, threshold=0.3)
        assert whole.value is not None
        large = whole.value > 0.3
        assert torch.equal(some.col, whole.col[large])
        assert torch.equal(some.value, whole.value[large])  # type: ignore[arg-type]


def test_resistances_of_a_long_path_and_a_component_without_kept_nodes() -> None:
    n = 5000
    graph = undirected([(i, i + 1) for i in range(n - 1)] + [(n, n + 1)], n + 2)
    found = kron(graph, Assignment.from_kept(torch.tensor([n - 1, 0]), graph))
    assert found.to_edge_index()[0].tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(found.value, torch.full((2,), 1 / (n - 1)))


def test_results_do_not_depend_on_threads_and_weights_keep_their_range() -> None:
    torch.manual_seed(0)
    ends = torch.randint(3000, (2, 6000))
    graph = undirected(ends.T.tolist(), 3000)
    tiny = graph.with_value(torch.full((graph.num_edges,), 1e-20), symmetric=True)
    kept = Assignment.from_kept(torch.randperm(3000)[:2000], graph)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = kron(tiny, kept)
        torch.set_num_threads(8)
        found = kron(tiny, kept)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found.col, expected.col)
    assert torch.equal(found.value, expected.value)  # type: ignore[arg-type]
    ones = kron(graph.with_value(torch.ones(graph.num_edges), symmetric=True), kept)
    torch.testing.assert_close(found.value, ones.value * 1e-20, rtol=1e-6, atol=0)  # type: ignore[operator]


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_bad_arguments_are_named(backend: str) -> None:
    star = undirected([(0, i) for i in range(1, 9)], 9)
    leaves = Assignment.from_kept(torch.arange(1, 9), star)
    with pytest.raises(ValueError, match="adds at most max_entries=55 entries, but it would add 56"):
        kron(star, leaves, max_entries=55, backend=backend)
    assert kron(star, leaves, max_entries=56, backend=backend).num_edges == 56
    with pytest.raises(ValueError, match="assignment must have one node for each cluster"):
        kron(star, Assignment.from_clusters(torch.zeros(9, dtype=torch.int64), star), backend=backend)
    with pytest.raises(ValueError, match="graph must have finite weights that are not negative"):
        kron(star.with_value(-torch.ones(16)), leaves, backend=backend)
    with pytest.raises(ValueError, match="threshold must be a finite number that is not negative, got -1"):
        kron(star, leaves, threshold=-1, backend=backend)
    with pytest.raises(TypeError, match="graph must be a RaggedGraph, got Tensor"):
        kron(torch.zeros(2, 2), leaves, backend=backend)  # type: ignore[arg-type]
