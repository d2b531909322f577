"""Soft pooling of values at the edges: padding, infinities, NaN."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierpool import SoftPoolRecord
from tests.support.cases import Case, Inputs, Recipe, find, over
from tests.support.oracle import Fields, eps_of
from tests.support.running import both, check, cover, random_upstream, run
from tests.support.sparse import Ragged, padded_of, ragged

SEED = 5
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


def fill_padding(inputs: Inputs, value: float) -> Inputs:
    valid = inputs.valid
    both = valid[:, None] & valid[..., None]
    both = both if inputs.adj.dim() == 3 else both[:, None]
    return inputs._replace(
        x=torch.where(valid[..., None], inputs.x, value).to(inputs.x.dtype),
        adj=torch.where(both, inputs.adj, value).to(inputs.adj.dtype),
        s=torch.where(valid[..., None], inputs.s, value).to(inputs.s.dtype),
    )


PADDINGS = [(f32, float("nan")), (f16, float("inf")), (f32, -float("inf")), (f16, 3e4)]
CASES_WITH_PADDING = ["mask", "num_nodes", "holes", "directed-holes", "three-types-holes"]


@cover(SEED, *CASES_WITH_PADDING, "fully-masked", "given", "n700-num_nodes", "n900-holes", dtypes=PADDINGS)
def test_padding_reaches_nothing(case: Case, dtype: tuple[torch.dtype, float], backend: str) -> None:
    of, value = dtype
    inputs = case.make(SEED, of)
    clean, grads, upstream = run(fill_padding(inputs, 0), backend)
    dirty, dirty_grads, _ = run(fill_padding(inputs, value), backend, upstream)
    for name, one, other in zip(Fields._fields, clean[:8], dirty[:8], strict=True):
        assert torch.equal(one, other), name  # type: ignore[arg-type]
    padding = ~inputs.valid
    for name, one, other in zip(grads._fields, grads, dirty_grads, strict=True):
        assert torch.equal(one, other), f"gradient of {name}"
    assert not dirty_grads.x[padding].any()
    assert not dirty_grads.s[padding].any()
    adj = dirty_grads.adj if inputs.adj.dim() == 4 else dirty_grads.adj[:, None]
    assert not adj.movedim(1, -1)[padding].any()
    assert not adj.movedim(1, -1).transpose(1, 2)[padding].any()


@both
@over(SEED, *CASES_WITH_PADDING)
def test_gradient_of_s_in_padding_is_ignored(case: Case, backend: str) -> None:
    inputs = case.make(SEED)
    upstream = random_upstream(inputs.pool(backend), SEED)
    _, expected, _ = run(inputs, backend, upstream)
    upstream[0] = torch.where(inputs.valid[..., None], upstream[0], float("nan"))
    _, got, _ = run(inputs, backend, upstream)
    assert torch.equal(got.s, expected.s)


@both
@pytest.mark.parametrize("kind", ["nan", "integer", "float"])
def test_mask_is_nonzero_or_not(kind: str, backend: str) -> None:
    inputs = find("holes").make(SEED)
    assert inputs.mask is not None
    on = {"nan": float("nan"), "integer": 2, "float": -0.5}[kind]
    got, expected = (
        inputs._replace(mask=mask).pool(backend) for mask in (torch.where(inputs.mask, on, 0), inputs.mask)
    )
    assert all(torch.equal(a, b) for a, b in zip(got[:8], expected[:8], strict=True))  # type: ignore[arg-type]


@cover(
    SEED, "base", "temperature", "n33-k31-f32", "n513", *ragged("holes", "n33-k31-f32", "n513"),
    dtypes=[f64, bf16, f32], everywhere=[find("n33-k31-f32")],
)  # fmt: skip
def test_logits_of_minus_infinity(case: Recipe, dtype: torch.dtype, backend: str) -> None:
    inputs = case.make(SEED, dtype)
    whole = padded_of(inputs)
    off = torch.rand(whole.s.shape, generator=torch.Generator().manual_seed(SEED)) < 0.4
    off[..., 0] = False
    whole = whole._replace(s=whole.s.masked_fill(off, -float("inf")))
    if isinstance(inputs, Ragged):
        inputs = Ragged.of(whole)
        off = inputs.nodes(off)
    else:
        inputs = whole
    record, grads, _ = run(inputs, backend)
    assert not record.s[off].any()
    assert not grads.s[off].any()
    check(inputs, backend)


@both
@pytest.mark.parametrize(
    "row", [[-float("inf")] * 4, [float("nan"), 0, 1, 2], [float("inf"), 0, 1, 2]], ids=str
)
@over(SEED, "base", *ragged("base"))
def test_a_row_without_softmax_is_nan_as_in_torch(case: Recipe, row: list[float], backend: str) -> None:
    inputs = case.make(SEED, f32)
    inputs.s[12 if isinstance(inputs, Ragged) else (1, 3)] = torch.tensor(row)
    record: SoftPoolRecord = inputs.pool(backend)
    assert torch.equal(record.s.isnan(), inputs.s.softmax(-1).isnan())
    # It stays in its graph, and is not hidden there.
    assert record.scalars[0].isfinite().all()
    hidden = (record.x[1], record.adj[1], record.gram, record.entropy[1], record.link_sq[1], record.link_norm)
    for value in hidden:
        assert value is not None
        assert value.isnan().any()


@both
@pytest.mark.parametrize(("n", "density"), [(30, 0.02), (30, 1.0), (600, 0.02)])
@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "csr"])
def test_nan_of_a_valid_entry_is_not_hidden(sparse: bool, n: int, density: float, backend: str) -> None:
    inputs: Any = Case("nan", b=2, n=n, density=density, directed=True).make(SEED, f32)
    inputs.adj[1, n - 1, n - 2] = float("nan")
    inputs.x[0, n - 1, 2] = float("nan")
    record = (Ragged.of(inputs) if sparse else inputs).pool(backend)
    for name in ("adj", "total_degree", "adj_sq", "link_sq", "volume", "cut_degree"):
        value = getattr(record, name)
        assert value[1].isnan().any(), name
        assert value[0].isfinite().all(), name
    assert torch.equal(record.x.isnan().any(1), torch.tensor([[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]).bool())


@both
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
