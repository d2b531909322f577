"""A graph follows its weights: whatever uses it gives the results of a fresh graph, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, mincut_pool, spmm
from hierpool.nn import POOLERS, MinCutPool
from tests.graph.test_building import matrix_of
from tests.support.following import ORDERS, SIZES, Edges, N, assert_equal, assert_like_fresh, change
from tests.support.takers import F, K, Taker, takers

f32, f64 = torch.float32, torch.float64


def test_users_are_found() -> None:
    known = {"spmm", "mincut_pool", "total_variation", "readout", "modularity", "GTVConv", "DiffPoolNet"}
    assert known | {pooler.__name__ for pooler in POOLERS.values()} <= set(takers())


@pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])
@pytest.mark.parametrize("order", ["sorted", "repeated"])
@pytest.mark.parametrize("name", takers())
def test_every_user_of_a_graph_follows_its_weights(name: str, order: str, learned: bool) -> None:
    edges, taker = Edges(order), Taker(name, N)
    weight = edges.symmetric.clone().requires_grad_(learned)
    leaves = (weight,) if learned else ()
    graph = edges.graph(weight)
    with torch.inference_mode():
        taker.outputs(graph)
    for value in (edges.symmetric, edges.directed, edges.symmetric):
        change(weight, value)
        fresh = value.clone().requires_grad_(learned)
        expected = taker.results(edges.graph(fresh), *((fresh,) if learned else ()))
        assert_equal(taker.results(graph, *leaves), expected)
        assert_equal(taker.results(graph, *leaves), expected)  # with what is kept


@pytest.mark.parametrize("name", takers())
def test_every_user_of_a_graph_trains_on_one_made_under_inference_mode(name: str) -> None:
    edges, taker = Edges("drawn"), Taker(name, N)
    weight = edges.directed.clone().requires_grad_()
    with torch.inference_mode():
        graph = edges.graph(weight)
        unseen = edges.graph(edges.directed.clone())  # an inference tensor
        taker.outputs(graph)
    assert_equal(taker.results(graph, weight), taker.results(edges.graph(weight), weight))
    assert_equal(taker.results(unseen), taker.results(edges.graph(edges.directed)))


@pytest.mark.parametrize(
    "source", ["ptr", "csr", "csr-ptr", "csr-unsorted", "dense", "mask", "sparse", "scipy"]
)
def test_every_source_under_inference_mode_makes_tensors_for_training(source: str, builder: str) -> None:
    edges = Edges("sorted")
    base = edges.graph(edges.directed)
    ptr, dense = base.ptr, base.to_dense()
    with torch.inference_mode():
        rows = base.rowptr.clone(), base.col.clone(), edges.directed.clone()
        backwards = (rows[0], torch.cat([c.flip(0) for c in rows[1].split(rows[0].diff().tolist())]), rows[2])
        graph = {
            "ptr": lambda: RaggedGraph.from_edge_index(edges.edge_index, N, edge_weight=rows[2], ptr=ptr),
            "csr": lambda: RaggedGraph.from_csr(*rows),
            "csr-ptr": lambda: RaggedGraph.from_csr(*rows, ptr.clone()),
            "csr-unsorted": lambda: RaggedGraph.from_csr(*backwards),
            "dense": lambda: RaggedGraph.from_dense(dense),
            "mask": lambda: RaggedGraph.from_dense(dense.clone(), num_nodes=ptr.diff()),
            "sparse": lambda: RaggedGraph.from_sparse(torch.block_diag(*dense).to_sparse()),
            "scipy": lambda: RaggedGraph.from_sparse(
                pytest.importorskip("scipy.sparse").csr_array(torch.block_diag(*dense).numpy())
            ),
        }[source]()
        turned = [graph, graph.to(dtype=f32), graph.with_value(None), RaggedGraph.collate([graph, graph])]
        for one in turned:
            one.transposed()
    for one in turned:
        tensors = [one.rowptr, one.col, one.value, one.ptr, one.order, *one.transposed()]
        assert not any(t.is_inference() for t in tensors if t is not None)
        s = torch.rand(one.num_nodes, K, requires_grad=True)
        mincut_pool(torch.rand(one.num_nodes, F), one, s).mincut_loss.backward()
        assert s.grad is not None


def double(weight: Tensor, edges: Edges) -> None:
    weight.mul_(2)


def set_one(weight: Tensor, edges: Edges) -> None:
    weight[1] = 9


def other_memory(weight: Tensor, edges: Edges) -> None:
    weight.data = edges.directed.to(weight.dtype)


def two_other_memories(weight: Tensor, edges: Edges) -> None:
    """The second may get the address of the first."""
    weight.data = weight.data * 2
    weight.data = weight.data + edges.directed.to(weight.dtype)


CHANGES = [double, set_one, other_memory, two_other_memories]


@pytest.mark.parametrize("way", CHANGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])
@pytest.mark.parametrize("order", ORDERS)
def test_ways_to_change_weights(order: str, learned: bool, way: Callable[..., None], builder: str) -> None:
    edges = Edges(order)
    weight = edges.symmetric.clone().requires_grad_(learned)
    graph = edges.graph(weight)
    with torch.no_grad():
        assert_like_fresh(graph, edges, weight)
        way(weight, edges)
        assert_like_fresh(graph, edges, weight)
    way(weight.detach() if way in CHANGES[:2] else weight, edges)
    assert_like_fresh(graph, edges, weight)
    with torch.inference_mode():
        weight.mul_(3)
        assert_like_fresh(graph, edges, weight)
    assert_like_fresh(graph, edges, weight)
    assert graph.value is not None
    assert graph.value.requires_grad == learned


def test_integer_weights_are_followed() -> None:
    edges = Edges("drawn")
    weight = edges.directed.long()
    graph = edges.graph(weight)
    weight += 1
    assert_like_fresh(graph, edges, weight)
    weight[0] = 2**24 + 1
    with pytest.raises(ValueError, match="edge_weight has integers that float32 cannot represent exactly"):
        _ = graph.value


def test_weights_that_no_longer_fit_are_refused() -> None:
    edges = Edges("sorted")
    weight = edges.symmetric.clone()
    graph = edges.graph(weight)
    weight.data = weight[:-1].clone()
    with pytest.raises(ValueError, match="edge_weight must have shape"):
        spmm(graph, torch.ones(N, 1))


@pytest.mark.parametrize("order", ORDERS)
def test_an_optimizer_changes_the_graph(order: str) -> None:
    edges = Edges(order)
    weight = edges.symmetric.clone().requires_grad_()
    graph = edges.graph(weight)
    optimizer = torch.optim.SGD([weight], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        out = spmm(graph, torch.eye(N, dtype=f64))
        out.mul(torch.arange(1, N + 1)).sum().backward()  # not symmetric
        optimizer.step()
        assert_like_fresh(graph, edges, weight)
        assert not graph.is_symmetric


def test_weights_that_begin_or_cease_to_need_a_gradient() -> None:
    for order in ORDERS:
        edges = Edges(order)
        weight = edges.directed.clone()
        graph = edges.graph(weight)
        x = torch.eye(N, dtype=f64)
        weight.requires_grad_()
        (grad,) = torch.autograd.grad(spmm(graph, x).square().sum(), weight)
        (want,) = torch.autograd.grad(spmm(edges.graph(weight), x).square().sum(), weight)
        assert torch.equal(grad, want)
        weight.requires_grad_(False)
        assert not spmm(graph, x).requires_grad


def test_learned_weights_are_neither_copied_nor_frozen() -> None:
    edges = Edges("sorted")
    weight = edges.directed.clone().requires_grad_()
    graph = edges.graph(weight)
    assert graph.value is weight
    weight.data.mul_(2)  # not counted by PyTorch
    assert_like_fresh(graph, edges, weight)


@pytest.mark.parametrize("order", ORDERS)
def test_uncounted_changes_leave_a_consistent_graph(order: str) -> None:
    edges = Edges(order)
    array = edges.symmetric.numpy().copy()
    weight = torch.from_numpy(array)
    before = weight.clone()
    graph = edges.graph(weight)
    array *= 2
    weight.data[0] = 5
    assert_like_fresh(graph, edges, before)


def test_value_itself_may_be_changed() -> None:
    for order in ORDERS:
        edges = Edges(order)
        weight = edges.symmetric.clone()
        for graph in (edges.graph(weight), RaggedGraph.collate([edges.graph(weight)] * 2)):
            graph.transposed()
            assert graph.is_symmetric
            assert graph.value is not None
            graph.value[0] += 1
            assert not graph.is_symmetric
            x = torch.eye(graph.num_nodes, dtype=f64)
            assert torch.equal(spmm(graph, x, transpose=True), spmm(graph, x).T)


def test_a_changed_transpose_is_made_anew() -> None:
    graph = Edges("drawn").graph(Edges("drawn").directed)
    value_t = graph.transposed()[2]
    assert value_t is not None
    want = value_t.clone()
    value_t.zero_()
    again = graph.transposed()[2]
    assert again is not None
    assert torch.equal(again, want)


@pytest.mark.parametrize("source", ["csr", "csr-unsorted", "with_value", "coo", "csr-matrix"])
def test_other_ways_to_give_weights(source: str) -> None:
    edges = Edges("sorted")
    base = edges.graph(edges.symmetric)
    weight = edges.symmetric.clone()
    if source == "csr":
        graph = RaggedGraph.from_csr(base.rowptr, base.col, weight)
    elif source == "csr-unsorted":
        reverse = base.col.split(base.rowptr.diff().tolist())
        place = torch.arange(weight.numel()).split(base.rowptr.diff().tolist())
        weight = weight[torch.cat([p.flip(0) for p in place])]
        graph = RaggedGraph.from_csr(base.rowptr, torch.cat([c.flip(0) for c in reverse]), weight)
    elif source == "with_value":
        graph = base.with_value(weight)
    else:
        matrix = torch.sparse_coo_tensor(
            edges.edge_index, weight, (N, N), check_invariants=True, is_coalesced=True
        )
        matrix = matrix.to_sparse_csr() if source == "csr-matrix" else matrix
        weight, graph = matrix.values(), RaggedGraph.from_sparse(matrix)
    graph.transposed()
    assert graph.is_symmetric
    weight.mul_(torch.arange(1, weight.numel() + 1))
    x = torch.eye(N, dtype=f64)
    out = spmm(graph, x)
    assert not torch.equal(out, out.T)
    assert torch.equal(out.sum(), weight.sum())
    assert torch.equal(spmm(graph, x, transpose=True), out.T)
    assert not graph.is_symmetric


@pytest.mark.parametrize("source", ["edge_index", "ptr", "csr", "sparse", "scipy", "dense"])
def test_the_structure_is_that_of_construction(source: str) -> None:
    """Arrays that were given may be changed afterwards: a graph with other columns would read foreign memory."""
    edges = Edges("sorted")
    base = edges.graph(edges.directed)
    rowptr, col, ptr = base.rowptr.clone(), base.col.clone(), base.ptr.clone()
    given: list[Any]
    if source in ("edge_index", "ptr"):
        given = [edges.edge_index.clone(), edges.batch.clone() if source == "edge_index" else ptr]
        groups = {"batch" if source == "edge_index" else "ptr": given[1]}
        graph = RaggedGraph.from_edge_index(given[0], N, edge_weight=edges.directed, **groups)
    elif source == "csr":
        given = [rowptr, col, ptr]
        graph = RaggedGraph.from_csr(rowptr, col, edges.directed, ptr)
    elif source == "sparse":
        matrix = torch.sparse_csr_tensor(rowptr, col, edges.directed, (N, N), check_invariants=True)
        given = [matrix.crow_indices(), matrix.col_indices()]
        graph = RaggedGraph.from_sparse(matrix)
    elif source == "scipy":
        rows = pytest.importorskip("scipy.sparse").csr_array(
            (edges.directed.clone().numpy(), col.numpy(), rowptr.numpy()), (N, N)
        )
        given = [rows.indices, rows.indptr, rows.data]
        graph = RaggedGraph.from_sparse(rows)
    else:
        given = [base.to_dense()]
        graph = RaggedGraph.from_dense(given[0], num_nodes=torch.tensor(SIZES))
    for array in given:
        array[:] = array[:] * 0 + 10**6
    assert torch.equal(matrix_of(graph), matrix_of(base))
    assert torch.equal(graph.degree, base.degree)


@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap"])
@pytest.mark.parametrize("order", ["sorted", "repeated"])
def test_transforms_of_torch_func(order: str, transform: str) -> None:
    edges = Edges(order)
    weight = edges.symmetric.clone()
    graph = edges.graph(weight)
    x = torch.rand(N, 2, dtype=f64)

    def energy(x: Tensor) -> Tensor:
        return spmm(graph, x, transpose=True).square().sum()

    def run() -> Tensor:
        if transform == "grad":
            return torch.func.grad(energy)(x)
        if transform == "jvp":
            return torch.func.jvp(energy, (x,), (torch.ones_like(x),))[1]
        return torch.func.vmap(energy)(torch.stack([x, 2 * x]))

    first = run()
    change(weight, edges.directed)
    second = run()
    graph = edges.graph(edges.directed)
    assert torch.equal(second, run())
    assert not torch.equal(first, second)


@pytest.mark.parametrize("order", ["sorted", "repeated"])
def test_a_record_that_is_read_after_a_step(order: str) -> None:
    """The graph that a layer makes of ``edge_index`` follows the weights as well."""
    edges, layer = Edges(order), MinCutPool(2, 3, temperature=2.0)
    weight = edges.symmetric.float().requires_grad_()
    x = torch.rand(N, 2)
    out = layer(x, edges.edge_index, weight, batch=edges.batch)
    change(weight, edges.directed.float())
    graph = out.so.graph
    assert graph is not None
    assert not graph.is_symmetric
    loss = mincut_pool(x, graph, torch.rand(N, 3, requires_grad=True)).mincut_loss
    assert torch.autograd.grad(loss, weight)[0].isfinite().all()
