"""Distances of the ends of edges: values and gradients against float64, for every backend."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, edge_distances, total_variation
from tests.support.edges import CASES, EdgeCase, Edges, over
from tests.support.oracle import assert_error, eps_of, max_error
from tests.support.running import best, both, cover

SEED = 32
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


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
        assert one.dtype == base.dtype == x.dtype
        eps = max(eps_of(f64 if x.dtype == f64 else f32), eps_of(one.dtype))
        assert_error(name, base, value, scale, eps, terms)
        assert_error(name, one, value, scale, eps, terms, max_error(base, value))


@cover(SEED, *CASES, dtypes=[f64, f32])
def test_grid(case: EdgeCase, dtype: torch.dtype, backend: str) -> None:
    edges = case.make(SEED, dtype)
    check(edges.graph(), features(edges, 5, dtype), backend)


@pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 63, 64, 65, 130, 300])
def test_widths(width: int, backend: str) -> None:
    edges = EdgeCase("any").make(SEED, f32)
    check(edges.graph(), features(edges, width, f32), backend)


@best
@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
def test_low_precision(dtype: torch.dtype, backend: str) -> None:
    edges = EdgeCase("any", weights="uniform", repeated=False).make(SEED, f64)
    check(edges.graph(), features(edges, 19, dtype), backend)


@both
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_index_dtypes(dtype: torch.dtype, backend: str) -> None:
    edges = EdgeCase("one-graph", sizes=(30,), batch=None).make(SEED, f32)
    graph = edges.graph()
    graph = RaggedGraph.from_csr(graph.rowptr.to(dtype), graph.col.to(dtype))
    check(graph, features(edges, 19, f32), backend)


@both
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


@both
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


@both
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


def test_the_transpose_is_made_only_for_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = EdgeCase("any").make(SEED)
    graph, x = edges.graph(), features(edges, 3, f64)
    monkeypatch.setattr(graph, "reversed_entries", lambda: pytest.fail("the transpose was asked for"))
    edge_distances(graph, x)
    with torch.no_grad():
        edge_distances(graph, x.requires_grad_())
