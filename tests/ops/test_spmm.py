"""Products of graphs with node features: values and gradients against dense float64, for every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, spmm
from tests.support.edges import CASES, EdgeCase, Edges
from tests.support.oracle import assert_error, eps_of, max_error, rounding
from tests.support.running import best, both, cover

SEED = 31
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


def features(edges: Edges, width: int, dtype: torch.dtype, seed: int = SEED) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(edges.num_nodes, width, generator=draw, dtype=f64).to(dtype)


def truth(
    graph: RaggedGraph, x: Tensor, upstream: Tensor, transpose: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Output, gradient to x and gradient to value in float64; and the same of absolute values."""
    results = []
    for change in (lambda t: t, torch.abs):
        edge_index, value = graph.to_edge_index()
        value = torch.ones(graph.num_edges, dtype=f64) if value is None else change(value.detach().double())
        a = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=f64).index_put_(tuple(edge_index), value)
        a = a.T if transpose else a
        wide, up = change(x.detach().double()), change(upstream.double())
        left, right = (wide, up) if transpose else (up, wide)
        results.append([a @ wide, a.T @ up, (left[edge_index[0]] * right[edge_index[1]]).sum(1)])
    return results[0], results[1]


def run(graph: RaggedGraph, x: Tensor, upstream: Tensor, transpose: bool, backend: str) -> list[Tensor]:
    """Output, gradient to x, and gradient to value if it is learned."""
    x = x.detach().requires_grad_()
    out = spmm(graph, x, transpose=transpose, backend=backend)
    learned = [graph.value] if graph.value is not None and graph.value.requires_grad else []
    return [out.detach(), *torch.autograd.grad(out, [x, *learned], upstream)]


def check(graph: RaggedGraph, x: Tensor, transpose: bool, backend: str) -> None:
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    got = run(graph, x, upstream, transpose, backend)
    plain = run(graph, x, upstream, transpose, "reference")
    exact, scales = truth(graph, x, upstream, transpose)
    names = ("output", "gradient of x", "gradient of value")
    wide = f64 in (x.dtype, graph.dtype)
    terms = max(graph.num_nodes, x.size(1))
    for name, one, base, value, scale in zip(names, got, plain, exact, scales, strict=False):
        assert one.dtype == base.dtype == (graph.dtype if name == "gradient of value" else x.dtype)
        eps = max(eps_of(f64 if wide else f32), eps_of(one.dtype))
        assert_error(name, base, value, scale, eps, terms)
        assert_error(name, one, value, scale, eps, terms, max_error(base, value))


@pytest.mark.parametrize("transpose", [False, True], ids=["", "transposed"])
@cover(SEED, *CASES, dtypes=[f64, f32])
def test_grid(case: EdgeCase, dtype: torch.dtype, transpose: bool, backend: str) -> None:
    edges = case.make(SEED, dtype)
    graph = edges.graph()
    if graph.value is not None and graph.value.numel():
        draw = torch.Generator().manual_seed(SEED)
        value = torch.randn(graph.num_edges, generator=draw, dtype=f64).to(dtype)
        graph = graph.with_value(value.requires_grad_())
    check(graph, features(edges, 5, dtype), transpose, backend)


@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 63, 64, 65, 130, 300])
def test_widths(width: int, backend: str) -> None:
    edges = EdgeCase("weighted", weights="uniform").make(SEED, f32)
    assert edges.edge_weight is not None
    graph = edges._replace(edge_weight=edges.edge_weight.requires_grad_()).graph()
    check(graph, features(edges, width, f32), False, backend)


@best
@pytest.mark.parametrize(
    "dtypes",
    [(bf16, bf16), (f16, f16), (f32, bf16), (bf16, f32), (f64, f32), (f32, f64), (None, bf16), (None, f64)],
    ids=str,
)
@pytest.mark.parametrize("transpose", [False, True], ids=["", "transposed"])
def test_dtypes(dtypes: tuple[torch.dtype | None, torch.dtype], transpose: bool, backend: str) -> None:
    """Of weights and of features; the result has that of the features."""
    weight, x = dtypes
    case = EdgeCase("any", weights="ones" if weight is None else "uniform", repeated=False)
    edges = case.make(SEED, weight or f32)
    if edges.edge_weight is not None:
        edges = edges._replace(edge_weight=edges.edge_weight.requires_grad_())
    check(edges.graph(), features(edges, 19, x), transpose, backend)


