"""The total variation over edges: values and gradients against the float64 truth, padded and ragged."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph
from tests.support.cases import WIDTHS, Case, find, over
from tests.support.link import LINK_GRID, ONE_TYPE, LinkInputs, make
from tests.support.oracle import eps_of, rounding
from tests.support.running import best, both, cover
from tests.support.variation import call, check, check_ragged, padded_values, ragged_values, weights_of

SEED = 8
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
NO_RAGGED = {"no-graphs", "expanded"}  # nothing to make a graph from; entries of one memory
RAGGED = [case for case in LINK_GRID if case.name not in NO_RAGGED]
INTEGERS = [(torch.bool, f32), (torch.int8, f64), (torch.uint8, bf16), (torch.uint8, f32)]


@cover(SEED, *LINK_GRID, dtypes=[f64, f32], everywhere=[*WIDTHS[:5], LINK_GRID[-1]])
def test_grid(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@cover(SEED, *RAGGED, dtypes=[f64, f32], everywhere=[*WIDTHS[:5], LINK_GRID[-1]])
def test_ragged_grid(case: Case, dtype: torch.dtype, backend: str) -> None:
    case = replace(case, density=min(case.density, 0.1)) if case.n > 100 else case
    check_ragged(make(case, SEED, dtype), backend)


@cover(SEED, *ONE_TYPE, dtypes=[bf16, f16], everywhere=[find("n33-k31-f32")])
def test_low_precision(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@best
@pytest.mark.parametrize("dtypes", [(f32, bf16), (f32, f16), (bf16, f32), (f64, f32), (f32, f64)], ids=str)
@over(SEED, "directed-holes", "n33-k31-f32")
def test_mixed_dtypes(case: Case, dtypes: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    inputs = make(case, SEED, *dtypes)
    check(inputs, backend)
    check_ragged(inputs, backend)


@cover(SEED, "base", "holes", "directed", dtypes=INTEGERS)
def test_integer_adjacency(case: Case, dtype: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    adj, s = dtype
    weights = "ones" if adj is torch.bool else "integers"
    check(make(replace(case, weights=weights), SEED, s, adj), backend)


@both
@over(SEED, "directed", "signed", "directed-holes", "one-cluster", "more-clusters-than-nodes")
def test_is_the_formula_pair_by_pair(case: Case, backend: str) -> None:
    """A naive double loop, with rows of S that are equal in some clusters."""
    inputs = make(replace(case, n=min(case.n, 9)), SEED, f32)
    inputs = inputs._replace(s=(4 * inputs.s).round() / 4)
    s, a, valid = inputs.s.tolist(), inputs.adj.tolist(), inputs.valid.tolist()
    got = padded_values(inputs, backend)
    for b, weight in enumerate(weights_of(inputs, f64).tolist()):
        total, count = 0.0, 0
        nodes = [i for i, is_valid in enumerate(valid[b]) if is_valid]
        for i in nodes:
            slope = [0.0] * case.k
            for j in nodes:
                differences = [one - other for one, other in zip(s[b][i], s[b][j], strict=True)]
                distance = sum(map(abs, differences))
                total += a[b][i][j] * distance
                count += a[b][i][j] != 0
                both = a[b][i][j] + a[b][j][i]
                slope = [
                    x + weight * both * ((d > 0) - (d < 0)) for x, d in zip(slope, differences, strict=True)
                ]
                assert float(got.adj[b, i, j]) == pytest.approx(weight * distance, rel=1e-6)
            assert got.s[b, i].tolist() == pytest.approx(slope, rel=1e-5, abs=1e-5)
        assert float(got.variation[b]) == pytest.approx(total, rel=1e-5, abs=1e-5)
        assert int(got.entries[b]) == count


@best
@pytest.mark.parametrize("name", ["s", "adj"])
@over(SEED, LINK_GRID[-1])
def test_only_the_asked_gradient(case: Case, name: str, backend: str) -> None:
    inputs = make(case, SEED, f32)
    expected = padded_values(inputs, backend)
    leaf = getattr(inputs, name).detach().requires_grad_()
    out = call(inputs._replace(**{name: leaf}), backend)
    (grad,) = torch.autograd.grad(out.variation, leaf, weights_of(inputs, f32))
    assert torch.equal(grad, getattr(expected, name))


@both
def test_entries_have_no_gradient(backend: str) -> None:
    leaves = make(find("base"), SEED, f32).leaves()
    out = call(leaves, backend)
    assert out.variation.requires_grad
    assert not out.entries.requires_grad


@both
@over(SEED, "directed-holes", "base")
def test_an_edge_and_its_reverse_count_twice(case: Case, backend: str) -> None:
    """Of a symmetric graph the variation is that of both directions, and the promise of symmetry changes nothing."""
    inputs = make(replace(case, directed=False), SEED)
    s, graph = inputs.ragged()
    assert graph.is_symmetric
    results = []
    for symmetric in (True, False):
        leaf = s.detach().requires_grad_()
        out = hierpool.total_variation(
            leaf, graph.with_value(graph.value, symmetric=symmetric), backend=backend
        )
        results.append((out.variation, torch.autograd.grad(out.variation.sum(), leaf)[0]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=1e-13)


@both
def test_equal_rows_have_neither_variation_nor_gradient(backend: str) -> None:
    s = torch.rand(1, 1, 5).repeat(2, 8, 1).requires_grad_()
    adj = torch.rand(2, 8, 8, requires_grad=True)
    out = hierpool.total_variation(s, adj, backend=backend)
    assert out.variation.tolist() == [0, 0]
    assert out.entries.tolist() == [64, 64]
    for grad in torch.autograd.grad(out.variation.sum(), (s, adj)):
        assert not grad.any()


@both
def test_padding_reaches_nothing(backend: str) -> None:
    for name in ("holes", "num_nodes", "mask"):
        inputs = make(find(name), SEED, f32)
        expected = padded_values(inputs, backend)
        s = torch.where(inputs.valid[..., None], inputs.s, math.nan)
        both = inputs.valid[:, :, None] & inputs.valid[:, None, :]
        adj = torch.where(both, inputs.adj, math.nan)
        got = padded_values(inputs._replace(s=s, adj=adj), backend)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


@both
@pytest.mark.parametrize("name", ["s", "adj"])
def test_nan_is_not_lost_and_stays_in_its_graph(name: str, backend: str) -> None:
    inputs = make(Case("two", n=33, directed=True), SEED, f32)
    inputs.adj[0, 7, 3] = 1
    getattr(inputs, name)[0, 7, 3] = math.nan
    s, graph = inputs.ragged()
    for out in (call(inputs, backend), hierpool.total_variation(s, graph, backend=backend)):
        assert out.variation.isnan().tolist() == [True, False]
        assert out.entries.tolist() == (inputs.adj != 0).sum((1, 2)).tolist()


@both
@pytest.mark.parametrize("infinite", [math.inf, math.nan])
def test_a_row_without_entries_counts_nothing(infinite: float, backend: str) -> None:
    """Whatever it holds; also where a ragged graph stores zeros."""
    inputs = make(Case("isolated", n=9, connected=8), SEED, f32)
    expected = call(inputs, backend)
    inputs.s[:, 8] = infinite
    got = call(inputs, backend)
    assert torch.equal(got.variation, expected.variation)
    graph = RaggedGraph.from_edge_index(
        torch.tensor([[0, 1, 2], [1, 0, 0]]), 3, edge_weight=torch.tensor([2.0, 1.0, 0.0])
    )
    out = hierpool.total_variation(torch.tensor([[0.5], [1.0], [infinite]]), graph, backend=backend)
    assert (out.variation.tolist(), out.entries.tolist()) == ([1.5], [2.0])


def batch_of(sizes: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Edges with duplicates and self-loops, the graph of every node, and S in float64."""
    draw = torch.Generator().manual_seed(seed)
    first = torch.tensor([0, *sizes]).cumsum(0)
    edges = [
        start + torch.randint(0, size, (2, 3 * size), generator=draw)
        for start, size in zip(first.tolist(), sizes, strict=False)
        if size
    ]
    batch = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return torch.cat(edges, 1), batch, torch.randn(int(first[-1]), 5, generator=draw, dtype=f64)


