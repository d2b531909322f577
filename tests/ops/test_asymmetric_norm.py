"""The asymmetric norm: values and gradients against the float64 truth, ties, and the ends of its definition."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph, reference
from hierpool.contract import Padded
from hierpool.ops.asymmetric_norm import OPERATOR, Call, Options, Out
from tests.support.asymmetric_norm import NORM_GRID, ONE_TYPE, NormInputs, check, make, upstream_of, values
from tests.support.cases import WIDTHS, Case, find, over
from tests.support.running import best, both, cover

SEED = 8
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


@cover(SEED, *NORM_GRID, dtypes=[f64, f32], everywhere=[*WIDTHS[:5], NORM_GRID[-7], NORM_GRID[-1]])
def test_grid(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@cover(SEED, *ONE_TYPE, NORM_GRID[-7], NORM_GRID[-1], dtypes=[bf16, f16], everywhere=[NORM_GRID[-7]])
def test_low_precision(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@pytest.mark.parametrize("digits", [1, 4])
@cover(
    SEED, "holes", "num_nodes", "n33-k31-f32", NORM_GRID[-7], NORM_GRID[-1], dtypes=[f64, bf16, f16, f32],
    everywhere=[NORM_GRID[-7]],
)  # fmt: skip
def test_ties(case: Case, digits: int, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype, digits), backend)


@pytest.mark.parametrize("shuffled", [False, True])
@cover(
    SEED, "base", "num_nodes", "holes", "fully-masked", "no-nodes", "one-node", "one-cluster",
    "more-clusters-than-nodes", "sliced", "strided", NORM_GRID[-7], NORM_GRID[-6], NORM_GRID[-1],
    dtypes=[f64, bf16, f32],
)  # fmt: skip
def test_ragged(case: Case, dtype: torch.dtype, shuffled: bool, backend: str) -> None:
    check(make(case, SEED, dtype, 6).ragged(SEED if shuffled else None), backend)


@both
@pytest.mark.parametrize("dtype", [f32, bf16], ids=str)
def test_one_graph_that_is_much_larger_than_the_others(dtype: torch.dtype, backend: str) -> None:
    case = Case("skewed", b=8, n=80, k=5, valid="num_nodes", sizes=(2, 80, 0, 1, 3, 2, 1, 2))
    check(make(case, SEED, dtype).ragged(), backend)


@both
def test_balanced_clusters_have_the_largest_norm(backend: str) -> None:
    """n (K - 1); one cluster for all nodes, or equal shares of all, have none."""
    n, k = 20, 4
    nodes = torch.arange(n)
    balanced = torch.eye(k)[nodes % k]
    one = torch.eye(k)[nodes * 0]
    equal = torch.full((n, k), 1 / k)
    norm = hierpool.asymmetric_norm(torch.stack([balanced, one, equal]), backend=backend)
    assert norm.tolist() == [n * (k - 1), 0, 0]


def outputs(s: Tensor, backend: str, mask: Tensor | None = None, num_nodes: Tensor | None = None) -> Any:
    """All outputs of the operator."""
    return Out(*OPERATOR(Call(s, Padded(mask, num_nodes), None, Options(backend)), Out._fields))


@pytest.mark.parametrize("dtype", [f64, f32, bf16, f16], ids=str)
@pytest.mark.parametrize("n", [7, 70])
def test_quantiles_of_any_floats(n: int, dtype: torch.dtype, backend: str) -> None:
    """Of both signs, both zeros, subnormal, the largest there are; the rows of ties in their order."""
    info = torch.finfo(dtype)
    ends = [0.0, -0.0, info.tiny, -info.tiny, info.tiny / 4, -info.tiny / 4, info.max, -info.max, 1.0, -1.0]
    draw = torch.Generator().manual_seed(SEED)
    for k in (2, 5):
        s = torch.tensor(ends, dtype=f64)[torch.randint(0, len(ends), (3, n, k), generator=draw)].to(dtype)
        ordered = s.double().sort(dim=1, descending=True).values[:, n // k]
        _, quantile, row, _ = outputs(s, backend)
        assert torch.equal(quantile.double(), ordered)
        assert torch.equal(row, (s == quantile[:, None]).long().argmax(1))


@pytest.mark.parametrize("dtype", [f64, f32, bf16, f16], ids=str)
@pytest.mark.parametrize("n", [9, 90])
def test_nan_counts_as_the_largest(n: int, dtype: torch.dtype, backend: str) -> None:
    """One NaN in a column: that entry, and the row of the quantile, have the gradient NaN. Many: the whole column."""
    k = 3
    s = make(Case("nan", b=3, n=n, k=k), SEED, dtype).s.clone()
    s[0, 4, 1] = math.nan
    s[1, : n // 2, 0] = -math.nan
    norm, quantile, row, slope = outputs(s, backend)
    assert norm.isnan().tolist() == [True, True, False]
    expected = s.double().sort(dim=1, descending=True).values[:, n // k].to(dtype)
    torch.testing.assert_close(quantile, expected, rtol=0, atol=0, equal_nan=True)
    assert row[1, 0] == 0
    assert slope.isnan().nonzero().tolist() == [[0, 1], [1, 0]]
    got = values(NormInputs(s), backend, torch.ones_like(norm)).s
    nan = torch.zeros_like(s, dtype=torch.bool)
    nan[0, 4, 1] = nan[0, int(row[0, 1]), 1] = True
    nan[1, :, 0] = True
    assert torch.equal(got.isnan(), nan)
    clean = values(NormInputs(s[2:]), backend, torch.ones_like(norm[2:])).s
    assert torch.equal(got[2:], clean)


@both
@pytest.mark.parametrize("n", [9, 90])
def test_infinite_entries(n: int, backend: str) -> None:
    s = make(Case("infinite", b=2, n=n, k=3), SEED, f32).s.clone()
    s[0, 5, 1] = math.inf
    s[1, 5, 1] = -math.inf
    norm, quantile, *_ = outputs(s, backend)
    assert norm.tolist() == [math.inf, math.inf]
    assert quantile.isfinite().all()
    grad = values(NormInputs(s), backend, torch.ones(2)).s
    assert grad[:, 5, 1].tolist() == [2.0, -1.0]
    s[0, : n // 2, 1] = math.inf
    norm, quantile, row, _ = outputs(s, backend)
    assert norm.isnan().tolist() == [True, False]
    assert (quantile[0, 1], row[0, 1]) == (math.inf, 0)


@both
@pytest.mark.parametrize("name", ["holes", "num_nodes", "mask"])
def test_padding_reaches_nothing(name: str, backend: str) -> None:
    for case in (find(name), replace(find(name), n=90)):
        inputs = make(case, SEED, f32)
        expected = values(inputs, backend)
        for value in (math.nan, 1e30):
            s = torch.where(inputs.valid[..., None], inputs.s, value)
            got = values(inputs._replace(s=s), backend)
            assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
            assert not got.s[~inputs.valid].any()


@both
def test_a_graph_without_nodes(backend: str) -> None:
    inputs = make(Case("empty", b=3, n=5, valid="num_nodes", sizes=(5, 0, 3)), SEED, f32)
    for each in (inputs, inputs.ragged()):
        got = values(each, backend)
        assert got.norm[1] == 0
        assert got.s.isfinite().all()
    _, quantile, row, slope = outputs(inputs.s, backend, num_nodes=inputs.num_nodes)
    assert quantile[1].tolist() == slope[1].tolist() == [0.0] * 4
    assert row[1].tolist() == [-1] * 4


@best
@over(SEED, "holes", NORM_GRID[-7])
def test_outputs_are_those_of_the_reference(case: Case, backend: str) -> None:
    inputs = make(case, SEED, f32, 5)
    got = outputs(inputs.s, backend, inputs.mask, inputs.num_nodes)
    expected = reference.asymmetric_norm(inputs.s, inputs.mask, inputs.num_nodes)
    for name, one, other in zip(expected._fields, got, expected, strict=True):
        assert one.dtype == other.dtype
        if name == "norm":
            torch.testing.assert_close(one, other)
        else:
            assert torch.equal(one, other), name


@both
@over(SEED, "holes", "num_nodes", "n33-k31-f32", *NORM_GRID[-7:-5])
def test_a_graph_has_the_norm_of_its_own_clusters_alone(case: Case, backend: str) -> None:
    """With NaN in the columns that are no clusters."""
    padded = make(case, SEED, f32, 6)
    k = padded.s.size(-1)
    counts = torch.arange(len(padded.nodes)).mul(7).remainder(k) + 1
    for inputs in (padded, padded.ragged(SEED)):
        s, exists = inputs.s.clone(), torch.zeros(inputs.s.shape, dtype=torch.bool)
        for nodes, count in zip(inputs.nodes, counts.tolist(), strict=True):
            exists.view(-1, k)[nodes, :count] = True
        got = values(inputs._replace(s=torch.where(exists, s, torch.nan), num_clusters=counts), backend)
        assert not got.s[~exists].any()
        for b, (nodes, count) in enumerate(zip(inputs.nodes, counts.tolist(), strict=True)):
            one = NormInputs(s.view(-1, k)[nodes, :count][None])
            expected = values(one, backend, upstream_of(inputs)[b : b + 1])
            torch.testing.assert_close(got.norm[b : b + 1], expected.norm)
            torch.testing.assert_close(got.s.reshape(-1, k)[nodes, :count], expected.s[0])


@both
def test_masks_of_other_types(backend: str) -> None:
    inputs = make(find("holes"), SEED, f32)
    assert inputs.mask is not None
    expected = inputs.norm(backend)
    for mask in (inputs.mask.float(), inputs.mask.to(torch.uint8) * 3):
        assert torch.equal(inputs._replace(mask=mask).norm(backend), expected)
    counts = make(find("num_nodes"), SEED, f32)
    assert counts.num_nodes is not None
    narrow = counts._replace(num_nodes=counts.num_nodes.to(torch.int32))
    assert torch.equal(narrow.norm(backend), counts.norm(backend))


@both
def test_edges_are_not_looked_at(backend: str) -> None:
    s = make(Case("edges", b=1, n=9), SEED, f32).s[0]
    draw = torch.Generator().manual_seed(SEED)
    batch = torch.tensor([1, 0, 1, 1, 0, 0, 2, 2, 1])
    edges = torch.randint(0, 9, (2, 40), generator=draw)
    edges = edges[:, batch[edges[0]] == batch[edges[1]]]  # directed, with duplicates and self-loops
    graphs = [
        RaggedGraph.from_edge_index(edges, 9, batch=batch, num_graphs=3),
        RaggedGraph.from_edge_index(
            edges, 9, edge_weight=torch.rand(edges.size(1)), batch=batch, num_graphs=3
        ),
        RaggedGraph.from_edge_index(edges[:, :0], 9, batch=batch, num_graphs=3),
    ]
    norms = [hierpool.asymmetric_norm(s, graph, backend=backend) for graph in graphs]
    assert all(torch.equal(norm, norms[0]) for norm in norms)
    check(NormInputs(s, graph=graphs[0]), backend)


def test_threads_change_no_bit(native_isa: str) -> None:
    for case, dtype in zip((*NORM_GRID[-3:], find("num_nodes")), (f32, f64, bf16, f32), strict=True):
        for inputs in (make(case, SEED, dtype), make(case, SEED, dtype, 5).ragged()):
            expected = values(inputs, native_isa)
            for threads in (2, 3):
                torch.set_num_threads(threads)
                got = values(inputs, native_isa)
                torch.set_num_threads(1)
                assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), threads


@both
def test_a_graph_does_not_see_its_neighbours(backend: str) -> None:
    inputs = make(find("mask"), SEED, f32)
    assert inputs.mask is not None
    each = [NormInputs(inputs.s[b : b + 1], inputs.mask[b : b + 1]).norm(backend) for b in range(4)]
    assert torch.equal(torch.cat(each), inputs.norm(backend))
