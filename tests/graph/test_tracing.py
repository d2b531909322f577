"""Graphs under compilers and tracers, and equal bits for any number of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from hierpool import RaggedGraph, mincut_pool
from tests.support.edges import EdgeCase, over

SEED = 24
build = torch.ops.hierpool.csr_build.default
transpose = torch.ops.hierpool.csr_transpose.default
SAMPLES = ("base", "one-graph-int32", "coalesced", "empty-graphs", "no-edges", "no-graphs", "isolated-tails")


@over(SEED, *SAMPLES)
def test_opcheck(case: EdgeCase, builder: str) -> None:
    edges = case.make(SEED)
    row, col = edges.edge_index
    torch.library.opcheck(build, (row, col, edges.batch, None, edges.num_nodes, edges.num_graphs))
    graph = edges.graph()
    torch.library.opcheck(build, (row, col, None, graph.ptr, edges.num_nodes, edges.num_graphs))
    torch.library.opcheck(transpose, (graph.rowptr, graph.col))


def dense_and_transposed(
    edge_index: Tensor, weight: Tensor | None, ptr: Tensor, **options: Any
) -> tuple[Any, ...]:
    graph = RaggedGraph.from_edge_index(edge_index, 25, edge_weight=weight, ptr=ptr, **options)
    rowptr, col, value = graph.transposed()
    turned = RaggedGraph(rowptr, col, value, graph.ptr)
    return graph.to_dense(12), turned.to_dense(12), graph.col


@pytest.mark.parametrize("weighted", [False, True], ids=["ones", "weighted"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiled_in_one_graph(weighted: bool, dynamic: bool, builder: str) -> None:
    compiled = torch.compile(dense_and_transposed, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for seed in (SEED, SEED + 1):
        edges = EdgeCase("any", weights="whole" if weighted else "ones").make(seed)
        ptr = edges.graph().ptr
        weight = edges.edge_weight
        dense, turned, col = compiled(edges.edge_index, weight, ptr)
        exact = edges.graph().to_dense(12).double()
        assert torch.equal(dense.double(), exact)
        assert torch.equal(turned.double(), exact.mT)
        assert col.numel() == edges.edge_index.size(1)  # nothing was merged


def test_gradients_under_compile(builder: str) -> None:
    edges = EdgeCase("weighted", weights="whole").make(SEED)
    ptr = edges.graph().ptr
    assert edges.edge_weight is not None
    weight = edges.edge_weight.clone().requires_grad_()
    upstream = torch.rand(3, 12, 12, dtype=torch.float64)
    compiled = torch.compile(dense_and_transposed, fullgraph=True, backend="aot_eager")
    (grad,) = torch.autograd.grad(compiled(edges.edge_index, weight, ptr)[0], weight, upstream)
    (plain,) = torch.autograd.grad(dense_and_transposed(edges.edge_index, weight, ptr)[0], weight, upstream)
    assert torch.equal(grad, plain)


def test_coalesced_edges_keep_their_weights_under_compile(builder: str) -> None:
    edges = EdgeCase("coalesced", order="sorted", repeated=False).make(SEED)
    ptr = edges.graph().ptr

    def value_of(edge_index: Tensor, weight: Tensor | None) -> Tensor | None:
        return RaggedGraph.from_edge_index(
            edge_index, 25, edge_weight=weight, ptr=ptr, is_coalesced=True, symmetric=True
        ).value

    compiled = torch.compile(value_of, fullgraph=True, backend="aot_eager")
    assert compiled(edges.edge_index, None) is None
    weight = torch.rand(edges.edge_index.size(1))
    assert torch.equal(compiled(edges.edge_index, weight), weight)


def test_traced_transposes_are_not_cached() -> None:
    """A traced transpose is a fake tensor and must not be cached."""
    graph = EdgeCase("directed").make(SEED).graph()
    make_fx(lambda x: x + graph.transposed()[0].sum(), tracing_mode="fake", _allow_non_fake_inputs=True)(
        torch.ones(1)
    )
    assert type(graph.transposed()[0]) is Tensor


def pooled(x: Tensor, graph: RaggedGraph, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    out = mincut_pool(x, graph, s)
    return out.x, out.adj, out.mincut_loss + out.ortho_loss


@pytest.mark.parametrize("learned", [False, True], ids=["given", "learned"])
@pytest.mark.parametrize("order", ["sorted", "drawn"])
@pytest.mark.parametrize("converted", [False, True], ids=["", "converted"])
def test_compiled_code_follows_weights(order: str, learned: bool, converted: bool) -> None:
    """The graph is an argument: its state cannot be read, and no change of weights compiles again."""
    edges = EdgeCase("symmetric", (5, 4), symmetric=True, repeated=False, order=order).make(SEED)
    weight = torch.ones(edges.edge_index.size(1)).requires_grad_(learned)
    graph = edges._replace(edge_weight=weight).graph()
    if converted:
        graph = RaggedGraph.collate([graph, graph.with_value(None)]).to(dtype=torch.float64)
        weight = weight if learned else graph.value  # type: ignore[assignment]
    assert graph.is_symmetric
    graph.reversed_entries()
    x, s = torch.rand(graph.num_nodes, 2), torch.rand(graph.num_nodes, 3, requires_grad=True)
    leaves = [s, weight] if learned else [s]
    torch._dynamo.reset()
    compiled = torch.compile(pooled, fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(3):
            got, want = compiled(x, graph, s), pooled(x, graph, s)
            torch.testing.assert_close(got, want)
            grads = (torch.autograd.grad(loss, leaves) for loss in (got[2], want[2]))
            torch.testing.assert_close(next(grads), next(grads))
            with torch.no_grad():
                weight.mul_(torch.arange(1, weight.numel() + 1))


def test_rows_and_conversions_under_compile() -> None:
    graph = EdgeCase("any", weights="whole").make(SEED, torch.float32).graph()

    def run(rowptr: Tensor, col: Tensor, value: Tensor) -> Tensor:
        rows = RaggedGraph.from_csr(rowptr, col, value, is_coalesced=True)
        return RaggedGraph.collate([rows, rows]).to(dtype=torch.float64).degree

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    arrays = graph.rowptr, graph.col, graph.value
    assert torch.equal(compiled(*arrays), run(*arrays))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "num_nodes must be given under torch.compile"),
        (
            {"num_nodes": 25, "batch": torch.zeros(25, dtype=torch.int64)},
            "num_graphs .* must be given under torch.compile",
        ),
    ],
)
def test_sizes_that_depend_on_values(arguments: dict[str, Any], message: str) -> None:
    edge_index = EdgeCase("any").make(SEED).edge_index
    with pytest.raises(ValueError, match=message):
        make_fx(lambda e: RaggedGraph.from_edge_index(e, **arguments).col)(edge_index)


def test_an_unsorted_batch_is_refused_when_sizes_are_fixed(builder: str) -> None:
    edges = EdgeCase("shuffled", batch="shuffled").make(SEED)
    row, col = edges.edge_index
    with pytest.raises(ValueError, match=r"batch must be sorted under torch\.compile"):
        build(row, col, edges.batch, None, edges.num_nodes, edges.num_graphs)


@pytest.mark.parametrize("order", ["drawn", "sorted"])
@pytest.mark.parametrize("batch", ["sorted", "shuffled"])
def test_threads_change_no_bit(order: str, batch: str) -> None:
    case = EdgeCase("large", (40_000, 30_000), batch=batch, order=order, weights="uniform", repeated=True)
    edges = case.make(SEED, torch.float32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        graph = edges.graph()
        turned = graph.transposed()
        results.append((graph.rowptr, graph.col, graph.value, graph.ptr, *turned))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_jit_trace_is_refused() -> None:
    edges = EdgeCase("any").make(SEED).edge_index
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace cannot record a RaggedGraph"):
        torch.jit.trace(lambda x: RaggedGraph.from_edge_index(edges, x.size(0)).to_dense(), torch.ones(25, 1))
