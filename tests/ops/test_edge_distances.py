"""Distances of the ends of edges: values and gradients against float64, for every backend."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from hierpool import RaggedGraph, edge_distances, reference, total_variation
from tests.support.edges import EdgeCase, Edges, over
from tests.support.oracle import assert_error, eps_of, max_error
from tests.support.running import KINDS

SEED = 32
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
operator = torch.ops.hierpool.edge_distances.default
operator_backward = torch.ops.hierpool.edge_distances_backward.default
kinds = pytest.mark.parametrize("backend", KINDS, indirect=True)


def features(edges: Edges, width: int, dtype: torch.dtype) -> Tensor:
    """Of few values, so that rows agree in some features."""
    draw = torch.Generator().manual_seed(SEED)
    return ((3 * torch.randn(edges.num_nodes, width, generator=draw, dtype=f64)).round() / 8).to(dtype)


def upstream_of(graph: RaggedGraph, dtype: torch.dtype) -> Tensor:
    return torch.randn(graph.num_edges, generator=torch.Generator().manual_seed(1)).to(dtype)


def truth(graph: RaggedGraph, x: Tensor, upstream: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Distances and gradient in float64, in the caller's order of nodes; and the majorant of both."""
    row, col = graph.to_edge_index()[0]
    apart, up = x.double()[row] - x.double()[col], upstream.double()[:, None]
    values, scales = [apart.abs().sum(1)], [apart.abs().sum(1)]
    for terms, sign, out in ((up * apart.sign(), -1, values), (up.abs() * apart.sign().abs(), 1, scales)):
        grad = torch.zeros(x.shape, dtype=f64).index_add(0, row, terms)
        out.append(grad.index_add(0, col, terms, alpha=sign))
    return values, scales


def run(graph: RaggedGraph, x: Tensor, upstream: Tensor, backend: str) -> list[Tensor]:
    x = x.detach().requires_grad_()
    out = edge_distances(graph, x, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, x, upstream)]


def check(graph: RaggedGraph, x: Tensor, backend: str) -> None:
    upstream = upstream_of(graph, x.dtype)
    got = run(graph, x, upstream, backend)
    plain = run(graph, x, upstream, "reference")
    names, terms = ("distances", "gradient of x"), max(graph.num_nodes, x.size(1))
    for name, one, base, value, scale in zip(names, got, plain, *truth(graph, x, upstream), strict=True):
        assert one.dtype == x.dtype
        eps = max(eps_of(f64 if x.dtype == f64 else f32), eps_of(one.dtype))
        baseline = 0.0 if backend == "reference" else max_error(base, value)
        assert_error(name, one, value, scale, eps, terms, baseline)


@over(SEED)
@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
def test_grid(case: EdgeCase, dtype: torch.dtype, backend: str) -> None:
    edges = case.make(SEED, dtype)
    check(edges.graph(), features(edges, 5, dtype), backend)


@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 63, 64, 65, 130, 300])
def test_widths(width: int, backend: str) -> None:
    edges = EdgeCase("any").make(SEED, f32)
    check(edges.graph(), features(edges, width, f32), backend)


@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
def test_low_precision(dtype: torch.dtype, backend: str) -> None:
    edges = EdgeCase("any", weights="uniform", repeated=False).make(SEED, f64)
    check(edges.graph(), features(edges, 19, dtype), backend)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_index_dtypes(dtype: torch.dtype, backend: str) -> None:
    edges = EdgeCase("one-graph", sizes=(30,), batch=None).make(SEED, f32)
    graph = edges.graph()
    graph = RaggedGraph.from_csr(graph.rowptr.to(dtype), graph.col.to(dtype))
    check(graph, features(edges, 19, f32), backend)


