"""Identities of soft pooling on drawn inputs, and values at the edges: padding, infinities, zeros."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierpool import SoftPoolRecord
from tests.support.cases import Case, Inputs, find, over
from tests.support.oracle import Fields, assert_error, assign, eps_of, fields, rounding
from tests.support.running import INTERPRETED, check, random_upstream, run

SEED = 5
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16

CASES = st.builds(
    Case,
    name=st.just("drawn"),
    b=st.integers(1, 3),
    n=st.integers(0, 20),
    k=st.integers(1, 9),
    f=st.integers(0, 6),
    r=st.sampled_from([None, 1, 3]),
    valid=st.sampled_from(["all", "mask", "holes", "num_nodes"]),
    density=st.sampled_from([0.1, 0.5, 2.0]),
    weights=st.sampled_from(["ones", "uniform", "signed"]),
    directed=st.booleans(),
)
SEEDS = st.integers(0, 2**31)
# The backend is chosen once per test, which is what the health check asks to confirm.
drawn = settings(
    max_examples=10 if INTERPRETED else 25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_same(got: SoftPoolRecord, expected: Any, inputs: Inputs) -> None:
    """Equal in every field but for the order of the sums."""
    exact = inputs.double()
    magnitudes = exact._replace(x=exact.x.abs(), adj=exact.adj.abs())
    p = torch.where(exact.valid[..., None], exact.s, 0)
    scales = fields(magnitudes, p if exact.given else assign(p, exact.temperature), majorant=True)
    terms = max(*inputs.s.shape[1:], inputs.x.size(2))
    for name, one, other, scale in zip(Fields._fields, got, expected, scales, strict=True):
        assert one is not None
        if name == "link_norm":
            one, other, scale = one.square(), other.square(), scale.square()
        assert_error(name, one, other, scale, eps_of(f64), terms)


def index_nodes(inputs: Inputs, order: Tensor) -> Inputs:
    """The nodes in another order; ``order`` is a permutation."""
    mask = inputs.valid[:, order]
    adj = inputs.adj[..., order, :][..., order]
    return inputs._replace(x=inputs.x[:, order], adj=adj, s=inputs.s[:, order], mask=mask, num_nodes=None)


@given(case=CASES, seed=SEEDS)
@drawn
def test_permuting_nodes_permutes_only_s(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    order = torch.randperm(case.n, generator=torch.Generator().manual_seed(seed))
    expected = inputs.pool(backend)
    expected = expected._replace(s=expected.s[:, order])
    permuted = index_nodes(inputs, order)
    assert_same(permuted.pool(backend), expected, permuted)


@given(case=CASES, seed=SEEDS)
@drawn
def test_permuting_clusters_permutes_rows_and_columns(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    order = torch.randperm(case.k, generator=torch.Generator().manual_seed(seed))
    one = inputs.pool(backend)
    assert one.gram is not None
    expected = one._replace(
        s=one.s[..., order],
        x=one.x[:, order],
        adj=one.adj[..., order, :][..., order],
        gram=one.gram[:, order][..., order],
        vectors=one.vectors[..., order],
    )
    permuted = inputs._replace(s=inputs.s[..., order])
    assert_same(permuted.pool(backend), expected, permuted)


@given(case=CASES, seed=SEEDS, more=st.integers(1, 9))
@drawn
def test_padding_changes_nothing(case: Case, seed: int, more: int, backend: str) -> None:
    inputs = case.make(seed)
    padded = inputs._replace(
        x=torch.nn.functional.pad(inputs.x, (0, 0, 0, more), value=3),
        adj=torch.nn.functional.pad(inputs.adj, (0, more, 0, more), value=3),
        s=torch.nn.functional.pad(inputs.s, (0, 0, 0, more), value=3),
        mask=torch.nn.functional.pad(inputs.valid, (0, more)),
        num_nodes=None,
    )
    record = padded.pool(backend)
    assert not record.s[:, case.n :].any()
    assert_same(record._replace(s=record.s[:, : case.n]), inputs.pool(backend), inputs)


@given(case=CASES, seed=SEEDS)
@drawn
def test_a_batch_is_its_graphs_one_by_one(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    valid = inputs.valid
    whole = inputs.pool(backend)
    singles = []
    for b in range(case.b):
        x, adj, s = (t[b : b + 1] for t in inputs[:3])
        singles.append(
            inputs._replace(x=x, adj=adj, s=s, mask=valid[b : b + 1], num_nodes=None).pool(backend)
        )
    joined = [torch.cat([single[i] for single in singles]) for i in range(6)]  # type: ignore[misc]
    total = torch.stack([single.total_entropy for single in singles]).sum()
    norm = torch.stack([single.link_norm for single in singles]).square().sum(0).sqrt()
    assert_same(whole, [*joined, total, norm], inputs)


@given(case=CASES, seed=SEEDS)
@drawn
def test_a_hard_assignment_contracts_the_graph(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    label = torch.randint(0, case.k, inputs.s.shape[:2], generator=torch.Generator().manual_seed(seed))
    hard = inputs._replace(s=torch.nn.functional.one_hot(label, case.k).double(), given=True)
    record = hard.pool(backend)
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    expected = torch.zeros(case.b, adj.size(1), case.k, case.k, dtype=f64)
    for b in range(case.b):
        nodes = inputs.valid[b].nonzero().flatten().tolist()
        for i in nodes:
            for j in nodes:
                expected[b, :, label[b, i], label[b, j]] += adj[b, :, i, j]
    # Sums of at most 400 weights of size 1.
    torch.testing.assert_close(record.adj.reshape(expected.shape), expected, rtol=0, atol=1e-12)
    assert not record.entropy.any()


@given(case=CASES, seed=SEEDS, factor=st.sampled_from([-2.0, 0.0, 0.5, 4.0]))
@drawn
def test_scaling_the_adjacency(case: Case, seed: int, factor: float, backend: str) -> None:
    inputs = case.make(seed)
    one, scaled = inputs.pool(backend), inputs._replace(adj=inputs.adj * factor).pool(backend)
    for name in ("adj", "volume", "total_degree", "cut_degree"):  # powers of two: exact
        assert torch.equal(getattr(scaled, name), factor * getattr(one, name)), name
    assert torch.equal(scaled.adj_sq, factor**2 * one.adj_sq)
    assert torch.equal(scaled.s, one.s)
    assert torch.equal(scaled.x, one.x)


@given(case=CASES, seed=SEEDS)
@drawn
def test_row_sums(case: Case, seed: int, backend: str) -> None:
    inputs = case.make(seed)
    record = inputs.pool(backend)
    assert record.gram is not None
    assert torch.equal(record.num_nodes, inputs.valid.sum(1).double())
    torch.testing.assert_close(record.s.sum(-1), inputs.valid.double())
    torch.testing.assert_close(record.size.sum(-1), record.num_nodes)
    torch.testing.assert_close(record.gram.sum(-1), record.size)
    torch.testing.assert_close(record.adj.sum(-1), record.volume)
    torch.testing.assert_close(record.adj.sum((-1, -2)), record.total_degree)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@over(SEED, "base", "holes", "n33-k31-f32", "n513", "n1100")
def test_the_product_of_s_is_at_distance_zero(case: Case, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    s = inputs.pool("reference").s
    record = inputs._replace(adj=s @ s.mT).pool(backend)
    assert (record.link_sq <= rounding(case.n) * eps_of(dtype) * record.adj_sq).all()
    assert (record.link_sq >= 0).all()


PADDED = ["mask", "num_nodes", "holes", "directed-holes", "three-types-num_nodes", "three-types-holes"]


def fill_padding(inputs: Inputs, value: float) -> Inputs:
    valid = inputs.valid
    both = valid[:, None] & valid[..., None]
    both = both if inputs.adj.dim() == 3 else both[:, None]
    return inputs._replace(
        x=torch.where(valid[..., None], inputs.x, value).to(inputs.x.dtype),
        adj=torch.where(both, inputs.adj, value).to(inputs.adj.dtype),
        s=torch.where(valid[..., None], inputs.s, value).to(inputs.s.dtype),
    )


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(f32, float("nan")), (f16, float("inf")), (f32, -float("inf")), (f16, 3e4)],
    ids=str,
)
@over(SEED, *PADDED, "fully-masked", "given", "n700-num_nodes", "n900-holes")
def test_padding_reaches_nothing(case: Case, dtype: torch.dtype, value: float, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    clean, grads, upstream = run(fill_padding(inputs, 0), backend)
    dirty, dirty_grads, _ = run(fill_padding(inputs, value), backend, upstream)
    for name, one, other in zip(clean._fields, clean, dirty, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other), name
    padding = ~inputs.valid
    for name, one, other in zip(grads._fields, grads, dirty_grads, strict=True):
        assert torch.equal(one, other), f"gradient of {name}"
    assert not dirty_grads.x[padding].any()
    assert not dirty_grads.s[padding].any()
    adj = dirty_grads.adj if inputs.adj.dim() == 4 else dirty_grads.adj[:, None]
    assert not adj.movedim(1, -1)[padding].any()
    assert not adj.movedim(1, -1).transpose(1, 2)[padding].any()


@over(SEED, *PADDED)
def test_gradient_of_s_in_padding_is_ignored(case: Case, backend: str) -> None:
    inputs = case.make(SEED)
    upstream = random_upstream(inputs.pool(backend), SEED)
    _, expected, _ = run(inputs, backend, upstream)
    upstream[0] = torch.where(inputs.valid[..., None], upstream[0], float("nan"))
    _, got, _ = run(inputs, backend, upstream)
    assert torch.equal(got.s, expected.s)


@pytest.mark.parametrize("kind", ["nan", "integer", "float"])
def test_mask_is_nonzero_or_not(kind: str, backend: str) -> None:
    inputs = find("holes").make(SEED)
    assert inputs.mask is not None
    on = {"nan": float("nan"), "integer": 2, "float": -0.5}[kind]
    mask = torch.where(inputs.mask, on, 0)
    got, expected = inputs._replace(mask=mask).pool(backend), inputs.pool(backend)
    assert all(
        torch.equal(a, b) for a, b in zip(got, expected, strict=True) if a is not None and b is not None
    )


@pytest.mark.parametrize("dtype", [f64, f32, bf16], ids=str)
@over(SEED, "base", "holes", "temperature", "n33-k31-f32", "n513")
def test_logits_of_minus_infinity(case: Case, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    off = torch.rand(inputs.s.shape, generator=torch.Generator().manual_seed(SEED)) < 0.4
    off[..., 0] = False
    inputs = inputs._replace(s=inputs.s.masked_fill(off, -float("inf")))
    record, grads, _ = run(inputs, backend)
    assert not record.s[off].any()
    assert not grads.s[off].any()
    check(inputs, backend)


@pytest.mark.parametrize(
    "row", [[-float("inf")] * 4, [float("nan"), 0, 1, 2], [float("inf"), 0, 1, 2]], ids=str
)
def test_a_row_without_softmax_is_nan_as_in_torch(row: list[float], backend: str) -> None:
    inputs = find("base").make(SEED, f32)
    inputs.s[1, 3] = torch.tensor(row)
    record = inputs.pool(backend)
    assert torch.equal(record.s.isnan(), inputs.s.softmax(-1).isnan())
    # It stays in its graph, and is not hidden there.
    assert record.scalars[0].isfinite().all()
    for value in (
        record.x[1],
        record.adj[1],
        record.gram,
        record.entropy[1],
        record.link_sq[1],
        record.link_norm,
    ):
        assert value is not None
        assert value.isnan().any()


@pytest.mark.parametrize("density", [0.02, 1.0])
def test_nan_of_a_valid_entry_is_not_hidden(density: float, backend: str) -> None:
    inputs = Case("nan", b=2, n=30, density=density, directed=True).make(SEED, f32)
    inputs.adj[1, 29, 28] = float("nan")
    inputs.x[0, 29, 2] = float("nan")
    record = inputs.pool(backend)
    for value in (
        record.adj,
        record.total_degree,
        record.adj_sq,
        record.link_sq,
        record.volume,
        record.cut_degree,
    ):
        assert value[1].isnan().any()
        assert value[0].isfinite().all()
    assert torch.equal(record.x.isnan().any(1), torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool())


@pytest.mark.parametrize("dtype", [f64, f32, f16], ids=str)
@pytest.mark.parametrize("n", [3, 40])
def test_gradient_where_the_link_norm_is_zero(n: int, dtype: torch.dtype, backend: str) -> None:
    adj = torch.ones(2, 2, n, n, dtype=dtype)  # one cluster: S S^T is all ones
    adj[:, 1, 0, 1] = 4
    inputs = Inputs(
        torch.ones(2, n, 1, dtype=dtype), adj, torch.zeros(2, n, 1, dtype=dtype), given=False
    ).leaves()
    record = inputs.pool(backend)
    assert record.link_norm.tolist() == pytest.approx([0, 18**0.5])
    ds, dadj = torch.autograd.grad(record.link_norm.sum(), (inputs.s, inputs.adj))
    assert not ds.any()  # one cluster: S does not move
    assert not dadj[:, 0].any()
    expected = torch.zeros(n, n)
    expected[0, 1] = 3 / 18**0.5
    torch.testing.assert_close(dadj[0, 1].float(), expected, rtol=eps_of(dtype), atol=eps_of(f32))
