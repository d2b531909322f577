"""Ahead-of-time compilation: how wide the loads of compiled kernels are."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl
from triton import knobs
from triton.runtime.jit import JITFunction

from hierpool_kernels.aot import compiler, loads, record, workers
from hierpool_kernels.core.launch import Call

pytestmark = pytest.mark.skipif(knobs.runtime.interpret, reason="Triton's interpreter compiles nothing")


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


@triton.jit
def _row_kernel(a_ptr, a_row, a_col, out_ptr, N, BN: tl.constexpr, BJ: tl.constexpr, VECTOR: tl.constexpr):
    """Sums of rows, with a mask of vectors."""
    o_n = tl.arange(0, BN)
    total = tl.zeros([BN], tl.float32)
    for i_j in range(0, N, BJ):
        o_j = i_j + tl.arange(0, BJ)
        m_j = o_j < tl.cdiv(N, VECTOR) * VECTOR
        a = tl.load(a_ptr + o_n[:, None] * a_row + o_j[None, :] * a_col, mask=m_j[None, :], other=0)
        total += tl.sum(a.to(tl.float32), 1)
    tl.store(out_ptr + o_n, total)


@triton.jit
def _element_kernel(
    a_ptr, a_row, a_col, out_ptr, N, BN: tl.constexpr, BJ: tl.constexpr, VECTOR: tl.constexpr
):
    """The same with a mask of elements, which keeps the compiler from loading vectors."""
    o_n = tl.arange(0, BN)
    total = tl.zeros([BN], tl.float32)
    for i_j in range(0, N, BJ):
        o_j = i_j + tl.arange(0, BJ)
        a = tl.load(a_ptr + o_n[:, None] * a_row + o_j[None, :] * a_col, mask=(o_j < N)[None, :], other=0)
        total += tl.sum(a.to(tl.float32), 1)
    tl.store(out_ptr + o_n, total)


def rows_of(kernel: JITFunction, dtype: torch.dtype, n: int = 1008, offset: int = 0) -> Call:
    a = meta(64 * 1024 + offset, dtype=dtype)[offset:]
    options = {"BN": 64, "BJ": 64, "VECTOR": 16, "num_warps": 4}
    return Call(kernel, (1,), (a, 1024, 1, meta(64), n), options)


LOADS = {
    "wide-f32": rows_of(_row_kernel, torch.float32),
    "wide-bf16": rows_of(_row_kernel, torch.bfloat16),
    "planted-f32": rows_of(_element_kernel, torch.float32, 1001),
    "planted-bf16": rows_of(_element_kernel, torch.bfloat16, 1001),
    "not-aligned": rows_of(_element_kernel, torch.float32, 1001, offset=1),
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict[str, record.Row]:
    """What the kernels above load."""
    variants = [compiler.variant(call, "sm_90") for call in LOADS.values()]
    with knobs.cache.scope():
        knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        reports = workers.reports(variants, 1, lambda index: None)
    return {
        name: record.Row(one, ("a case #1",), report)
        for name, one, report in zip(LOADS, variants, reports, strict=True)
    }


@pytest.mark.parametrize(
    ("name", "width"),
    [("wide-f32", 16), ("wide-bf16", 16), ("planted-f32", 4), ("planted-bf16", 2), ("not-aligned", 4)],
)
def test_loads_of_single_elements_are_found(loaded, name, width):
    row = loaded[name]
    assert row.report.loads == (("a", width),)
    assert loads.aligned(row.variant, "a") is (name != "not-aligned")
    expected = f"loads {width} bytes of a at a time, whose rows are aligned to 16 elements"
    assert record.problems(row) == ([expected] if name.startswith("planted") else [])


PTX = """
.visible .entry kernel(
	.param .u64 .ptr .global .align 1 kernel_param_0,
	.param .u32 kernel_param_1,
	.param .u64 .ptr .global .align 1 kernel_param_2,
	.param .u64 .ptr .global .align 1 kernel_param_3
)
	ld.param.b64 	%rd1, [kernel_param_0];
	ld.param.b32 	%r1, [kernel_param_1];
	ld.param.b64 	%rd2, [kernel_param_2];
	ld.param.b64 	%rd3, [kernel_param_3];
$L__BB0_1:
	mul.wide.s32 	%rd4, %r1, 4;
	add.s64 	%rd5, %rd8, %rd4;
	@%p1 ld.global.v4.b32 { %r2, %r3, %r4, %r5 }, [ %rd5 + 0 ];
	mad.lo.s64 	%rd6, %rd4, %rd7, %rd2;
	cp.async.cg.shared.global [ %r6 + 0 ], [ %rd6 + 0 ], 0x10, %r7;
	cp.async.ca.shared.global [ %r6 + 0 ], [ %rd9 + 0 ], 0x4, %r7;
	ld.global.L1::evict_last.v2.b16 { %rs1, %rs2 }, [ %rd10 ];
	selp.b64 	%rd9, %rd6, %rd5, %p1;
	add.s64 	%rd10, %rd3, 16;
	mov.b64 	%rd8, %rd1;
	st.global.b32 [ %rd3 + 0 ], { %r2 };
"""


def test_loads_are_read_by_parameter():
    """Through loops, and through a choice between two."""
    assert loads.read_loads(PTX) == {0: 4, 2: 4, 3: 4}
    assert loads.read_loads(PTX.replace(", 0x4,", ", 0x8,")) == {0: 8, 2: 8, 3: 4}
    assert loads.read_loads(PTX.replace("%rd6, %rd5, %p1", "%rd6, %rd6, %p1")) == {0: 16, 2: 4, 3: 4}


def test_loads_are_read_through_shared_memory():
    """A change of layout gives a register of one thread to another, here of parameter 2, then of 3."""
    change = "st.shared.b64 [ %r9 + 0 ], {}; \n bar.sync 0; \n ld.shared.v2.b64 {{{}}}, [%r8];\n"
    moved = PTX + change.format("%rd2", "%rd20, %rd21") + change.format("%rd3", "%rd22, %rd23")
    assert loads.read_loads(moved + "ld.global.b8 { %rs3 }, [ %rd21 + 0 ];") == {0: 4, 2: 1, 3: 4}
    assert loads.read_loads(moved + "ld.global.b8 { %rs3 }, [ %rd22 + 0 ];") == {0: 4, 2: 4, 3: 1}


def test_a_load_from_nowhere_is_an_error():
    with pytest.raises(ValueError, match=r"a load from \[%rd9\] is from no parameter"):
        loads.read_loads(PTX.replace("selp.b64", "//"))
