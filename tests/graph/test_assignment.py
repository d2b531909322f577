"""Sparse assignments: what every constructor makes of its arguments, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, backends
from hierpool.selection import components, match, mis
from tests.selection.graphs import drawn_batch

f64 = torch.float64
PTR = torch.tensor([0, 3, 3, 7])  # the second graph has no nodes
BATCH = torch.tensor([2, 0, 2, 2, 0, 0, 2])  # the same sizes, interleaved
EDGES = torch.zeros(2, 0, dtype=torch.int64)


@pytest.fixture(params=["reference", "native"], autouse=True)
def assigner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all assignments with one backend."""
    if request.param not in backends.available("graph_assign"):
        pytest.skip(f"the {request.param} backend is not available")
    chosen = backends.module("graph_assign", "cpu", request.param)
    monkeypatch.setattr("hierpool.graph.assignment._backend", lambda device: chosen)


def graph_of(interleaved: bool) -> RaggedGraph:
    if interleaved:
        return RaggedGraph.from_edge_index(EDGES, batch=BATCH, num_graphs=3)
    return RaggedGraph.from_edge_index(EDGES, 7, ptr=PTR)


over = pytest.mark.parametrize("interleaved", [False, True], ids=["", "interleaved"])


def dense_of(pairs: list[tuple[int, int, float]], k: int) -> Tensor:
    out = torch.zeros(7, k, dtype=f64)
    for node, cluster, weight in pairs:
        out[node, cluster] = weight
    return out


def assert_well_formed(s: Assignment, graph: RaggedGraph | None = None) -> None:
    """The arrays agree with each other, and the transpose with them."""
    assert (s.num_nodes, s.num_graphs) == (7, 3)
    assert s.rowptr.dtype == s.cluster.dtype == torch.int32
    assert int(s.cluster_ptr[-1]) == s.num_clusters
    row, cluster = s.row.long(), s.cluster.long()
    assert bool(((row * s.num_clusters + cluster).diff() > 0).all())
    graph_of_node = torch.repeat_interleave(s.ptr.diff())
    assert torch.equal(graph_of_node[row], s.batch[cluster])
    rowptr, node, entry = (t.long() for t in s.transposed())
    assert torch.equal(torch.repeat_interleave(rowptr.diff()), cluster[entry])
    assert torch.equal(row[entry], node)
    assert bool(((cluster[entry] * 7 + node).diff() > 0).all())
    assert s.is_hard == bool((s.rowptr.diff() <= 1).all())
    assert not s.is_injective or bool((rowptr.diff() <= 1).all())
    if s.is_hard:
        assert torch.equal(s.clusters().cluster[row].long(), cluster)
        assert int((s.clusters().cluster >= 0).sum()) == s.num_entries
        assert all(
            torch.equal(one, other) for one, other in zip(s.clusters()[1:], s.transposed(), strict=False)
        )
    if graph is not None and graph.order is not None:
        assert s.order is not None
        assert torch.equal(s.order, graph.order)


@over
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_from_clusters(interleaved: bool, weighted: bool) -> None:
    graph = graph_of(interleaved)
    first = graph.batch.long() == 0
    cluster = torch.full((7,), -1)
    cluster[first] = torch.tensor([1, 0, 1])
    cluster[~first] = torch.tensor([0, 2, -1, 0])
    weight = torch.arange(1.0, 8, dtype=f64) if weighted else None
    s = Assignment.from_clusters(cluster, graph, weight)
    assert_well_formed(s, graph)
    assert s.cluster_ptr.tolist() == [0, 2, 2, 5]
    own = [(i, int(c) + (0 if first[i] else 2)) for i, c in enumerate(cluster) if c >= 0]
    expected = dense_of([(i, c, float(i + 1) if weighted else 1.0) for i, c in own], 5)
    assert torch.equal(s.to_dense().double(), expected)
    assert s.is_hard
    assert not s.is_injective


def test_the_number_of_clusters_may_be_given() -> None:
    cluster = torch.tensor([0, 1, 0, -1, -1, -1, -1], dtype=torch.int32)
    for given, ptr in ((3, [0, 3, 6, 9]), (torch.tensor([2, 0, 1]), [0, 2, 2, 3]), (None, [0, 2, 2, 2])):
        s = Assignment.from_clusters(cluster, PTR, num_clusters=given)
        assert_well_formed(s)
        assert s.cluster_ptr.tolist() == ptr


