"""Pooling by assignments with several clusters a node: against dense matrices and SciPy, on every backend."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import sparse
from torch import Tensor
from torch._dynamo.utils import counters

from hierpool import Assignment, RaggedGraph, sparse_pool, sparse_soft_pool, spmm, top_m_softmax
from hierpool.backends.reference import graph_product
from hierpool.data.synthetic import stochastic_block_model
from tests.support.assignments import Drawn, draw
from tests.support.running import both

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
LOOPS = ("keep", "drop", "separate")


def soft(count: int) -> list[Drawn]:
    """Drawn batches in which a node has several clusters."""
    found = [draw(seed, kind="soft") for seed in range(2 * count)]
    return [one for one in found if not one.s.is_hard][:count]


def learned(drawn: Drawn) -> tuple[RaggedGraph, Assignment, list[Tensor]]:
    """The graph and the assignment with weights that need a gradient, and these."""
    s, value = drawn.s, drawn.graph.value
    assert s.weight is not None
    weight = s.weight.detach().requires_grad_()
    arrays = s.rowptr, s.cluster, weight, s.ptr, s.cluster_ptr, s.order, s.num_clusters, False
    if value is None:
        return drawn.graph, Assignment(*arrays), [weight]
    value = value.detach().double().requires_grad_()
    return drawn.graph.with_value(value), Assignment(*arrays), [weight, value]


def dense(graph: RaggedGraph, value: Tensor) -> Tensor:
    k = graph.num_nodes
    return value.new_zeros(k, k).index_put(tuple(graph.to_edge_index()[0]), value)


@both
@pytest.mark.parametrize("loops", LOOPS)
def test_values_and_gradients_are_those_of_dense_matrices(loops: Any, backend: str) -> None:
    for drawn in soft(25):
        graph, s, leaves = learned(drawn)
        _, coarse, apart, _ = sparse_pool(None, graph, s, loops=loops, backend=backend)
        assert coarse.value is not None
        full, a = drawn.s.to_dense().detach().requires_grad_(), drawn.a.clone().requires_grad_()
        expected = full.T @ a @ full
        there = dense(coarse, torch.ones(coarse.num_edges, dtype=f64))
        is_joined = (full.T @ (drawn.a != 0).double() @ full) > 0
        off = torch.ones_like(there) - torch.eye(there.size(0), dtype=f64)
        assert torch.equal(there > 0, is_joined & ((off > 0) if loops != "keep" else True))
        torch.testing.assert_close(dense(coarse, coarse.value), expected * there)
        up, diagonal = torch.randn_like(there), torch.randn(there.size(0), dtype=f64)
        got = (dense(coarse, coarse.value) * up).sum()
        wanted = (expected * there * up).sum()
        if loops == "separate":
            torch.testing.assert_close(apart, expected.diagonal())
            got, wanted = got + (apart * diagonal).sum(), wanted + (expected.diagonal() * diagonal).sum()
        row = drawn.s.row.long() if drawn.s.order is None else drawn.s.order[drawn.s.row.long()]
        ds, da = torch.autograd.grad(wanted, [full, a])
        found = torch.autograd.grad(got, leaves)
        torch.testing.assert_close(found[0], ds[row, drawn.s.cluster.long()])
        if len(found) > 1:
            torch.testing.assert_close(found[1], da[tuple(graph.to_edge_index()[0])])


@pytest.fixture(scope="module")
def large() -> tuple[RaggedGraph, Assignment]:
    """A graph whose entries and terms are cut into several tasks."""
    graph, _ = stochastic_block_model(4000, 20, mean_degree=30, mixing=0.3)
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(4000, 3, generator=random)
    clusters = torch.rand(4000, 500, generator=random).argsort(1)[:, :3]
    weights = 0.5 + torch.rand(graph.num_edges, generator=random)
    both_ways = torch.minimum(graph.row, graph.col).long() * 4000 + torch.maximum(graph.row, graph.col)
    _, pair = both_ways.unique(return_inverse=True)
    graph = graph.with_value(weights[pair], symmetric=True)
    return graph, top_m_softmax(logits, graph, candidates=clusters, num_clusters=500)


def step(graph: RaggedGraph, s: Assignment, backend: str = "auto") -> list[Tensor]:
    """Everything that a step computes."""
    assert s.weight is not None
    weight = s.weight.detach().requires_grad_()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_()
    s = Assignment(s.rowptr, s.cluster, weight, s.ptr, s.cluster_ptr, s.order, s.num_clusters, False)
    graph = graph.with_value(value, symmetric=graph.is_symmetric)
    coarse = sparse_pool(None, graph, s, backend=backend).graph
    assert coarse.value is not None
    up = torch.randn(coarse.num_edges, generator=torch.Generator().manual_seed(2), dtype=f64)
    one = torch.autograd.grad(coarse.value, weight, up.to(coarse.value.dtype), retain_graph=True)
    both_of = torch.autograd.grad(coarse.value, [weight, value], up.to(coarse.value.dtype))
    return [coarse.rowptr, coarse.col, coarse.value.detach(), *one, *both_of]


def test_threads_change_no_bit(large: tuple[RaggedGraph, Assignment]) -> None:
    expected = step(*large)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert all(torch.equal(one, other) for one, other in zip(step(*large), expected, strict=True))


def test_the_product_is_that_of_scipy_and_exactly_symmetric(large: tuple[RaggedGraph, Assignment]) -> None:
    graph, s = large
    rowptr, col, value, *grads = step(graph, s)
    a = sparse.csr_matrix((graph.value.double(), graph.col, graph.rowptr))  # type: ignore[union-attr]
    x = sparse.csr_matrix((s.weight.detach().double(), s.cluster, s.rowptr))  # type: ignore[union-attr]
    expected = (x.T @ a @ x).tocsr()
    expected.sort_indices()
    assert (rowptr.numpy() == expected.indptr).all()
    assert (col.numpy() == expected.indices).all()
    torch.testing.assert_close(value.double(), torch.from_numpy(expected.data), rtol=3e-7, atol=0)
    turned = sparse.csr_matrix((value, col, rowptr)).T.tocsr()
    turned.sort_indices()
    assert (turned.data == value.numpy()).all()
    assert (turned.indices == col.numpy()).all()
    torch.testing.assert_close(grads[0], grads[1])  # with and without the gradient of A
    for got, plain in zip(grads, step(graph, s, "reference")[3:], strict=True):
        torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-4)


def test_rows_that_would_take_much_memory_are_not_made() -> None:
    """Many clusters a node: other terms, the same results."""
    random = torch.Generator().manual_seed(1)
    n, k = 60, 16
    graph = RaggedGraph.from_dense(torch.rand(n, n, generator=random, dtype=f64))
    s = top_m_softmax(torch.randn(n, k, generator=random, dtype=f64), graph)
    assert graph.num_edges * k > 4 * (graph.num_edges + s.num_entries)
    for got, plain in zip(step(graph, s), step(graph, s, "reference"), strict=True):
        torch.testing.assert_close(got, plain)


def test_a_row_with_more_columns_than_16_bits_count() -> None:
    n = 2**16 + 50
    ends = torch.stack([torch.zeros(n - 1, dtype=torch.int64), torch.arange(1, n)])
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), n, symmetric=True)
    graph = graph.with_value(torch.rand(n - 1, dtype=f64).repeat(2), symmetric=True)
    second = torch.where(torch.arange(n) == 0, 1, -1)
    s = top_m_softmax(
        torch.randn(n, 2, dtype=f64), graph, candidates=torch.stack([torch.arange(n), second], 1)
    )
    for got, plain in zip(step(graph, s), step(graph, s, "reference"), strict=True):
        torch.testing.assert_close(got, plain)


def test_the_parts_of_the_reference_make_the_whole(
    large: tuple[RaggedGraph, Assignment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_product, "_TERMS", 5000)
    for got, expected in zip(step(*large, "reference")[:2], step(*large)[:2], strict=True):
        assert torch.equal(got, expected)


@both
@pytest.mark.parametrize("dtype", [f32, bf16, f16])
def test_precision(dtype: torch.dtype, backend: str) -> None:
    """At most twice the error of the dense product in the same dtype, and a rounding."""
    for drawn in soft(8):
        assert drawn.s.weight is not None
        arrays = drawn.s.ptr, drawn.s.cluster_ptr, drawn.s.order, drawn.s.num_clusters, False
        rounded = Assignment(drawn.s.rowptr, drawn.s.cluster, drawn.s.weight.to(dtype), *arrays)
        s = rounded.to_dense()
        value = None if drawn.graph.value is None else drawn.graph.value.to(dtype)
        graph = drawn.graph if value is None else drawn.graph.with_value(value)
        coarse = sparse_pool(None, graph, rounded, backend=backend).graph
        assert coarse.value is not None
        assert coarse.value.dtype == dtype
        a = drawn.a.to(dtype)
        exact, plain = s.double().T @ a.double() @ s.double(), s.T @ a @ s
        scale = float(exact.abs().max()) if exact.numel() else 0.0
        error, allowed = (
            float((t.double() - exact).abs().max()) if t.numel() else 0.0
            for t in (dense(coarse, coarse.value), plain)
        )
        assert error <= 2 * allowed + 2 * torch.finfo(dtype).eps * scale


@both
def test_features(backend: str) -> None:
    for drawn in soft(6):
        x = torch.randn(drawn.graph.num_nodes, 3, dtype=f64)
        member = (drawn.s.to_dense() != 0).double()
        size = member.sum(0).clamp(min=1)[:, None]
        s = drawn.s.to_dense()
        got = {
            how: sparse_pool(x, drawn.graph, drawn.s, reduce=how, backend=backend).x
            for how in ("sum", "mean")
        }
        torch.testing.assert_close(got["sum"], s.T @ x)
        torch.testing.assert_close(got["mean"], s.T @ x / size)
        terms = torch.where((member > 0)[..., None], s[..., None] * x[:, None], -torch.inf)
        largest = terms.amax(0) if terms.size(0) else torch.zeros(s.size(1), 3, dtype=f64)
        largest = torch.where(largest == -torch.inf, 0, largest)
        torch.testing.assert_close(
            sparse_pool(x, drawn.graph, drawn.s, reduce="max", backend=backend).x, largest
        )


@both
def test_without_weights_and_with_wide_indices(backend: str) -> None:
    for drawn in soft(6):
        s = drawn.s
        plain = Assignment(
            s.rowptr.long(), s.cluster.long(), None, s.ptr, s.cluster_ptr, s.order, s.num_clusters, False
        )
        coarse = sparse_pool(None, drawn.graph, plain, backend=backend).graph
        other = sparse_pool(None, drawn.graph, s, weighted_edges=False, backend=backend).graph
        member = (s.to_dense() != 0).double()
        assert coarse.col.dtype == torch.int32
        for one in (coarse, other):
            assert one.value is not None
            torch.testing.assert_close(dense(one, one.value.double()), member.T @ drawn.a @ member)


@both
def test_too_many_entries_are_refused_before_they_are_made(
    large: tuple[RaggedGraph, Assignment], backend: str
) -> None:
    graph, s = large
    entries = sparse_pool(None, graph, s, backend=backend).graph.num_edges
    assert sparse_pool(None, graph, s, max_entries=entries, backend=backend).graph.num_edges == entries
    with pytest.raises(
        ValueError, match=f"max_entries must be at least {entries}, the entries of S\\^T A S for"
    ):
        sparse_pool(None, graph, s, max_entries=entries - 1, backend=backend)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"edge_reduce": "max"},
        ValueError,
        "edge_reduce must be 'sum' if a node has several clusters, got 'max'",
    ),
    ({"weights": "keep"}, ValueError, "weights must be 'sum' if a node has several clusters, got 'keep'"),
    ({"max_entries": 1.5}, TypeError, "max_entries must be an int, got float"),
    ({"max_entries": -1}, ValueError, "max_entries must not be negative, got -1"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_options(options: dict[str, Any], error: type[Exception], message: str) -> None:
    drawn = soft(1)[0]
    with pytest.raises(error, match=message):
        sparse_pool(None, drawn.graph, drawn.s, **options)


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("what", ["pool", "record"])
@torch.fx.experimental._config.patch(use_duck_shape=False)  # sizes that are equal by chance
def test_compiles_into_one_graph_for_all_sizes(what: str) -> None:
    """The number of entries of the product depends on values, so that the compiler cannot know it."""

    def step(x: Tensor, value: Tensor, weight: Tensor, graph: RaggedGraph, s: Assignment) -> Tensor:
        graph, s = graph.with_value(value, symmetric=False), s.with_weight(weight)
        if what == "pool":
            pooled = sparse_pool(x, graph, s, loops="separate")
            assert pooled.loops is not None
            return spmm(pooled.graph, pooled.x).square().sum() + pooled.loops.square().sum()  # type: ignore[arg-type]
        record = sparse_soft_pool(x, graph, s)
        assert record.gram is not None
        sums = (
            record.x,
            record.adj.degree,
            record.gram.degree,
            record.volume,
            record.trace,
            record.link,
            record.entropy,
        )
        return torch.stack([t.square().sum() for t in sums]).sum()

    compiled: Any = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    chosen = [one for one in soft(20) if one.graph.value is not None and one.graph.order is None]
    for drawn in [one for one in chosen if one.graph.num_graphs > 2][:3]:
        x = torch.randn(drawn.graph.num_nodes, 4, dtype=f64)
        leaves = [x, drawn.graph.value, drawn.s.weight]
        leaves = [t.detach().double().requires_grad_() for t in leaves if t is not None]
        results = [run(*leaves, drawn.graph, drawn.s) for run in (compiled, step)]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*(torch.autograd.grad(t, leaves) for t in results))
    assert counters["stats"]["unique_graphs"] == 1


def test_exporters_are_told_why_not() -> None:
    drawn = soft(1)[0]

    class Net(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sparse_pool(x, drawn.graph, drawn.s).x  # type: ignore[return-value]

    with pytest.raises(Exception, match="cannot be exported, as its size depends on values"):
        torch.export.export(Net(), (torch.ones(drawn.graph.num_nodes, 1),))