@both
@pytest.mark.parametrize("unsorted", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_batch_of_edges(unsorted: bool, weighted: bool, backend: str) -> None:
    """Duplicates, self-loops, an empty graph and one without edges; nodes in any order."""
    edge_index, batch, s = batch_of([7, 0, 1, 60, 12], SEED)
    if unsorted:
        order = torch.randperm(batch.numel(), generator=torch.Generator().manual_seed(SEED))
        place = torch.empty_like(order)
        place[order] = torch.arange(order.numel())
        edge_index, batch, s = place[edge_index], batch[order], s[order]
    draw = torch.Generator().manual_seed(SEED)
    weight = torch.randn(edge_index.size(1), generator=draw, dtype=f64) if weighted else None
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    leaves = [None if weight is None else weight.clone().requires_grad_() for _ in range(2)]
    graph = RaggedGraph.from_edge_index(edge_index, edge_weight=leaves[0], batch=batch, num_graphs=6)
    out = hierpool.total_variation(ours, graph, backend=backend)
    terms = (theirs[edge_index[0]] - theirs[edge_index[1]]).abs().sum(1)
    terms = terms if leaves[1] is None else leaves[1] * terms
    expected = torch.zeros(6, dtype=f64).index_add(0, batch[edge_index[0]], terms)
    torch.testing.assert_close(out.variation.double(), expected, rtol=1e-12, atol=1e-12)
    different = torch.unique(edge_index, dim=1)
    assert torch.equal(out.entries.long(), batch[different[0]].bincount(minlength=6))
    scale = torch.arange(6, dtype=f64) - 2
    ours_leaves, theirs_leaves = (
        [x, *(w for w in leaves[i : i + 1] if w is not None)] for i, x in enumerate((ours, theirs))
    )
    got = torch.autograd.grad(out.variation, ours_leaves, scale.to(out.variation.dtype))
    true = torch.autograd.grad(expected, theirs_leaves, scale)
    for one, other in zip(got, true, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@both
@pytest.mark.parametrize("wide", [False, True])
def test_both_widths_of_indices(wide: bool, backend: str) -> None:
    edge_index, batch, s = batch_of([9, 80], SEED)
    s = s.float()
    graph = RaggedGraph.from_edge_index(edge_index, batch=batch)
    dtype = torch.int64 if wide else torch.int32
    other = RaggedGraph(graph.rowptr.to(dtype), graph.col.to(dtype), graph.value, graph.ptr)
    results = []
    for one in (graph, other):
        leaf = s.clone().requires_grad_()
        out = hierpool.total_variation(leaf, one, backend=backend)
        results.append((*out, *torch.autograd.grad(out.variation.sum(), leaf)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@both
def test_no_node_at_all(backend: str) -> None:
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), num_nodes=0)
    s = torch.zeros(0, 3, requires_grad=True)
    out = hierpool.total_variation(s, graph, backend=backend)
    out.variation.sum().backward()
    assert (out.variation.tolist(), out.entries.tolist()) == ([0.0], [0.0])
    assert s.grad is not None
    assert s.grad.shape == (0, 3)


def test_threads_change_no_bit(native_isa: str) -> None:
    for case, dtype in zip(LINK_GRID[-3:], (f32, f64, bf16), strict=True):
        inputs = make(replace(case, directed=True, density=0.2), SEED, dtype)
        for values in (padded_values, ragged_values):
            expected = values(inputs, native_isa)
            for threads in (2, 3):
                torch.set_num_threads(threads)
                got = values(inputs, native_isa)
                torch.set_num_threads(1)
                assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), threads


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_hub(symmetric: bool, native_isa: str) -> None:
    """A row that is cut, in one direction and the other, gives the same for any number of threads."""
    n = 100_001
    leaves = torch.arange(1, n)
    edge_index = torch.stack([leaves, torch.zeros_like(leaves)])
    both = torch.cat([edge_index, edge_index.flip(0)], 1)
    graph = RaggedGraph.from_edge_index(both if symmetric else edge_index, n)
    assert graph.is_symmetric == symmetric
    s = torch.randn(n, 3, generator=torch.Generator().manual_seed(SEED))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        leaf = s.clone().requires_grad_()
        out = hierpool.total_variation(leaf, graph, backend=native_isa)
        grad = torch.autograd.grad(out.variation.sum(), leaf)
        results.append((out.variation.detach(), out.entries, *grad))
    apart = s.double() - s.double()[0]
    times = 2 if symmetric else 1
    exact = times * float(apart.abs().sum())
    assert float(results[0][0]) == pytest.approx(exact, rel=rounding(n) * eps_of(f32))
    assert float(results[0][1]) == times * (n - 1)
    assert torch.equal(results[0][2][1:], times * apart[1:].sign().float())
    assert torch.equal(results[0][2][0], -times * apart.sign().sum(0).float())
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@both
def test_a_graph_does_not_see_its_neighbours(backend: str) -> None:
    inputs = make(find("mask"), SEED, f32)
    assert inputs.mask is not None
    whole = call(inputs, backend)
    for b in range(4):
        one = LinkInputs(inputs.s[b : b + 1], inputs.adj[b : b + 1], inputs.mask[b : b + 1])
        for part, all_parts in zip(call(one, backend), whole, strict=True):
            assert torch.equal(part, all_parts[b : b + 1])


def test_the_transpose_is_made_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    s, graph = make(find("directed-holes"), SEED, f32).ragged()
    assert graph.value is not None
    value = graph.value.detach().requires_grad_()
    learned = graph.with_value(value, symmetric=False)
    for one in (graph, learned):
        monkeypatch.setattr(one, "transposed", lambda: pytest.fail("the transpose was asked for"))
    hierpool.total_variation(s, graph)
    with torch.no_grad():
        hierpool.total_variation(s.clone().requires_grad_(), learned)
    hierpool.total_variation(s, learned).variation.sum().backward()
    assert value.grad is not None
