"""Products in TF32, of which the interpreter computes what tensor cores would of factors that are rounded already."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl

import hierpool
from hierpool import RaggedGraph
from hierpool_kernels.core import plan
from hierpool_kernels.core.tiles import in_tf32

f32, f64 = torch.float32, torch.float64


def rounded(t: Tensor) -> Tensor:
    """Float32 rounded to 10 bits after the point, halves away from 0."""
    bits = t.contiguous().view(torch.int32)
    return torch.where(t.isnan(), bits, (bits + 0x1000) & -0x2000).view(f32)


@triton.jit
def _round_kernel(x_ptr, out_ptr, BN: tl.constexpr):
    o_n = tl.arange(0, BN)
    tl.store(out_ptr + o_n, in_tf32(tl.load(x_ptr + o_n)))


def test_rounding_is_to_nearest_and_keeps_what_is_no_number() -> None:
    one, step = 1.0, 2.0**-10
    x = torch.tensor(
        [one, one + 0.49 * step, one + 0.5 * step, -one - 0.51 * step, 0.0, -0.0, float("inf"), 3e38]
    )
    nan = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(f32)  # the NaN of GPUs, and one with a sign
    x = torch.cat((x, nan, torch.randn(6)))
    out = torch.empty_like(x)
    _round_kernel[(1,)](x, out, BN=16)
    assert out[:7].tolist() == [one, one, one + step, -one - step, 0.0, 0.0, float("inf")]
    assert out[8:10].isnan().all()
    assert ((out[10:] - x[10:]).abs() <= x[10:].abs() * 2.0**-11).all()


@pytest.fixture
def in_tf32_products(monkeypatch: pytest.MonkeyPatch) -> None:
    def tf32(*_: Any) -> str:
        return "tf32"

    monkeypatch.setattr(plan, "product_precision", tf32)
    monkeypatch.setattr(plan, "gradient_precision", tf32)


CASES = [
    pytest.param(64, 20, "dense", id="S^T, on the chip"),
    pytest.param(80, 40, "dense", id="S^T, tiles"),
    pytest.param(70, 40, "dense", id="S"),
    pytest.param(12, 9, "dense", id="small graphs"),
    pytest.param(70, 40, "sparse", id="sparse A"),
]


@pytest.mark.usefixtures("in_tf32_products")
@pytest.mark.parametrize(("n", "k", "form"), CASES)
def test_all_sums_take_the_same_rounded_factors(n: int, k: int, form: str) -> None:
    """S and M are rounded once: if one of the sums took S as it is, their difference would not be that of the rest."""
    torch.manual_seed(n)
    a = (torch.rand(2, n, n) < 0.3).float()
    a = a.triu(1) + a.triu(1).mT
    x, logits = torch.randn(2, n, 7), 3 * torch.randn(2, n, k)
    adj: Any = a if form == "dense" else RaggedGraph.from_dense(a)
    if form == "sparse":
        x, logits = x.flatten(0, 1), logits.flatten(0, 1)
    known = {"symmetric": True} if form == "dense" else {}
    out = hierpool.soft_pool(x, adj, logits, **known, backend="triton")
    exact = out.s.view(2, n, k)
    s = rounded(exact).double()
    m = rounded((a.double() @ (s if form == "dense" else exact.double())).float()).double()
    adj_out, gram = s.mT @ m, s.mT @ s
    torch.testing.assert_close(out.gram, gram.float(), rtol=2e-6, atol=2e-6 * n)
    torch.testing.assert_close(
        out.x, (s.mT @ rounded(x.view(2, n, 7)).double()).float(), rtol=2e-6, atol=2e-6 * n
    )
    adj_sq = a.double().square().sum((1, 2))
    # M is rounded after a sum in another order, which may fall on the other side of a half.
    torch.testing.assert_close(out.adj, adj_out.float(), rtol=2e-3, atol=2e-3)
    link_sq = adj_sq - 2 * (s * m).sum((1, 2)) + gram.square().sum((1, 2))
    assert ((out.link_sq.double() - link_sq).abs() <= 4e-6 * adj_sq).all()
    truth = (a.double() - exact.double() @ exact.double().mT).square().sum((1, 2))
    assert ((out.link_sq.double() - truth).abs() <= 5e-5 * adj_sq).all()