@over
def test_from_kept(interleaved: bool) -> None:
    graph = graph_of(interleaved)
    index = torch.tensor([5, 2, 4, 0]) if interleaved else torch.tensor([2, 5, 0, 3])
    weight = torch.tensor([0.5, 0.25, 3.0, 2.0], dtype=f64, requires_grad=True)
    s = Assignment.from_kept(index, graph, weight)
    assert_well_formed(s, graph)
    assert s.is_hard
    assert s.is_injective
    assert s.cluster_ptr.tolist() == [0, 2, 2, 4]
    places = [0, 2, 1, 3]  # of the kept nodes of the first graph, then of the others
    expected = dense_of([(int(index[p]), k, 0.0) for k, p in enumerate(places)], 4)
    for k, p in enumerate(places):
        expected[index[p], k] = weight[p].item()
    assert torch.equal(s.to_dense(), expected)
    (grad,) = torch.autograd.grad((s.to_dense() * expected).sum(), weight)
    assert torch.equal(grad, weight)


@over
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
def test_from_heads_and_matching(interleaved: bool, weighted: bool) -> None:
    graph = graph_of(interleaved)
    weight = torch.arange(1.0, 8, dtype=f64, requires_grad=True) if weighted else None
    a, b, c, d, e, f, g = torch.argsort(
        graph.batch, stable=True
    ).tolist()  # three of graph 0, four of graph 2
    head, mate = torch.empty(7, dtype=torch.int32), torch.empty(7, dtype=torch.int64)
    head[[a, b, c, d, e, f, g]] = torch.tensor([c, b, c, g, e, e, g], dtype=torch.int32)
    mate[[a, b, c, d, e, f, g]] = torch.tensor([c, -1, a, g, e, -1, d])  # e has itself
    by_heads, by_pairs = (
        Assignment.from_heads(head, graph, weight),
        Assignment.from_matching(mate, graph, weight),
    )
    for s, cluster_ptr, clusters in (
        (by_heads, [0, 2, 2, 4], [1, 0, 1, 3, 2, 2, 3]),
        (by_pairs, [0, 2, 2, 5], [0, 1, 0, 2, 3, 4, 2]),
    ):
        assert_well_formed(s, graph)
        assert s.is_hard
        assert s.cluster_ptr.tolist() == cluster_ptr
        nodes = zip((a, b, c, d, e, f, g), clusters, strict=True)
        expected = dense_of([(i, k, i + 1 if weighted else 1) for i, k in nodes], cluster_ptr[-1])
        assert torch.equal(s.to_dense().double(), expected)
        if weight is not None:
            (grad,) = torch.autograd.grad((s.to_dense() * expected).sum(), weight)
            assert torch.equal(grad, weight)


def test_selections_are_assignments() -> None:
    graph, _ = drawn_batch(0)
    assert_equal(
        Assignment.from_matching(match(graph), graph), Assignment._from_heads(match(graph), graph, True)
    )
    for head in (mis(graph), components(graph)):
        assert_equal(Assignment.from_heads(head, graph), Assignment._from_heads(head, graph))


def assert_equal(one: Assignment, other: Assignment) -> None:
    assert torch.equal(one.to_dense(), other.to_dense())
    assert torch.equal(one.cluster_ptr, other.cluster_ptr)


@over
def test_from_coo(interleaved: bool) -> None:
    graph = graph_of(interleaved)
    other = graph.batch == 2
    a, b = other.nonzero()[:2, 0].tolist()
    c = int((~other).nonzero()[0])
    node = torch.tensor([b, a, c, a])
    cluster = torch.tensor([2, 1, 0, 0])
    weight = torch.tensor([1.0, 2, 3, 4], dtype=f64, requires_grad=True)
    s = Assignment.from_coo(node, cluster, graph, weight)
    assert_well_formed(s, graph)
    assert not s.is_hard
    assert s.cluster_ptr.tolist() == [0, 1, 1, 4]
    assert torch.equal(s.to_dense(), dense_of([(b, 3, 1.0), (a, 2, 2.0), (c, 0, 3.0), (a, 1, 4.0)], 4))
    assert Assignment.from_coo(node[1:3], cluster[1:3], graph).is_hard


