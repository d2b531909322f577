"""Pooling by sparse assignments: against dense matrices, SciPy and PyTorch Geometric, on every backend."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import Assignment, RaggedGraph, backends, sparse_lift, sparse_pool
from hierpool.contract import Clusters, ContractOptions, Loops
from hierpool.ops import coalesce
from tests.support.assignments import Drawn, assign, draw
from tests.support.running import both

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
REDUCTIONS = ("sum", "mean", "max", "min")
EDGE_REDUCTIONS = (*REDUCTIONS, "mul", "count")
LOOPS = ("keep", "drop", "separate")


def features(drawn: Drawn, dtype: torch.dtype = f64, width: int = 5) -> Tensor:
    random = torch.Generator().manual_seed(4)
    return torch.randn(drawn.graph.num_nodes, width, generator=random, dtype=f64).to(dtype)


def matrix_of(graph: RaggedGraph) -> Tensor:
    edge_index, value = graph.to_edge_index()
    value = torch.ones(graph.num_edges, dtype=f64) if value is None else value.detach().double()
    assert edge_index.unique(dim=1).size(1) == graph.num_edges
    return torch.zeros(graph.num_nodes, graph.num_nodes, dtype=f64).index_put_(tuple(edge_index), value)


def reduced(terms: list[Tensor], how: str) -> Tensor:
    """The reduction of a list that is not empty."""
    t = torch.stack(terms)
    if how == "count":
        return torch.tensor(float(len(terms)), dtype=f64)
    values = {"sum": t.sum, "mean": t.mean, "max": t.amax, "min": t.amin, "mul": t.prod}
    return values[how](0)


def expected_edges(drawn: Drawn, how: str, loops: str) -> tuple[Tensor, Tensor]:
    """The dense coarse matrix and the vector of self-loops, entry by entry."""
    k = drawn.s.num_clusters
    terms: dict[tuple[int, int], list[Tensor]] = {}
    member = (drawn.s.to_dense() != 0).nonzero().tolist()
    cluster = dict(member)
    edge_index, _ = drawn.graph.to_edge_index()
    for i, j in edge_index.T.tolist():
        if i in cluster and j in cluster:
            terms.setdefault((cluster[i], cluster[j]), []).append(drawn.a[i, j])
    out, apart = torch.zeros(k, k, dtype=f64), torch.zeros(k, dtype=f64)
    for (p, q), found in terms.items():
        if p == q and loops == "separate":
            apart[p] = reduced(found, how)
        elif p != q or loops == "keep":
            out[p, q] = reduced(found, how)
    return out, apart


def assert_well_formed(graph: RaggedGraph, s: Assignment) -> None:
    assert (graph.num_nodes, graph.num_graphs) == (s.num_clusters, s.num_graphs)
    assert torch.equal(graph.ptr, s.cluster_ptr)
    assert graph.order is None
    assert graph.rowptr.dtype == graph.col.dtype == torch.int32
    key = graph.row.long() * max(graph.num_nodes, 1) + graph.col
    assert bool((key.diff() > 0).all())
    assert torch.equal(graph.batch[graph.row.long()], graph.batch[graph.col.long()])


@both
@pytest.mark.parametrize("how", EDGE_REDUCTIONS)
def test_edges(how: str, backend: str) -> None:
    for seed in range(30):
        drawn = draw(seed)
        for loops in LOOPS:
            _, graph, apart, _ = sparse_pool(
                None,
                drawn.graph,
                drawn.s,
                edge_reduce=how,
                loops=loops,
                backend=backend,  # type: ignore[arg-type]
            )
            assert_well_formed(graph, drawn.s)
            matrix, vector = expected_edges(drawn, how, loops)
            torch.testing.assert_close(matrix_of(graph), matrix)
            assert (apart is None) == (loops != "separate")
            if apart is not None:
                torch.testing.assert_close(apart.double(), vector)
            turned = matrix_of(graph)
            assert graph.is_symmetric == torch.equal(turned, turned.T)
            if drawn.graph.is_symmetric:
                assert graph.is_symmetric


@both
def test_sums_are_those_of_scipy(backend: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for seed in range(30):
        drawn = draw(seed)
        s = drawn.s.to_dense().double()
        x = features(drawn)
        pooled = sparse_pool(x, drawn.graph, drawn.s, weighted_edges=True, backend=backend)
        s, a = sparse.csr_array(s.numpy()), sparse.csr_array(drawn.a.numpy())
        exact = torch.from_numpy((s.T @ a @ s).todense())
        torch.testing.assert_close(matrix_of(pooled.graph), exact)
        torch.testing.assert_close(pooled.x, torch.from_numpy(s.T @ x.numpy()))


@both
@pytest.mark.parametrize("how", REDUCTIONS)
def test_features(how: str, backend: str) -> None:
    for seed, dtype in product(range(20), (f64, f32, bf16)):
        drawn = draw(seed, f64 if dtype is f64 else f32)
        x = features(drawn, dtype)
        got = sparse_pool(x, drawn.graph, drawn.s, reduce=how, backend=backend).x  # type: ignore[arg-type]
        assert got is not None
        assert got.dtype is dtype
        dense = drawn.s.to_dense().double()
        exact = torch.zeros(drawn.s.num_clusters, 5, dtype=f64)
        for k in range(drawn.s.num_clusters):
            nodes = dense[:, k].nonzero()[:, 0]
            if nodes.numel():
                terms = dense[nodes, k, None] * x[nodes].double()
                exact[k] = reduced(list(terms), how)
        torch.testing.assert_close(got, exact.to(dtype))


@both
@pytest.mark.parametrize("how", EDGE_REDUCTIONS[:5])
def test_gradients(how: str, backend: str) -> None:
    """To features and all weights; of directed graphs, whose entries are independent."""
    reduce = how if how in REDUCTIONS else "sum"
    for seed in (2, 4, 8, 12, 24):
        drawn = draw(seed, symmetric=False)
        value = None if drawn.graph.value is None else drawn.graph.value.clone().requires_grad_()
        weight = None if drawn.s.weight is None else drawn.s.weight.clone().requires_grad_()
        x = features(drawn, width=2).requires_grad_()
        given = [t for t in (x, value, weight) if t is not None and t.numel()]

        def call(*_: Tensor, drawn: Any = drawn, value: Any = value, weight: Any = weight, x: Any = x) -> Any:
            s = drawn.s
            s = Assignment(s.rowptr, s.cluster, weight, s.ptr, s.cluster_ptr, s.order, s.num_clusters, True)
            pooled = sparse_pool(
                x, drawn.graph.with_value(value), s, reduce=reduce, edge_reduce=how, loops="separate",  # type: ignore[arg-type]
                weighted_edges=True, backend=backend,
            )  # fmt: skip
            return tuple(
                t for t in (pooled.x, pooled.graph.value, pooled.loops) if t is not None and t.requires_grad
            )

        if given:
            assert torch.autograd.gradcheck(call, given, fast_mode=True)


@both
def test_gradients_of_products_with_zeros(backend: str) -> None:
    value = torch.tensor([2.0, 0, 3, 0, 0, 5], dtype=f64, requires_grad=True)
    rowptr, col = torch.tensor([0, 3, 6]), torch.tensor([2, 3, 4, 2, 3, 4])
    graph = RaggedGraph.from_csr(torch.cat([rowptr, torch.tensor([6, 6, 6])]), col, value)
    s = Assignment.from_clusters(torch.tensor([0, 1, 2, 2, 2]), graph)
    out = sparse_pool(None, graph, s, edge_reduce="mul", backend=backend).graph.value
    assert out is not None
    assert out.tolist() == [0, 0]
    assert torch.autograd.grad(out.sum(), value)[0].tolist() == [0, 6, 0, 0, 0, 0]


@both
def test_the_first_of_equal_extremes_gets_the_gradient(backend: str) -> None:
    graph = RaggedGraph.from_edge_index(
        torch.tensor([[0, 1, 2], [3, 3, 3]]), 4, edge_weight=torch.tensor([1.0, 2, 2]).requires_grad_()
    )
    s = Assignment.from_clusters(torch.tensor([0, 0, 0, 1]), graph)
    x = torch.tensor([[1.0], [5], [5], [0]], requires_grad=True)
    pooled = sparse_pool(x, graph, s, reduce="max", edge_reduce="max", backend=backend)
    assert pooled.x is not None
    assert pooled.graph.value is not None
    assert graph.value is not None
    grads = torch.autograd.grad(pooled.x.sum() + pooled.graph.value.sum(), (x, graph.value))
    assert [grad.flatten().tolist() for grad in grads] == [[0, 1, 0, 1], [0, 1, 0]]


@both
@pytest.mark.parametrize("mode", ["transpose", "inverse", "gather"])
def test_lift(mode: Any, backend: str) -> None:
    for seed, kind in product(range(12), ("any", "soft")):
        drawn = draw(seed, kind=kind)
        if kind == "soft" and mode == "inverse":
            continue
        dense = drawn.s.to_dense().double()
        y = torch.randn(drawn.s.num_clusters, 3, dtype=f64)
        factor = {"transpose": dense, "gather": (dense != 0).double()}.get(mode)
        if factor is None:
            factor = torch.linalg.pinv(dense).T if dense.numel() else dense
        torch.testing.assert_close(sparse_lift(y, drawn.s, mode=mode, backend=backend), factor @ y)
        if drawn.s.weight is not None and drawn.s.num_entries and mode != "gather":
            weight = drawn.s.weight.clone().requires_grad_()
            drawn.s.weight = weight
            assert torch.autograd.gradcheck(
                lambda y, w, s=drawn.s: sparse_lift(y, s, mode=mode, backend=backend),
                (y.requires_grad_(), weight),
                fast_mode=True,
            )


@both
def test_intermediate_values_may_exceed_the_range_of_float16(backend: str) -> None:
    """The sum of a mean, the squares of an inverse, and sizes of clusters."""
    n = 1000
    nodes = torch.zeros(n, dtype=torch.int64)
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), n)
    for dtype in (f16, bf16):
        x = torch.full((n, 2), 100.0, dtype=dtype, requires_grad=True)
        for weight in (None, torch.full((n,), 300.0, dtype=dtype, requires_grad=True)):
            s = Assignment.from_clusters(nodes, graph, weight)
            pooled = sparse_pool(x, graph, s, reduce="mean", backend=backend).x
            assert pooled is not None
            torch.testing.assert_close(
                pooled, torch.full((1, 2), 1e2 if weight is None else 3e4, dtype=dtype)
            )
            (slope,) = torch.autograd.grad(pooled.sum(), x)
            torch.testing.assert_close(slope, torch.full_like(x, (1 if weight is None else 300) / n))
            row = torch.full((1, 2), 3e4, dtype=dtype)
            lifted = sparse_lift(row, s, mode="inverse", backend=backend)
            expected = torch.full_like(x, 3e4 / n / (1 if weight is None else 300))
            torch.testing.assert_close(lifted, expected)


def test_weights_that_are_not_there() -> None:
    edges = torch.tensor([[0, 1, 2, 3, 0], [2, 3, 0, 1, 1]])
    graph = RaggedGraph.from_edge_index(edges, 4)
    pairs = Assignment.from_clusters(torch.tensor([0, 0, 1, 1]), graph)
    kept = Assignment.from_kept(torch.tensor([2, 0]), graph)
    summed = sparse_pool(None, graph, pairs).graph
    assert summed.value is not None
    assert summed.value.tolist() == [1, 2, 2]
    assert sparse_pool(None, graph, kept).graph.value is None  # nothing to sum
    for options in ({"weights": "keep"}, {"edge_reduce": "mean"}, {"edge_reduce": "max"}):
        assert sparse_pool(None, graph, pairs, **options).graph.value is None  # type: ignore[arg-type]
    apart = sparse_pool(None, graph, pairs, weights="keep", loops="separate")
    assert apart.graph.value is None
    assert apart.loops is not None
    assert apart.loops.tolist() == [1, 0]
    counted = sparse_pool(None, graph, kept, edge_reduce="count", weights="keep").graph.value
    assert counted is not None
    assert counted.tolist() == [1, 1]


def test_edges_of_pytorch_geometric() -> None:
    """Merged clusters: relabelling and coalesce; kept nodes: filter_adj."""
    pytest.importorskip("torch_geometric")
    from torch_geometric.nn.pool.connect.filter_edges import filter_adj
    from torch_geometric.utils import coalesce as pyg_coalesce
    from torch_geometric.utils import remove_self_loops

    for seed in range(0, 60, 2):  # with weights
        drawn = draw(seed, kind="clusters")
        edge_index, value = drawn.graph.to_edge_index()
        of_node = drawn.graph.in_callers_order(drawn.s.clusters().cluster.long())
        kept = (of_node[edge_index] >= 0).all(0)
        assert value is not None
        theirs = remove_self_loops(of_node[edge_index[:, kept]], value[kept])
        theirs = pyg_coalesce(*theirs, num_nodes=drawn.s.num_clusters)
        ours = sparse_pool(None, drawn.graph, drawn.s, loops="drop").graph.to_edge_index()
        torch.testing.assert_close(ours, theirs)
        drawn = draw(seed, kind="kept")
        index = torch.empty(drawn.s.num_clusters, dtype=torch.int64)
        node = drawn.s.transposed()[1].long()
        index[:] = node if drawn.graph.order is None else drawn.graph.order[node]
        edge_index, value = drawn.graph.to_edge_index()
        edges, weight = filter_adj(edge_index, value, index, num_nodes=drawn.graph.num_nodes)
        ours = sparse_pool(None, drawn.graph, drawn.s).graph.to_edge_index()
        torch.testing.assert_close(ours, pyg_coalesce(edges, weight, num_nodes=index.numel()))


def test_top_k_pooling_of_pytorch_geometric() -> None:
    """Features and edges of a whole layer, with the gradients to features and scores."""
    pool = pytest.importorskip("torch_geometric.nn").TopKPooling(5, 0.6).double()
    for seed in range(1, 40, 4):
        drawn = draw(seed)
        if not drawn.graph.num_nodes:
            continue
        x = features(drawn).requires_grad_()
        edge_index, value = drawn.graph.to_edge_index()
        their_x, edges, _, batch, index, score = pool(x, edge_index, value, drawn.graph.batch)
        s = Assignment.from_kept(index, drawn.graph, score)
        ours = sparse_pool(x, drawn.graph, s)
        assert ours.x is not None
        torch.testing.assert_close(ours.x, their_x)
        assert torch.equal(ours.graph.batch, batch)
        order = torch.argsort(edges[0] * s.num_clusters + edges[1])
        assert torch.equal(ours.graph.to_edge_index()[0], edges[:, order])
        grads = [
            torch.autograd.grad(t.square().sum(), (x, score), retain_graph=True) for t in (ours.x, their_x)
        ]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("clusters", [3, 40, 900])
def test_threads_change_no_bit(dtype: torch.dtype, clusters: int, native: str) -> None:
    """Nor does the symmetry of A get lost in rounding, with rows of few and of many entries."""
    random = torch.Generator().manual_seed(5)
    n = 2000
    edges = torch.randint(0, n, (2, 40000), generator=random)
    weight = (
        torch.randn(40000, generator=random, dtype=f64).exp2().mul(1e3).exp2().clamp(1e-30, 1e30).to(dtype)
    )
    edges, weight = torch.cat([edges, edges.flip(0)], 1), weight.repeat(2).requires_grad_()
    graph = RaggedGraph.from_edge_index(edges, n, edge_weight=weight, symmetric=True)
    s = Assignment.from_clusters(torch.randint(-1, clusters, (n,), generator=random), graph)
    x = torch.randn(n, 33, generator=random, dtype=dtype).requires_grad_()
    results = []
    for threads in (1, 8):
        torch.set_num_threads(threads)
        for how in EDGE_REDUCTIONS:
            for learned in (True, False):
                own = graph if learned else graph.with_value(weight_of(graph), symmetric=True)
                pooled = sparse_pool(
                    x, own, s, reduce="max" if learned else "sum", edge_reduce=how, backend=native
                )
                value = pooled.graph.value
                assert pooled.x is not None
                assert value is not None
                tested = RaggedGraph(
                    pooled.graph.rowptr, pooled.graph.col, value.detach(), pooled.graph.ptr, None, None
                )
                assert tested.is_symmetric
                results.append([pooled.x.detach(), pooled.graph.col, value.detach()])
                if learned and how != "count":
                    results[-1] += torch.autograd.grad(value.sum() + pooled.x.sum(), (x, weight))
    half = len(results) // 2
    for one, other in zip(results[:half], results[half:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def weight_of(graph: RaggedGraph) -> Tensor:
    assert graph.value is not None
    return graph.value.detach()


@pytest.mark.parametrize("dtype", [f32, f64, bf16, f16])
def test_native_contraction_is_the_reference(dtype: torch.dtype) -> None:
    """Structure, slots and sums, whatever is asked for."""
    if "native" not in backends.available("graph_contract"):
        pytest.skip("the native backend is not available")
    modules: list[Any] = [backends.module("graph_contract", "cpu", name) for name in ("native", "reference")]
    for seed in range(12):
        graph, s, _ = draw(seed, dtype)
        for loops, want_sum, want_slot in product(Loops, (False, True), (False, True)):
            options = ContractOptions(loops, s.is_injective, graph.is_symmetric, want_sum, want_slot)
            one, other = (
                m.contract(graph.rowptr, graph.col, graph.value, s.clusters(), s.cluster_ptr, options)
                for m in modules
            )
            assert one.merged == other.merged
            for name, got, base in zip(one._fields[:4], one, other, strict=False):
                assert (got is None) == (base is None), name
                if base is not None:
                    torch.testing.assert_close(got, base, msg=f"{name}: ".__add__)


@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=str)
def test_long_rows_and_wide_indices(index: torch.dtype, native: str) -> None:
    """Rows of more entries than are sorted at once, with few and with many columns."""
    random = torch.Generator().manual_seed(7)
    n = 600
    a = torch.rand(n, n, generator=random, dtype=f64) * (torch.rand(n, n, generator=random) < 0.3)
    graph = RaggedGraph.from_dense(a)
    for k in (2, 500):
        s = assign(graph, random, f64, 2, "kept") if k == 500 else Assignment.from_clusters(
            torch.randint(-1, k, (n,), generator=random), graph
        )  # fmt: skip
        module: Any = backends.module("graph_contract", "cpu", native)
        clusters = Clusters(*(t.to(index) for t in s.clusters()))
        options = ContractOptions(Loops.KEEP, s.is_injective, False, True, True)
        out = module.contract(
            graph.rowptr.to(index), graph.col.to(index), graph.value, clusters, s.cluster_ptr, options
        )
        member = (s.to_dense() != 0).double()
        got = matrix_of(RaggedGraph.from_csr(out.rowptr, out.col, out.value))
        torch.testing.assert_close(got, member.T @ a @ member)
        assert out.slot is not None
        call = coalesce.Call(
            graph.value, out.slot, graph.rowptr.to(index), *clusters[1:], out.rowptr, out.col,  # type: ignore[arg-type]
            coalesce.Options(0, False, False, native),
        )  # fmt: skip
        torch.testing.assert_close(coalesce.OPERATOR(call)[0], out.value)
