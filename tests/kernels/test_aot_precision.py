"""Ahead-of-time compilation: products of float32 are as precise as kernels ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl
from triton import knobs

from hierpool_kernels.aot import compiler, record
from hierpool_kernels.core.chunks import valid_rows
from hierpool_kernels.core.launch import Call
from hierpool_kernels.core.plan import wide_mask
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import INTERPRETER, KNOWN, PRECISIONS, Target

pytestmark = pytest.mark.skipif(knobs.runtime.interpret, reason="Triton's interpreter compiles nothing")


@triton.jit
def _masked_product_kernel(
    x_ptr, y_ptr, mask_ptr, out_ptr, N, SIDE: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """X^T Y of the rows of a mask."""
    o_k = tl.arange(0, SIDE)
    total = tl.zeros([SIDE, SIDE], tl.float32)
    for i_n in range(0, N, BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, N, mask_ptr)
        at = o_n[:, None] * SIDE + o_k[None, :]
        x = tl.load(x_ptr + at, mask=m_n[:, None], other=0)
        y = tl.load(y_ptr + at, mask=m_n[:, None], other=0)
        total = tl.dot(tl.trans(x), y, total, input_precision=PRECISION)
    tl.store(out_ptr + o_k[:, None] * SIDE + o_k[None, :], total)


def row(target: str, precision: str, wide: bool) -> record.Row:
    """What a product takes of tiles that tensor cores of sm_100 multiply."""
    x = torch.empty(1000, 64, device="meta")
    mask = Rows.padded(1, 1000, torch.empty(1, 1000, dtype=torch.bool, device="meta"), None, None, wide).mask
    options = {"SIDE": 64, "BN": 32, "PRECISION": precision, "num_warps": 4}
    variant = compiler.variant(Call(_masked_product_kernel, (1,), (x, x, mask, x, 1000), options), target)
    return record.Row(variant, ("a case #1",), compiler.report(variant))


@pytest.fixture(autouse=True)
def cache(tmp_path) -> Iterator[None]:
    with knobs.cache.scope():
        knobs.cache.dir = str(tmp_path)
        yield


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_a_mask_leaves_products_as_they_are(target: str) -> None:
    found = row(target, "ieee", wide_mask(Target(KNOWN[target], "ieee")))
    assert found.report.unasked == 0
    assert record.problems(found) == []


def test_products_in_tf32_that_should_be_ieee_are_found() -> None:
    """Triton multiplies so on sm_100; if it no longer does, kernels need no wide masks."""
    found = row("sm_100", "ieee", wide=False)
    assert found.report.unasked > 0
    assert record.problems(found) == [
        f"multiplies in TF32, by {found.report.unasked} instructions, but asks for IEEE products"
    ]


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100"])
def test_tf32_may_be_asked_for(target: str) -> None:
    found = row(target, "tf32", wide=False)
    assert (found.report.unasked, found.report.needs_tensor_core) == (0, True)
    assert record.problems(found) == []


def test_masks_are_wide_only_where_products_need_them() -> None:
    targets = [Target(one, fp32) for one in (*KNOWN.values(), INTERPRETER) for fp32 in PRECISIONS]
    assert [target for target in targets if wide_mask(target)] == [Target(KNOWN["sm_100"], "ieee")]


PTX = """
    wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {%f1, %f2}, %rd1, %rd2, %p1, 1, 1;
    mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 { %r1, %r2 }, { %r3 }, { %r4 }, { %r5 };
    @%p20 tcgen05.mma.cta_group::1.kind::tf32 [ %r2 + 0 ], %rd49, %rd50, %r104, %p19;
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 { %r1, %r2 }, { %r3 }, { %r4 }, { %r5 };
"""


def test_instructions_of_all_generations_are_counted() -> None:
    ieee = "%5 = tt.dot %1, %2, %3 : tensor<64x16xf32> * tensor<16x64xf32> -> tensor<64x64xf32>"
    assert compiler.unasked_tf32(ieee, PTX) == 3
    assert compiler.unasked_tf32(ieee.replace(" :", ", inputPrecision = tf32x3 :"), PTX) == 0