@over
@pytest.mark.parametrize("m", [None, 0, 1, 2, 9])
@pytest.mark.parametrize("threshold", [None, 0.3])
def test_from_dense(interleaved: bool, m: int | None, threshold: float | None) -> None:
    graph = graph_of(interleaved)
    draw = torch.Generator().manual_seed(3)
    s = (
        torch.rand(7, 4, generator=draw, dtype=f64).round(decimals=1).requires_grad_()
    )  # with equal entries and zeros
    counts = torch.tensor([2, 3, 4])
    sparse = Assignment.from_dense(s, graph, m, threshold, counts)
    assert_well_formed(sparse, graph)
    expected = torch.zeros(7, 9, dtype=f64)
    for i in range(7):
        b = int(graph.batch[i])
        row = [(-s[i, k].item(), k) for k in range(int(counts[b]))]
        row = [(v, k) for v, k in row if (v != 0 if threshold is None else -v > threshold)]
        for v, k in sorted(row)[: None if m is None else m]:
            expected[i, k + int(counts[:b].sum())] = -v
    assert torch.equal(sparse.to_dense(), expected)
    (grad,) = torch.autograd.grad(sparse.to_dense().sum(), s)
    assert int(grad.sum()) == sparse.num_entries


@over
def test_from_pyg_select(interleaved: bool) -> None:
    select_of = pytest.importorskip("torch_geometric.nn.pool.select").SelectOutput
    graph = graph_of(interleaved)
    first = (graph.batch == 0).nonzero()[:, 0]
    other = (graph.batch == 2).nonzero()[:, 0]
    node = torch.cat([other[:2], first[:1], first[2:]])
    select = select_of(node, 7, torch.tensor([3, 2, 0, 0]), 4, torch.arange(1.0, 5))
    s = Assignment.from_pyg_select(select, graph)
    assert_well_formed(s, graph)
    assert s.cluster_ptr.tolist() == [0, 2, 2, 4]  # cluster 1 has no nodes
    pairs = zip(node.tolist(), [3, 2, 0, 0], [1.0, 2.0, 3.0, 4.0], strict=True)
    assert torch.equal(s.to_dense().double(), dense_of(list(pairs), 4))


@pytest.mark.parametrize("interleaved", [False, True])
def test_is_saved_and_loaded_without_trust_in_the_file(interleaved: bool, tmp_path: Path) -> None:
    graph = graph_of(interleaved)
    s = Assignment.from_clusters(torch.arange(7) % 2, graph, torch.arange(1.0, 8))
    torch.save(s, tmp_path / "s.pt")
    same = torch.load(tmp_path / "s.pt", weights_only=True)
    assert torch.equal(same.to_dense(), s.to_dense())
    assert all(torch.equal(a, b) for a, b in zip(same.transposed(), s.transposed(), strict=True))


def test_nothing() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    for ptr in (torch.tensor([0]), torch.tensor([0, 0])):
        made = [
            Assignment.from_clusters(none, ptr),
            Assignment.from_kept(none, ptr),
            Assignment.from_heads(none, ptr),
            Assignment.from_matching(none, ptr),
            Assignment.from_coo(none, none, ptr),
            Assignment.from_dense(torch.zeros(0, 0), ptr),
        ]
        for s in made:
            assert (s.num_nodes, s.num_clusters, s.num_entries) == (0, 0, 0)
            assert s.cluster_ptr.tolist() == ptr.tolist()
            assert [t.numel() for t in s.transposed()] == [1, 0, 0]
    s = Assignment.from_clusters(torch.full((7,), -1), PTR)
    assert_well_formed(s)
    assert s.num_clusters == 0


def select(**changes: Any) -> SimpleNamespace:
    fields = {
        "node_index": torch.tensor([0]),
        "cluster_index": torch.tensor([0]),
        "num_nodes": 7,
        "num_clusters": 1,
    }
    return SimpleNamespace(**(fields | changes))


