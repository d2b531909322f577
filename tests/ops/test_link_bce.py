"""The cross-entropy link loss of padded batches: values and gradients against the float64 truth, and its ends."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from tests.support.cases import WIDTHS, Case, find, over
from tests.support.link import LINK_GRID, ONE_TYPE, LinkInputs, check, make, values
from tests.support.running import best, both, cover

SEED = 5
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


@cover(SEED, *LINK_GRID, dtypes=[f64, f32], everywhere=[*WIDTHS[:5], LINK_GRID[-4]])
def test_grid(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@cover(SEED, *ONE_TYPE, dtypes=[bf16, f16], everywhere=[find("n33-k31-f32")])
def test_low_precision(case: Case, dtype: torch.dtype, backend: str) -> None:
    check(make(case, SEED, dtype), backend)


@best
@pytest.mark.parametrize("dtypes", [(f32, bf16), (f32, f16), (bf16, f32), (f64, f32), (f32, f64)], ids=str)
@over(SEED, "directed-holes", "n33-k31-f32")
def test_mixed_dtypes(case: Case, dtypes: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    check(make(case, SEED, *dtypes), backend)


INTEGERS = [(torch.bool, f32), (torch.int8, f64), (torch.uint8, bf16), (torch.uint8, f32)]


@cover(SEED, "base", "holes", "directed", dtypes=INTEGERS)
def test_integer_adjacency(case: Case, dtype: tuple[torch.dtype, torch.dtype], backend: str) -> None:
    adj, s = dtype
    weights = "ones" if adj is torch.bool else "integers"
    check(make(replace(case, weights=weights), SEED, s, adj), backend)


OPTIONS = [{"eps": 1e-3}, {"eps": 1e-12}, {"normalize": "numel"}, {"normalize": None}]


@best
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@over(SEED, "base", "holes", "num_nodes", "fully-masked", "no-graphs", "no-nodes")
def test_options(case: Case, options: dict[str, Any], backend: str) -> None:
    check(make(case, SEED), backend, **options)


@cover(SEED, "base", "ones", "holes", "num_nodes", "sliced", "strided", LINK_GRID[-2], dtypes=[f64, f32])
def test_a_promise_of_symmetry_changes_no_value(case: Case, dtype: torch.dtype, backend: str) -> None:
    inputs = make(replace(case, directed=False), SEED, dtype)
    check(inputs, backend, symmetric=True)
    check(inputs, backend, symmetric=False)


@best
@pytest.mark.parametrize("name", ["s", "adj"])
@over(SEED, LINK_GRID[-1])
def test_only_the_asked_gradient(case: Case, name: str, backend: str) -> None:
    inputs = make(case, SEED, f32)
    expected = values(inputs, backend, 1.0)
    leaf = getattr(inputs, name).detach().requires_grad_()
    (grad,) = torch.autograd.grad(inputs._replace(**{name: leaf}).loss(backend), leaf)
    assert torch.equal(grad, getattr(expected, name))


@both
def test_is_the_loss_of_the_original_code(backend: str) -> None:
    """Entry by entry: binary A, masked pairs left out, the sum over the squared numbers of nodes."""
    inputs = make(replace(find("num_nodes"), weights="ones"), SEED, f32)
    assert inputs.num_nodes is not None
    s, adj, eps = inputs.s.double(), inputs.adj, 1e-7
    total = 0.0
    for b, count in enumerate(inputs.num_nodes.tolist()):
        for i in range(count):
            for j in range(count):
                q = min(float(s[b, i] @ s[b, j]), 1.0)
                total -= math.log(q + eps) if adj[b, i, j] else math.log(1 - q + eps)
    expected = total / int(inputs.num_nodes.square().sum())
    assert float(inputs.loss(backend)) == pytest.approx(expected, rel=1e-6)


def plain(s: Tensor, adj: Tensor, eps: float = 1e-7) -> Tensor:
    """The expression of the original code, of one unpadded batch."""
    q = torch.min(s @ s.mT, torch.ones(1, dtype=s.dtype))
    return (-adj * torch.log(q + eps) - (1 - adj) * torch.log(1 - q + eps)).mean()


@pytest.mark.parametrize("dtype", [f64, f32, bf16, f16], ids=str)
@pytest.mark.parametrize("n", [3, 40])
def test_probabilities_of_one_and_above(n: int, dtype: torch.dtype, backend: str) -> None:
    """S of one-hot rows and rows above 1, exact in every dtype: p is 0, 1, 1.5 and 2.25, entries 0, 1 and 1/2."""
    draw = torch.Generator().manual_seed(SEED)
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.5, 0.0]])
    s = rows[torch.randint(0, 3, (1, n), generator=draw)]
    adj = torch.randint(0, 3, (1, n, n), generator=draw) / 2
    exact_s, exact_adj = s.double().requires_grad_(), adj.double().requires_grad_()
    expected = plain(exact_s, exact_adj)
    expected_grads = torch.autograd.grad(expected, (exact_s, exact_adj))
    leaf, adj_leaf = s.to(dtype).requires_grad_(), adj.to(dtype).requires_grad_()
    loss = hierpool.link_bce(leaf, adj_leaf, backend=backend)
    grads = torch.autograd.grad(loss, (leaf, adj_leaf))
    rel = 4 * torch.finfo(torch.float32 if dtype in (bf16, f16) else dtype).eps
    assert loss.item() == pytest.approx(expected.item(), rel=max(rel, 1e-8))
    for got, truth in zip(grads, expected_grads, strict=True):
        scale = float(truth.abs().max())
        if scale > torch.finfo(dtype).max:  # 1 / eps beside the largest float16
            continue
        limit = 4 * torch.finfo(dtype).eps * scale + 1e-8 * scale
        torch.testing.assert_close(got.double(), truth, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
def test_small_terms_keep_their_digits(dtype: torch.dtype, native_isa: str) -> None:
    """Nodes without edges in clusters of their own: every pair adds -log(1 + eps), which rounds to a multiple of
    1.2e-7 in plain float32."""
    n, p, eps = 30, 3e-9, 1e-7
    s = torch.full((1, n, 1), math.sqrt(p), dtype=dtype)
    q = float(s[0, 0, 0].double() ** 2)
    loss = hierpool.link_bce(s, torch.zeros(1, n, n, dtype=dtype), backend=native_isa)
    assert float(loss) == pytest.approx(-math.log1p(eps - q), rel=4 * torch.finfo(dtype).eps)


@both
def test_padding_reaches_nothing(backend: str) -> None:
    for name in ("holes", "num_nodes", "mask"):
        inputs = make(find(name), SEED, f32)
        expected = values(inputs, backend, 1.0)
        s = torch.where(inputs.valid[..., None], inputs.s, math.nan)
        both = inputs.valid[:, :, None] & inputs.valid[:, None, :]
        adj = torch.where(both, inputs.adj, math.nan)
        got = values(inputs._replace(s=s, adj=adj), backend, 1.0)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


@both
@pytest.mark.parametrize("name", ["s", "adj"])
@pytest.mark.parametrize("weights", ["ones", "uniform"])
def test_nan_is_not_lost(weights: str, name: str, backend: str) -> None:
    inputs = make(replace(find("n33-k31-f32"), weights=weights), SEED, f32)
    getattr(inputs, name)[0, 7, 3] = math.nan
    assert inputs.loss(backend).isnan()


@both
@pytest.mark.parametrize("weights", ["ones", "uniform"])
def test_a_negative_probability_is_nan(weights: str, backend: str) -> None:
    inputs = make(replace(find("n33-k31-f32"), weights=weights, density=0.1), SEED, f32)
    inputs.s[0, 7] *= -1
    assert inputs.loss(backend).isnan()


@pytest.mark.parametrize("directed", [False, True])
def test_threads_change_no_bit(directed: bool, native_isa: str) -> None:
    for case, dtype in zip(LINK_GRID[-3:], (f64, bf16, f32), strict=True):
        inputs = make(replace(case, directed=directed), SEED, dtype)
        expected = values(inputs, native_isa, 1.0)
        for threads in (2, 3):
            torch.set_num_threads(threads)
            got = values(inputs, native_isa, 1.0)
            torch.set_num_threads(1)
            assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), threads


@both
def test_a_graph_does_not_see_its_neighbours(backend: str) -> None:
    """The sum over a batch is that of its graphs one by one."""
    inputs = make(find("mask"), SEED)
    assert inputs.mask is not None
    whole = inputs.loss(backend, normalize=None)
    each = [LinkInputs(inputs.s[b : b + 1], inputs.adj[b : b + 1], inputs.mask[b : b + 1]) for b in range(4)]
    parts = [one.loss(backend, normalize=None) for one in each]
    torch.testing.assert_close(torch.stack(parts).sum(), whole, rtol=1e-14, atol=0)
