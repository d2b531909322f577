"""Features of edges that are pooled with the edges: against one matrix for each feature, and PyTorch Geometric."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, sparse_pool
from hierpool.ops.kron import kron
from tests.ops.test_soft_assignments import soft
from tests.ops.test_sparse_pool import expected_edges
from tests.support.assignments import Drawn, draw, with_features
from tests.support.running import both

f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
REDUCTIONS = ("sum", "mean", "max", "min", "mul")


def dense(graph: RaggedGraph, attr: Tensor | None = None) -> Tensor:
    """``[N, N, R]``, differentiable in the features."""
    attr = graph.edge_attr if attr is None else attr
    assert attr is not None
    n = graph.num_nodes
    return attr.new_zeros(n, n, attr.size(1)).index_put(tuple(graph.to_edge_index()[0]), attr)


def learned(drawn: Drawn) -> tuple[RaggedGraph, Tensor]:
    """The graph with features that need a gradient, and these."""
    attr = drawn.graph.edge_attr
    assert attr is not None
    attr = attr.detach().clone().requires_grad_()
    return drawn.graph.with_edge_attr(attr), attr


@both
@pytest.mark.parametrize("how", REDUCTIONS)
def test_features_are_reduced_as_entries_of_a_matrix_each(how: Any, backend: str) -> None:
    """Values and gradients, whatever is taken of the weights."""
    for seed in range(25):
        # Of equal extremes, which both directions of an edge in a cluster would be, the first gets the gradient.
        drawn = with_features(draw(seed), bool(seed % 2) and how not in ("max", "min"))
        graph, attr = learned(drawn)
        a = dense(graph)
        loops: Any = ("keep", "drop", "separate")[seed % 3]
        options: dict[str, Any] = {"loops": loops, "backend": backend}
        options |= ({"edge_reduce": how}, {"edge_reduce": "count", "attr_reduce": how}, {"attr_reduce": how})[
            seed % 3
        ]
        pooled = sparse_pool(None, graph, drawn.s, **options)
        expected, apart = zip(
            *(expected_edges(drawn._replace(a=a[..., r]), how, loops) for r in range(3)), strict=True
        )
        got = dense(pooled.graph)
        torch.testing.assert_close(got, torch.stack(expected, -1))
        up, of_loops = torch.randn_like(got), torch.randn(drawn.s.num_clusters, 3, dtype=f64)
        total, exact = (got * up).sum(), (torch.stack(expected, -1) * up).sum()
        assert (pooled.loop_attr is None) == (loops != "separate")
        if pooled.loop_attr is not None:
            torch.testing.assert_close(pooled.loop_attr, torch.stack(apart, -1))
            total, exact = (
                total + (pooled.loop_attr * of_loops).sum(),
                exact + (torch.stack(apart, -1) * of_loops).sum(),
            )
        if total.requires_grad and exact.requires_grad:
            (d_attr,), (d_a,) = torch.autograd.grad(total, attr), torch.autograd.grad(exact, a)
            torch.testing.assert_close(d_attr, d_a[tuple(graph.to_edge_index()[0])])
        alone = sparse_pool(None, drawn.graph.with_edge_attr(None), drawn.s, **options)
        assert torch.equal(alone.graph.col, pooled.graph.col)
        torch.testing.assert_close(alone.graph.value, pooled.graph.value)


@both
def test_weights_of_both_ends_count_for_features(backend: str) -> None:
    for seed in range(20):
        drawn = with_features(draw(seed))
        pooled = sparse_pool(None, drawn.graph, drawn.s, weighted_edges=True, backend=backend)
        s = drawn.s.to_dense().double()
        torch.testing.assert_close(
            dense(pooled.graph), torch.einsum("ik,ijr,jl->klr", s, dense(drawn.graph), s)
        )


@both
def test_several_clusters_a_node(backend: str) -> None:
    """Every feature is the weight of a graph of its own."""
    for number, plain in enumerate(soft(12)):
        drawn = with_features(plain, bool(number % 2), width=number % 3)
        assert drawn.s.weight is not None
        s = drawn.s.with_weight(drawn.s.weight.detach().requires_grad_())
        graph, attr = learned(drawn)
        loops: Any = ("keep", "drop", "separate")[number % 3]
        pooled = sparse_pool(None, graph, s, loops=loops, backend=backend)
        assert pooled.graph.edge_attr is not None
        assert pooled.graph.edge_attr.shape == (pooled.graph.num_edges, attr.size(1))
        for r in range(attr.size(1)):
            one = sparse_pool(
                None, graph.with_value(attr[:, r]).with_edge_attr(None), s, loops=loops, backend=backend
            )
            torch.testing.assert_close(pooled.graph.edge_attr[:, r], one.graph.value)
            up = torch.randn(pooled.graph.num_edges, dtype=f64)
            grads = [
                torch.autograd.grad((t * up).sum(), [s.weight, attr], retain_graph=True)  # type: ignore[list-item]
                for t in (pooled.graph.edge_attr[:, r], one.graph.value)
                if t is not None
            ]
            torch.testing.assert_close(*grads)
            if one.loops is not None:
                assert pooled.loop_attr is not None
                torch.testing.assert_close(pooled.loop_attr[:, r], one.loops)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("clusters", [3, 900])
def test_symmetry_and_threads_change_no_bit(dtype: torch.dtype, clusters: int, native: str) -> None:
    random = torch.Generator().manual_seed(5)
    n = 2000
    edges = torch.randint(0, n, (2, 40000), generator=random)
    attr = (
        torch.randn(40000, 2, generator=random, dtype=f64).exp2().mul(1e3).exp2().clamp(1e-30, 1e30).to(dtype)
    )
    edges, attr = torch.cat([edges, edges.flip(0)], 1), attr.repeat(2, 1).requires_grad_()
    graph = RaggedGraph.from_edge_index(edges, n, edge_attr=attr)
    assert graph.has_symmetric_attr()
    s = Assignment.from_clusters(torch.randint(-1, clusters, (n,), generator=random), graph)
    results = []
    for threads in (1, 8):
        torch.set_num_threads(threads)
        for how in REDUCTIONS:
            pooled = sparse_pool(None, graph, s, attr_reduce=how, backend=native)  # type: ignore[arg-type]
            assert pooled.graph.has_symmetric_attr()
            assert pooled.graph.edge_attr is not None
            (grad,) = torch.autograd.grad(pooled.graph.edge_attr.sum(), attr)
            results.append([pooled.graph.edge_attr.detach(), grad])
    for one, other in zip(results[:5], results[5:], strict=True):
        assert all(map(torch.equal, one, other))


@both
def test_dtypes_of_features_are_their_own(backend: str) -> None:
    for dtype in (f32, bf16):
        drawn = with_features(draw(8), dtype=dtype)
        for how in REDUCTIONS:
            got = sparse_pool(None, drawn.graph, drawn.s, attr_reduce=how, backend=backend).graph.edge_attr  # type: ignore[arg-type]
            exact = sparse_pool(None, drawn.graph.to(dtype=f64), drawn.s, attr_reduce=how).graph.edge_attr  # type: ignore[arg-type]
            assert got is not None
            assert exact is not None
            torch.testing.assert_close(got, exact.to(dtype))


@pytest.mark.usefixtures("dynamo")
def test_compiled_pooling_is_the_same() -> None:
    """Under a compiler, every entry keeps an entry: the first of several has their features, and others have 0."""

    def pool(graph: RaggedGraph, attr: Tensor, s: Assignment) -> tuple[Any, ...]:
        pooled = sparse_pool(None, graph.with_edge_attr(attr), s, attr_reduce="max" if s.is_hard else None)
        assert pooled.graph.edge_attr is not None
        return pooled.graph.row, pooled.graph.col, pooled.graph.edge_attr

    for drawn in (draw(8), soft(1)[0]):
        graph, attr = learned(with_features(drawn))
        torch._dynamo.reset()
        compiled: Any = torch.compile(pool, backend="aot_eager", fullgraph=True)
        found = []
        for run in (compiled, pool):
            row, col, value = run(graph, attr, drawn.s)
            k = drawn.s.num_clusters
            full = value.new_zeros(k, k, 3).index_put((row.long(), col.long()), value, accumulate=True)
            found.append((full.detach(), *torch.autograd.grad(full.square().sum(), attr)))
        torch.testing.assert_close(*found)


def test_merged_features_are_those_of_torch_geometric() -> None:
    """The functions of its poolers; it keeps several entries of the same ends apart, which here are summed first."""
    pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed (hierpool[pyg])")
    from torch_geometric.nn.pool.connect.filter_edges import filter_adj
    from torch_geometric.nn.pool.pool import pool_edge
    from torch_geometric.utils import coalesce

    for seed in range(200):
        drawn = with_features(draw(seed), bool(seed % 2))
        graph, attr = learned(drawn)
        edges, _ = graph.to_edge_index()
        kept = seed % 4 == 1
        if kept:
            _, _, node = drawn.s.clusters()
            index = node.long() if graph.order is None else graph.order[node.long()]
            merged, theirs = coalesce(
                *filter_adj(edges, attr, index, num_nodes=graph.num_nodes), index.numel()
            )
            how: Any = "sum"
        else:
            cluster = graph.in_callers_order(drawn.s.clusters().cluster.long())
            inside = (cluster[edges] >= 0).all(0)  # it drops no nodes
            how = REDUCTIONS[seed % 5]
            merged, theirs = pool_edge(cluster.clamp(min=0), edges[:, inside], attr[inside], how)
        pooled = sparse_pool(None, graph, drawn.s, loops="keep" if kept else "drop", attr_reduce=how)
        assert torch.equal(pooled.graph.to_edge_index()[0], merged)
        ours = pooled.graph.edge_attr
        torch.testing.assert_close(ours, theirs)
        if ours is not None and ours.numel():
            grads = [torch.autograd.grad(t.square().sum(), attr)[0] for t in (ours, theirs)]
            torch.testing.assert_close(*grads)


def test_bad_options_are_named() -> None:
    drawn = with_features(soft(1)[0])
    with pytest.raises(
        ValueError, match="attr_reduce must be 'sum' if a node has several clusters, got 'max'"
    ):
        sparse_pool(None, drawn.graph, drawn.s, attr_reduce="max")
    with pytest.raises(ValueError, match="attr_reduce must be one of"):
        sparse_pool(None, drawn.graph, drawn.s, attr_reduce="count")  # type: ignore[arg-type]
    graph = with_features(draw(8)).graph
    with pytest.raises(
        ValueError, match="graph must not have edge_attr: paths over other nodes have no features"
    ):
        kron(graph, Assignment.from_kept(torch.zeros(0, dtype=torch.int64), graph))