ints = torch.tensor
BAD = [
    (lambda: Assignment.from_clusters([0], PTR), TypeError, "cluster must be a torch.Tensor"),
    (lambda: Assignment.from_clusters(torch.zeros(7), PTR), TypeError, "cluster must have dtype int64 or int32"),
    (lambda: Assignment.from_clusters(ints([0]), PTR), ValueError, r"cluster must have shape \[N\] = \[7\]"),
    (lambda: Assignment.from_clusters(ints([0] * 6 + [-2]), PTR), ValueError, "cluster has -2 in graph 2"),
    (lambda: Assignment.from_clusters(ints([0] * 6 + [4]), PTR, num_clusters=3), ValueError, "has 3 clusters"),
    (lambda: Assignment.from_clusters(ints([0] * 7), PTR, num_clusters=-1), ValueError, "num_clusters must not"),
    (lambda: Assignment.from_clusters(ints([0] * 7), PTR, num_clusters=ints([1])), ValueError, r"\[B\] = \[3\]"),
    (lambda: Assignment.from_clusters(ints([0] * 7), PTR, torch.ones(3)), ValueError, r"weight must have shape \[7\]"),
    (lambda: Assignment.from_clusters(ints([0] * 6 + [2**30]), PTR), ValueError, "or give num_clusters"),
    (lambda: Assignment.from_coo(ints([0]), ints([2**30]), PTR), ValueError, "or give num_clusters"),
    (lambda: Assignment.from_clusters(ints([0]), "graph"), TypeError, "graph must be a RaggedGraph or a tensor"),
    (lambda: Assignment.from_clusters(ints([0]), ints([0, 2, 1])), ValueError, "graph must be pointers"),
    (lambda: Assignment.from_kept(ints([7]), PTR), ValueError, r"index\[0\] is 7, but there are 7 nodes"),
    (lambda: Assignment.from_kept(ints([1, 1]), PTR), ValueError, "index must have different nodes, got 2, of which 1"),
    (lambda: Assignment.from_kept(ints([1]), PTR, torch.ones(2)), ValueError, r"weight must have shape \[1\] like"),
    (lambda: Assignment.from_heads(ints([0] * 6), PTR), ValueError, r"head must have shape \[N\] = \[7\]"),
    (lambda: Assignment.from_heads(ints([0, 0, 0, 3, 3, 3, -1]), PTR), ValueError, r"head\[6\] is -1, but there are 7"),
    (lambda: Assignment.from_heads(ints([0, 0, 0, 0, 4, 5, 6]), PTR), ValueError, r"head\[3\] is 0, of another"),
    (lambda: Assignment.from_heads(ints([0, 2, 0, 3, 4, 5, 6]), PTR), ValueError, r"head\[1\] is 2 and head\[2\] is 0"),
    (lambda: Assignment.from_heads(ints([0] * 3 + [3] * 4), PTR, torch.ones(3)), ValueError, r"\[7\] like the nodes"),
    (lambda: Assignment.from_matching(ints([-2] * 7), PTR), ValueError, r"mate\[0\] is -2, but there are 7 nodes"),
    (lambda: Assignment.from_matching(ints([-1, -1, 3, 2, -1, -1, -1]), PTR), ValueError, "mate.2. is 3, of another"),
    (lambda: Assignment.from_matching(ints([1, 2, 0, -1, -1, -1, -1]), PTR), ValueError, "mate.1. is 2"),
    (lambda: Assignment.from_coo(ints([1, 1]), ints([0, 0]), PTR), ValueError, "got one of node 1 twice"),
    (lambda: Assignment.from_coo(ints([1]), ints([0, 0]), PTR), ValueError, "cluster must have shape"),
    (lambda: Assignment.from_coo(ints([1]), ints([-1]), PTR), ValueError, "cluster has -1 in graph 0"),
    (lambda: Assignment.from_dense(torch.ones(3, 2), PTR), ValueError, r"s must have shape \[N, K\] = \[7, K\]"),
    (lambda: Assignment.from_dense(torch.ones(7, 2, dtype=int), PTR), TypeError, "s must have a floating dtype"),
    (lambda: Assignment.from_dense(torch.ones(7, 2), PTR, m=-1), ValueError, "m must not be negative"),
    (
        lambda: Assignment.from_dense(torch.ones(7, 2), PTR, num_clusters=ints([1, 3, 1])),
        ValueError,
        "num_clusters must lie between 0 and K = 2",
    ),
    (lambda: Assignment.from_pyg_select(1, PTR), TypeError, "select must have node_index"),
    (lambda: Assignment.from_pyg_select(select(num_nodes=3), PTR), ValueError, "num_nodes of select must be 7"),
    (lambda: Assignment.from_pyg_select(select(num_clusters=0), PTR), ValueError, r"cluster_index\[0\] is 0"),
    (
        lambda: Assignment.from_pyg_select(
            select(node_index=ints([0, 5]), cluster_index=ints([0, 0])), PTR
        ),
        ValueError,
        "cluster with nodes of several graphs",
    ),
    (
        lambda: Assignment.from_pyg_select(
            select(node_index=ints([0, 5]), cluster_index=ints([1, 0]), num_clusters=2), PTR
        ),
        ValueError,
        "in the order of their graphs",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_an_assignment_is_moved() -> None:
    """All of its tensors, with gradients to the weights."""
    weight = torch.rand(3, requires_grad=True)
    assignment = Assignment.from_clusters(torch.tensor([0, 1, 0]), torch.tensor([0, 3]), weight)
    assert assignment.to("cpu") is assignment
    moved = assignment.to("meta")
    assert moved.device.type == "meta"
    assert all(t.device.type == "meta" for t in vars(moved).values() if isinstance(t, torch.Tensor))
    assert moved.weight is not None
    assert moved.weight.requires_grad
    assert (moved.num_clusters, moved.is_hard) == (2, True)