@over(SEED, "shuffled", "symmetric", "empty-graphs")
def test_is_the_formula_edge_by_edge(case: EdgeCase, backend: str) -> None:
    edges = case.make(SEED, f32)
    graph, x = edges.graph(), features(edges, 4, f32)
    upstream = upstream_of(graph, f32)
    got, grad = run(graph, x, upstream, backend)
    expected = torch.zeros_like(x)
    for e, (i, j) in enumerate(graph.to_edge_index()[0].T.tolist()):
        differences = [one - other for one, other in zip(x[i].tolist(), x[j].tolist(), strict=True)]
        assert float(got[e]) == sum(map(abs, differences))
        for k, difference in enumerate(differences):
            slope = float(upstream[e]) * ((difference > 0) - (difference < 0))
            expected[i, k] += slope
            expected[j, k] -= slope
    torch.testing.assert_close(grad, expected, rtol=1e-5, atol=1e-5)


@over(SEED, "weighted", "shuffled-weighted", "symmetric-weighted")
def test_weighted_sums_are_the_total_variation(case: EdgeCase, backend: str) -> None:
    edges = case.make(SEED, f32)
    weight = edges.edge_weight
    assert weight is not None
    graph = edges._replace(edge_weight=weight.requires_grad_()).graph()
    leaf = features(edges, 5, f32).requires_grad_()
    assert graph.value is not None
    total = (graph.value * edge_distances(graph, leaf, backend=backend)).sum()
    variation = total_variation(leaf, graph, backend=backend).variation.sum()
    torch.testing.assert_close(total, variation)
    one, other = (torch.autograd.grad(value, (leaf, weight)) for value in (total, variation))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", ["strided", "sliced", "transposed", "expanded"])
def test_layouts(layout: str, backend: str) -> None:
    edges = EdgeCase("any").make(SEED, f32)
    n, graph = edges.num_nodes, edges.graph()
    x = {
        "strided": lambda: torch.randn(2 * n, 14)[::2, ::2],
        "sliced": lambda: torch.randn(n, 20)[:, 3:10],
        "transposed": lambda: torch.randn(7, n).t(),
        "expanded": lambda: torch.randn(1, 7).expand(n, 7),
    }[layout]()
    upstream = torch.randn(2 * graph.num_edges)[::2]
    got = run(graph, x, upstream, backend)
    expected = run(graph, x.contiguous(), upstream.contiguous(), backend)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_a_hub(native_isa: str) -> None:
    """A row that is cut, in one direction and the other, gives the same for any number of threads."""
    n = 100_001
    leaves = torch.arange(1, n)
    hub = torch.zeros_like(leaves)
    graph = RaggedGraph.from_edge_index(torch.stack([torch.cat([leaves, hub]), torch.cat([hub, leaves])]))
    x = torch.randn(n, 3, generator=torch.Generator().manual_seed(SEED))
    upstream = upstream_of(graph, f32)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(run(graph, x, upstream, native_isa))
    torch.set_num_threads(1)
    exact, scales = truth(graph, x, upstream)
    for name, one, value, scale in zip(("distances", "gradient"), results[0], exact, scales, strict=True):
        assert_error(name, one, value, scale, eps_of(f32), n)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@over(SEED, "base", "symmetric", "shuffled", "empty-graphs", "no-edges", "no-graphs")
@kinds
def test_gradcheck(case: EdgeCase, backend: str) -> None:
    edges = case.make(SEED)
    x = torch.randn(edges.num_nodes, 3, generator=torch.Generator().manual_seed(SEED), dtype=f64)
    graph = edges.graph()

    def distances(x: Tensor) -> Tensor:
        return edge_distances(graph, x, backend=backend)

    assert torch.autograd.gradcheck(distances, x.requires_grad_(), fast_mode=True)


@over(SEED, "base", "symmetric-weighted", "empty-graphs", "no-graphs")
@kinds
def test_opcheck(case: EdgeCase, backend: str) -> None:
    edges = case.make(SEED, f32)
    graph, x = edges.graph(), features(edges, 3, f32)
    rest = (graph.rowptr, graph.col, *graph.reversed_entries(), backend)
    torch.library.opcheck(operator, (x, *rest))
    torch.library.opcheck(operator, (x, *rest[:2], None, None, None, backend))
    torch.library.opcheck(operator, (x.clone().requires_grad_(), *rest))
    torch.library.opcheck(operator_backward, (upstream_of(graph, f32), x, *rest))