@both
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_index_dtypes(dtype: torch.dtype, backend: str) -> None:
    edges = EdgeCase("one-graph", sizes=(30,), batch=None, weights="uniform").make(SEED, f32)
    graph = edges.graph()
    value = graph.value
    assert value is not None
    graph = RaggedGraph.from_csr(graph.rowptr.to(dtype), graph.col.to(dtype), value.requires_grad_())
    check(graph, features(edges, 19, f32), False, backend)
    check(graph, features(edges, 19, f32), True, backend)


@both
@pytest.mark.parametrize("layout", ["strided", "sliced", "transposed", "expanded"])
def test_layouts(layout: str, backend: str) -> None:
    edges = EdgeCase("any", weights="uniform").make(SEED, f32)
    n = edges.num_nodes
    x = {
        "strided": lambda: torch.randn(2 * n, 14)[::2, ::2],
        "sliced": lambda: torch.randn(n, 20)[:, 3:10],
        "transposed": lambda: torch.randn(7, n).t(),
        "expanded": lambda: torch.randn(1, 7).expand(n, 7),
    }[layout]()
    graph = edges.graph()
    assert torch.equal(spmm(graph, x, backend=backend), spmm(graph, x.contiguous(), backend=backend))
    leaf = x.contiguous().requires_grad_()
    upstream = x.contiguous() + 1
    grads = [
        torch.autograd.grad(spmm(graph, leaf, backend=backend), leaf, u)[0]
        for u in (upstream, upstream.t().clone().t())
    ]
    assert torch.equal(*grads)


@pytest.mark.parametrize("learned", [False, True], ids=["", "learned"])
def test_a_hub(learned: bool, native: str) -> None:
    """A row that is cut, in one direction and the other, gives the same for any number of threads."""
    leaves = torch.arange(1, 100_001)
    hub = torch.zeros_like(leaves)
    edge_index = torch.stack([torch.cat([leaves, hub]), torch.cat([hub, leaves])])
    weight = torch.rand(edge_index.size(1), generator=torch.Generator().manual_seed(SEED), dtype=f64)
    x = torch.randn(100_001, 3, generator=torch.Generator().manual_seed(SEED), dtype=f64)
    graph = RaggedGraph.from_edge_index(edge_index, edge_weight=weight.requires_grad_(learned))
    exact = torch.zeros_like(x).index_add(0, edge_index[0], weight.detach()[:, None] * x[edge_index[1]])
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(graph, x, x + 1, False, native))
    bound = rounding(100_000) * eps_of(f64) * float((weight.detach()[:100_000] * x[1:, 0].abs()).sum())
    assert max_error(results[0][0], exact) <= 2 * bound
    if learned:
        rows, cols = graph.row.long(), graph.col.long()
        torch.testing.assert_close(results[0][2], ((x + 1)[rows] * x[cols]).sum(1), rtol=1e-12, atol=1e-12)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@both
def test_second_derivative_is_that_of_the_formula(backend: str) -> None:
    edges = EdgeCase("weighted", weights="uniform").make(SEED)
    x = features(edges, 3, f64).requires_grad_()
    (grad,) = torch.autograd.grad(
        spmm(edges.graph(), x, backend=backend).square().sum(), x, create_graph=True
    )
    (second,) = torch.autograd.grad(grad.sum(), x)
    exact = edges.matrix()
    torch.testing.assert_close(second, 2 * exact.T @ exact @ torch.ones_like(x))


def test_only_what_is_needed_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No transpose where neither the product nor a gradient takes it."""
    graph = EdgeCase("directed").make(SEED).graph()
    monkeypatch.setattr(graph, "transposed", lambda: pytest.fail("the transpose was asked for"))
    x = torch.ones(graph.num_nodes, 2)
    spmm(graph, x)
    with torch.no_grad():
        spmm(graph, x.requires_grad_())
    value = torch.ones(graph.num_edges, requires_grad=True)
    learned = graph.with_value(value, symmetric=False)
    monkeypatch.setattr(learned, "transposed", graph.transposed)
    spmm(learned, x.detach()).sum().backward()
    assert value.grad is not None
