"""Sparse soft assignments: the softmax over the largest logits or over candidates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, soft_pool, sparse_pool, top_m_softmax
from tests.support.assignments import draw

f64 = torch.float64
PTR = torch.tensor([0, 3, 3, 7])
COUNTS = torch.tensor([4, 2, 1])


def logits(n: int = 7, k: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=f64).requires_grad_()


def expected(of: Tensor, m: int, counts: Tensor) -> Tensor:
    """A row for each node, a column for each cluster of the batch."""
    out = of.new_zeros(of.size(0), int(counts.sum()))
    for i in range(of.size(0)):
        graph = int(torch.searchsorted(PTR, i, right=True)) - 1
        best = of[i, : counts[graph]].argsort(descending=True, stable=True)[:m]
        first = int(counts[:graph].sum())
        out[i, first + best] = of[i, best].softmax(0)
    return out


@pytest.mark.parametrize("m", [1, 2, 5, 9])
def test_the_softmax_over_the_largest(m: int) -> None:
    for counts in (COUNTS, torch.full((3,), 5)):
        of = logits()
        s = top_m_softmax(of, PTR, m, num_clusters=counts)
        wanted = expected(of, m, counts)
        torch.testing.assert_close(s.to_dense(), wanted)
        assert torch.equal(s.cluster_ptr.diff(), counts)
        assert s.is_hard == (m == 1)
        up = torch.randn_like(wanted)
        got, plain = (torch.autograd.grad((t * up).sum(), of)[0] for t in (s.to_dense(), wanted))
        torch.testing.assert_close(got, plain)


def test_of_equal_logits_the_first_clusters() -> None:
    s = top_m_softmax(
        torch.tensor([[1.0, 2, 1, 1], [0, 0, 0, 0], [3, torch.nan, 1, 1]]), torch.tensor([0, 3]), 2
    )
    assert s.cluster.tolist() == [0, 1, 0, 1, 0, 1]
    assert s.weight is not None
    assert s.weight.isnan().tolist() == [False] * 4 + [True] * 2


def test_candidates() -> None:
    of = logits(7, 3)
    clusters = torch.tensor(
        [[2, 0, -1], [-1, -1, -1], [1, 3, 0], [0, -1, -1], [0, 1, 4], [4, 2, 3], [1, -1, 0]]
    )
    s = top_m_softmax(of, PTR, candidates=clusters)
    assert s.cluster_ptr.tolist() == [0, 4, 4, 9]
    wanted = torch.zeros(7, 9, dtype=f64)
    for i, row in enumerate(clusters.tolist()):
        there = [j for j, k in enumerate(row) if k >= 0]
        wanted[i, [row[j] + (4 if i > 2 else 0) for j in there]] = of[i, there].softmax(0)
    torch.testing.assert_close(s.to_dense(), wanted)
    (grad,) = torch.autograd.grad((s.to_dense() * torch.randn(7, 9, dtype=f64)).sum(), of)
    assert grad.isfinite().all()
    assert torch.equal(grad[clusters < 0], torch.zeros(int((clusters < 0).sum()), dtype=f64))
    all_of_them = torch.arange(5).expand(7, 5)
    dense = logits()
    one, other = (
        top_m_softmax(dense, PTR, candidates=all_of_them.flip(1), num_clusters=5), top_m_softmax(dense.flip(1), PTR)
    )  # fmt: skip
    assert torch.equal(one.to_dense(), other.to_dense())


def test_nodes_of_an_interleaved_batch_keep_the_callers_order() -> None:
    drawn = next(d for d in map(draw, range(0, 60, 3)) if d.graph.order is not None)
    of = logits(drawn.graph.num_nodes, 3)
    s = top_m_softmax(of, drawn.graph)
    own = s.to_dense().reshape(of.size(0), drawn.graph.num_graphs, 3).sum(1)
    torch.testing.assert_close(own, of.softmax(1))


def test_a_padded_batch() -> None:
    adj = torch.rand(3, 4, 4, dtype=f64)
    mask = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
    of = logits(12, 5).view(3, 4, 5)
    s = top_m_softmax(of, m=2, mask=mask)
    graph = RaggedGraph.from_dense(adj, mask)
    other = top_m_softmax(of[mask.bool()], graph, 2)
    assert torch.equal(s.ptr, graph.ptr)
    assert torch.equal(s.to_dense(), other.to_dense())
    assert torch.equal(top_m_softmax(of, m=2).ptr, torch.tensor([0, 4, 8, 12]))


def test_with_all_clusters_pooling_is_that_of_dense_assignments() -> None:
    """Values and gradients on drawn batches, of X', A' and the assignment."""
    for seed in range(20):
        drawn = draw(seed)
        n, graph = drawn.graph.num_nodes, drawn.graph
        of, x = logits(n, 3, seed), logits(n, 2, seed + 1)
        results = []
        dense = soft_pool(x, graph, of)
        s = top_m_softmax(of, graph)
        coarse = sparse_pool(x, graph, s)
        assert coarse.x is not None
        adj = coarse.graph.to_dense(3)
        for out in ((dense.x.flatten(0, 1), dense.adj), (coarse.x, adj.to(dense.adj.dtype))):
            total = (out[0].sin() * (1 + torch.arange(2))).sum() + out[1].cos().sum()
            results.append((*out, *torch.autograd.grad(total, [of, x])))
        torch.testing.assert_close(*results)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: top_m_softmax(torch.ones(7, 2).long(), PTR), TypeError, "logits must have dtype float32"),
    (lambda: top_m_softmax(torch.ones(6, 2), PTR), ValueError, r"logits must have shape \[N, K\] = \[7, K\]"),
    (lambda: top_m_softmax(torch.ones(7, 2), None), TypeError, "graph must be a RaggedGraph"),
    (lambda: top_m_softmax(torch.ones(1, 7, 2), PTR), ValueError, "graph must be None with logits of a padded"),
    (lambda: top_m_softmax(torch.ones(7, 2), PTR, -1), ValueError, "m must not be negative, got -1"),
    (lambda: top_m_softmax(torch.ones(7, 2), PTR, mask=PTR), ValueError, "mask must be None"),
    (
        lambda: top_m_softmax(torch.ones(7, 2), PTR, num_clusters=3),
        ValueError, "num_clusters must lie between 0 and K = 2",
    ),
    (
        lambda: top_m_softmax(torch.ones(7, 2), PTR, 2, candidates=torch.ones(7, 2).long()),
        ValueError, "m must be None with candidates",
    ),
    (
        lambda: top_m_softmax(torch.ones(7, 2), PTR, candidates=torch.ones(7, 3).long()),
        ValueError, "candidates must have the shape of logits",
    ),
    (
        lambda: top_m_softmax(torch.ones(7, 2), PTR, candidates=torch.ones(7, 2)),
        TypeError, "candidates must have dtype int64 or int32",
    ),
    (
        lambda: top_m_softmax(torch.ones(7, 2), PTR, candidates=torch.ones(7, 2).long()),
        ValueError, "candidates must be different in each row",
    ),
    (
        lambda: top_m_softmax(torch.ones(7, 1), PTR, candidates=torch.arange(7)[:, None], num_clusters=6),
        ValueError, "candidates has 6 in graph 2, which has 6 clusters",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_from_dense_keeps_the_same_entries() -> None:
    of = logits().detach()
    largest = Assignment.from_dense(of.softmax(1), PTR, 2)
    assert torch.equal(largest.cluster, top_m_softmax(of, PTR, 2).cluster)