@over(SEED, "weighted", "symmetric-weighted", "shuffled")
@kinds
def test_compiled_in_one_graph(case: EdgeCase, backend: str) -> None:
    edges = case.make(SEED, f32)
    graph, x = edges.graph(), features(edges, 3, f32).requires_grad_()

    def loss(graph: RaggedGraph, x: Tensor) -> Tensor:
        return edge_distances(graph, x, backend=backend).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    (grad,) = torch.autograd.grad(compiled(graph, x), x)
    (plain,) = torch.autograd.grad(loss(graph, x), x)
    torch.testing.assert_close(grad, plain)


def test_transforms_run_on_the_reference(native: str) -> None:
    edges = EdgeCase("any").make(SEED)
    graph, x = edges.graph(), features(edges, 3, f64)
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(edge_distances(graph, leaf).sum(), leaf)
    torch.testing.assert_close(torch.func.grad(lambda x: edge_distances(graph, x).sum())(x), grad)
    with forward_ad.dual_level():
        dual = edge_distances(graph, forward_ad.make_dual(x, x + 1)).sum()
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, (grad * (x + 1)).sum())
    with pytest.raises(RuntimeError, match="backend 'native' cannot run edge_distances under"):
        torch.func.jacrev(lambda x: edge_distances(graph, x, backend="native"))(x)


def test_second_derivative(backend: str) -> None:
    edges = EdgeCase("any").make(SEED)
    graph, x = edges.graph(), features(edges, 3, f64).requires_grad_()
    distances = edge_distances(graph, x, backend=backend)
    (grad,) = torch.autograd.grad(distances.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"edge_distances has no second derivative; hierpool\.reference\."):
        grad.sum().backward()
    x = torch.randn(x.shape, dtype=f64, generator=torch.Generator().manual_seed(SEED)).requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda x: reference.edge_distances(graph.rowptr, graph.col, x).square(), x, fast_mode=True
    )


def test_the_transpose_is_made_only_for_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = EdgeCase("any").make(SEED)
    graph, x = edges.graph(), features(edges, 3, f64)
    monkeypatch.setattr(graph, "reversed_entries", lambda: pytest.fail("the transpose was asked for"))
    edge_distances(graph, x)
    with torch.no_grad():
        edge_distances(graph, x.requires_grad_())


GRAPH = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 4)


@pytest.mark.parametrize(
    ("kind", "message", "call"),
    [
        (
            TypeError,
            "graph must be a RaggedGraph, got Tensor",
            lambda: edge_distances(torch.ones(4, 4), torch.ones(4, 2)),  # type: ignore[arg-type]
        ),
        (TypeError, "x must be a torch.Tensor, got list", lambda: edge_distances(GRAPH, [1.0])),  # type: ignore[arg-type]
        (TypeError, "x must have dtype float32", lambda: edge_distances(GRAPH, torch.ones(4, 2, dtype=int))),  # type: ignore[arg-type]
        (
            ValueError,
            "x must have shape [N, F] = [4, F], got (4,)",
            lambda: edge_distances(GRAPH, torch.ones(4)),
        ),
        (
            ValueError,
            "x must be on the device of the graph, cpu, got meta",
            lambda: edge_distances(GRAPH, torch.ones(4, 2, device="meta")),
        ),
        (
            ValueError,
            "backend must be one of",
            lambda: edge_distances(GRAPH, torch.ones(4, 2), backend="fast"),
        ),
    ],
    ids=lambda part: part[:40] if isinstance(part, str) else "",
)
def test_bad_input(kind: type[Exception], message: str, call: Callable[[], Tensor]) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert message in str(caught.value)
