"""Ahead-of-time compilation: which kernels and tiles it covers, and what it reads from compiled kernels."""

from __future__ import annotations

import importlib
import os
import pkgutil

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl
from triton import knobs
from triton.runtime.jit import JITFunction

import hierpool_kernels
from hierpool_kernels.aot import __main__ as command
from hierpool_kernels.aot import cases, compiler, record, workers
from hierpool_kernels.core import plan, plan_walk
from hierpool_kernels.core.launch import Call
from hierpool_kernels.core.target import KNOWN, Target

pytestmark = pytest.mark.skipif(knobs.runtime.interpret, reason="Triton's interpreter compiles nothing")

GPUS = [name for name, architecture in KNOWN.items() if architecture.family == "cuda"]


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


# ---- what is covered ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """The launches of all cases on one architecture."""
    return [call for case in cases.CASES for call in cases.calls(case, "sm_90")]


def test_every_kernel_is_in_a_case(calls):
    kernels = set()
    for module in pkgutil.walk_packages(hierpool_kernels.__path__, "hierpool_kernels."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, JITFunction) and name.endswith("_kernel"):
                kernels.add(name)
    assert kernels == {call.name for call in calls}
    assert len(kernels) > 10


def test_every_tile_of_the_main_kernels_is_in_a_case(calls):
    def compiled(kernel: str, *names: str) -> set[tuple]:
        return {tuple(call.options[name] for name in names) for call in calls if call.name == kernel}

    assign = compiled("_soft_pool_softmax_fwd_kernel", "BN", "BK", "ONE_TILE")
    walk = compiled("_soft_pool_rows_fwd_kernel", "BN", "BJ", "BK", "ON_CHIP", "PRECISION", "LONGEST")
    sparse = compiled("_spmm_kernel", "BN", "BK")
    backward = compiled("_soft_pool_rows_bwd_kernel", "BN", "BK", "BC", "ONE_TILE", "PRECISION")
    modes = [
        (torch.float32, "ieee"),
        (torch.float32, "tf32"),
        (torch.float32, "tf32x3"),
        (torch.bfloat16, "ieee"),
    ]
    for k in (*range(5, 70), *range(120, 140), 255, 256, 257, 512, 513, 1000, 1024, 1025, 3000):
        for dtype, fp32 in modes:
            target = Target(KNOWN["sm_90"], fp32)
            a = plan.softmax(k, target)
            assert (a.bn, a.bk, a.one_tile) in assign, (k, a)
            how = plan.product_precision(dtype, dtype, target)
            rows = plan_walk.dense_rows(4, 128, 1, k, how, target)
            tiles = rows.tiles
            assert (tiles.bn, tiles.bj, tiles.bk, rows.on_chip, how, 0) in walk, (k, how, rows)
            of_entries = plan_walk.sparse(4096, k, target)
            assert (of_entries.bn, of_entries.bk) in sparse, (k, of_entries)
            how = plan.gradient_precision(dtype, target)
            tiles, one_tile = plan.rows_backward(k, how, target)
            assert (tiles.bn, tiles.bk, tiles.bj, one_tile, how) in backward, (k, how, tiles)


def test_cases_have_names_of_their_own():
    names = [case.name for case in cases.CASES]
    assert len(set(names)) == len(names)


def test_a_case_launches_without_a_device_or_memory():
    case = cases.Case("pool", "dense", n=1 << 20, b=1 << 10)
    found = cases.calls(case, "sm_100")
    assert {"_soft_pool_softmax_fwd_kernel", "_soft_pool_rows_fwd_kernel", "_soft_pool_rows_bwd_kernel"} <= {
        call.name for call in found
    }


# ---- specialisations ------------------------------------------------------------------------------------------------


@triton.jit
def _scale_kernel(x_ptr, factor, width, BN: tl.constexpr):
    o_n = tl.program_id(0) * width + tl.arange(0, BN)
    tl.store(x_ptr + o_n, tl.load(x_ptr + o_n) * factor)


@pytest.mark.parametrize("target", KNOWN)
def test_a_specialisation_is_that_of_a_launch(target):
    def found(x, factor, width):
        return compiler.variant(
            Call(_scale_kernel, (1,), (x, factor, width), {"BN": 64, "num_warps": 2}), target
        )

    x = meta(256)
    assert found(x, 48, 7).divisible == ("x_ptr", "factor")
    assert found(x[1:], 48, 7).divisible == ("factor",)
    assert found(x, 1, 7).constants == (("BN", 64), ("factor", 1))
    assert dict(found(x, 2, 1 << 40).types) == {"x_ptr": "*fp32", "factor": "i32", "width": "i64"}
    assert found(x, 2, 3).options == (("warps", 2),)
    same, other = found(x, 64, 5), found(x, 64, 32)
    assert found(x, 16, 3).key == same.key != other.key
    assert found(x, 16, 3).specialization == same.specialization != other.specialization
    assert found(x, 16, 3).hash == same.hash != other.hash


def test_what_a_kernel_calls_belongs_to_its_source():
    names = {text.split(":")[0] for text in compiler.source(find("_soft_pool_rows_fwd_kernel"))}
    assert {"_soft_pool_rows_fwd_kernel", "dense_rows", "load_tile", "dot", "SUMS", "_used_once"} <= names
    assert not any(
        '"""' in text or "# fmt" in text for text in compiler.source(find("_soft_pool_rows_fwd_kernel"))
    )
    assert compiler.has_products(find("_soft_pool_rows_fwd_kernel"))
    assert not compiler.has_products(find("_spmm_kernel"))


def find(kernel: str) -> JITFunction:
    case = cases.Case("pool", "csr", edges=True) if "soft_pool" in kernel else cases.Case("spmm", "csr")
    return next(call.kernel for call in cases.calls(case, "sm_90") if call.name == kernel)


def test_kernels_without_products_are_compiled_for_one_cuda_architecture(monkeypatch):
    monkeypatch.setattr(command, "cases_of", lambda target: (cases.Case("pool", "csr", edges=True),))
    kernels = {
        target: {one.kernel for one, _ in command.launched([target], command.kernels_of(target))}
        for target in KNOWN
    }
    assert kernels["sm_90"] == kernels["gfx942"] > kernels["sm_80"] == kernels["sm_100"]
    assert "_soft_pool_rows_fwd_kernel" in kernels["sm_80"]


# ---- what compiled kernels take -------------------------------------------------------------------------------------


@triton.jit
def _hungry_kernel(x_ptr, BN: tl.constexpr):
    """Twice as many numbers for each thread as it may have registers, all of them needed to the end."""
    o_n = tl.arange(0, BN)
    x = tl.load(x_ptr + o_n)
    tl.store(x_ptr + o_n, x * tl.sum(x, 0))


@triton.jit
def _wide_kernel(x_ptr, out_ptr, K, BN: tl.constexpr):
    """Products of tiles, of which the next ones wait in shared memory."""
    o_n = tl.arange(0, BN)
    total = tl.zeros([BN, BN], tl.float32)
    for i_k in range(0, K, BN):
        x = tl.load(x_ptr + o_n[:, None] * K + i_k + o_n[None, :])
        y = tl.load(x_ptr + (i_k + o_n[:, None]) * BN + o_n[None, :])
        total = tl.dot(x, y, total)
    tl.store(out_ptr + o_n[:, None] * BN + o_n[None, :], total)


@triton.jit
def _wrong_kernel(x_ptr, BN: tl.constexpr):
    tl.static_assert(BN == 0, "no tile is of this width")


@triton.jit
def _maybe(ptr):
    if ptr is not None:
        return ptr + 1
    else:
        return None


@triton.jit
def _none_kernel(x_ptr, y_ptr, BN: tl.constexpr):
    p_y = _maybe(y_ptr)
    if p_y is not None:
        tl.store(p_y, 0.0)
    tl.store(x_ptr + tl.arange(0, BN), 0.0)


NONE = Call(_none_kernel, (1,), (meta(64), None), {"BN": 64})
SPILLING = Call(_hungry_kernel, (1,), (meta(2048),), {"BN": 2048, "num_warps": 1, "maxnreg": 32})
WIDE = Call(
    _wide_kernel, (1,), (meta(128, 1024, dtype=torch.bfloat16), meta(128, 128), 1024),
    {"BN": 128, "num_warps": 8, "num_stages": 5},
)  # fmt: skip
WRONG = Call(_wrong_kernel, (1,), (meta(64),), {"BN": 64})


def products(target: str) -> Call:
    case = cases.Case("pool", "dense", s="bf16", x="bf16", a="bf16")
    return next(call for call in cases.calls(case, target) if call.name == "_soft_pool_products_fwd_kernel")


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> dict[tuple[str, str], record.Row]:
    """By kernel and architecture, what a kernel of hierpool and those above take."""
    variants = [compiler.variant(products(target), target) for target in KNOWN]
    variants += [compiler.variant(SPILLING, target) for target in GPUS]
    variants += [compiler.variant(WIDE, "sm_80"), compiler.variant(WRONG, "sm_90")]
    with knobs.cache.scope():
        knobs.cache.dir = str(tmp_path_factory.mktemp("triton"))
        reports = workers.reports(variants, 1, lambda index: None)
    return {
        (one.kernel, one.target): record.Row(one, ("a case #1",), report)
        for one, report in zip(variants, reports, strict=True)
    }


@pytest.mark.parametrize(
    ("target", "instructions"),
    [("sm_80", {"HMMA"}), ("sm_90", {"HGMMA"}), ("sm_100", {"UTCHMMA"}), ("gfx942", {"mfma"})],
)
def test_a_kernel_takes_tensor_cores_and_does_not_spill(rows, target, instructions):
    row = rows["_soft_pool_products_fwd_kernel", target]
    assert {name for name, _ in row.report.tensor_core} == instructions
    assert row.report.needs_tensor_core
    assert 16 < row.report.registers <= 255
    assert 0 < row.report.shared_bytes <= KNOWN[target].shared_bytes
    assert record.problems(row) == []


@pytest.mark.parametrize("target", GPUS)
def test_spilling_is_found(rows, target):
    row = rows["_hungry_kernel", target]
    assert row.report.registers == 32
    assert row.report.spill_bytes > 0
    assert row.report.local_instructions > 0
    (problem,) = record.problems(row)
    assert problem.startswith(f"spills {row.report.spill_bytes} bytes per thread")


def test_too_much_shared_memory_is_found(rows):
    row = rows["_wide_kernel", "sm_80"]
    needed = row.report.shared_bytes
    assert record.problems(row) == [f"needs {needed} bytes of shared memory; a program may have {163 << 10}"]
    assert dict(row.report.tensor_core)["HMMA"] > 0


def test_a_kernel_that_does_not_compile_is_found(rows):
    (problem,) = record.problems(rows["_wrong_kernel", "sm_90"])
    assert problem.startswith("does not compile: ")
    assert "no tile is of this width" in problem


@pytest.mark.parametrize("target", KNOWN)
def test_a_function_that_returns_none_is_found(target):
    row = record.Row(compiler.variant(NONE, target), ("a case #1",), compiler.Report(registers=16))
    assert record.problems(row) == ["_maybe returns None, which Triton 3.6 cannot compile"]


def test_no_kernel_returns_none(calls):
    for kernel in {call.kernel for call in calls}:
        assert compiler.returns_none(kernel) == []


def test_missing_tensor_cores_are_found():
    variant = compiler.variant(WIDE, "sm_90")
    none = compiler.Report(registers=64, needs_tensor_core=True)
    some = compiler.Report(registers=64, needs_tensor_core=True, tensor_core=(("HGMMA", 1),))
    assert record.problems(record.Row(variant, ("a case #1",), none)) == [
        "has a product for tensor cores, but none of their instructions"
    ]
    assert record.problems(record.Row(variant, ("a case #1",), some)) == []


def test_gfx942_is_not_asked_for_tensor_cores():
    variant = compiler.variant(WIDE, "gfx942")
    report = compiler.Report(registers=256, needs_tensor_core=True)
    assert record.problems(record.Row(variant, ("a case #1",), report)) == []
    report = compiler.Report(shared_bytes=(64 << 10) + 4)
    (problem,) = record.problems(record.Row(variant, ("a case #1",), report))
    assert problem.startswith("needs 65540 bytes of shared memory")


def test_a_compiler_that_breaks_down_fails_one_variant_only(monkeypatch):
    def report(variant: compiler.Variant) -> compiler.Report:
        if variant.target == "sm_90":
            os._exit(3)
        return compiler.Report(registers=int(variant.target[3:]))

    monkeypatch.setattr(workers, "report", report)
    variants = [compiler.variant(SPILLING, target) for target in GPUS]
    done: list[int] = []
    found = workers.reports(variants, 1, done.append)
    assert [one.registers for one in found] == [80, 0, 100]
    assert [one.error for one in found] == ["", "the compiler ended with 3", ""]
    assert sorted(done) == [0, 1, 2]


# ---- text of the tools ----------------------------------------------------------------------------------------------

RESOURCES = """
Resource usage:
 Common:
  GLOBAL:0
 Function _soft_pool_rows_bwd_kernel:
  REG:255 STACK:336 SHARED:1024 LOCAL:8 CONSTANT[0]:728 TEXTURE:0 SURFACE:0 SAMPLER:0
"""

SASS = """
\t.text._soft_pool_rows_bwd_kernel:
        /*0970*/                   STL [R1+0x30], R72 ;
        /*0980*/              @!P1 LDL.LU R58, [R1+0x84] ;
        /*0990*/                   LDG.E R19, desc[UR42][R2.64] ;
        /*09a0*/              @UP0 HGMMA.64x64x8.F32.TF32 R24, gdesc[UR4], R24 ;
        /*09b0*/                   HMMA.16816.F32.BF16 R24, R4, R8, R24 ;
        /*09c0*/                   HMMA.1688.F32.TF32 R24, R4, R8, R24 ;
        /*09d0*/                   UTCHMMA gdesc[UR8], gdesc[UR10], tmem[UR4], tmem[UR6], idesc[UR7], UP0 ;
        /*09e0*/                   HFMA2.MMA R3, -RZ, RZ, 0, 0 ;
        /*09f0*/                   FFMA R3, R4, R5, R6 ;
"""

AMDGCN = """
\tv_mfma_f32_16x16x16_bf16 v[0:3], v[8:9], v[10:11], v[0:3]
\tv_mfma_f32_16x16x4_f32 v[0:3], v8, v9, v[0:3]
\tscratch_store_dword off, v1, off offset:4
\tscratch_load_dword v1, off, off offset:4
\tv_fma_f32 v1, v2, v3, v4
amdhsa.kernels:
  - .agpr_count:     0
    .private_segment_fixed_size: 24
    .sgpr_count:     41
    .vgpr_count:     128
    .vgpr_spill_count: 5
"""


def test_resource_usage_is_read():
    assert compiler.read_resource_usage(RESOURCES) == (255, 344)


def test_sass_is_read():
    assert compiler.read_sass(SASS) == {"STL": 1, "LDL": 1, "HGMMA": 1, "HMMA": 2, "UTCHMMA": 1}


def test_amdgcn_is_read():
    assert compiler.read_amdgcn(AMDGCN) == (128, 24, {"mfma": 2, "LDL": 1, "STL": 1})


@pytest.mark.parametrize(
    ("dot", "needs"),
    [
        ("inputPrecision = tf32 : tensor<64x32xf32> * tensor<32x64xf32> -> tensor<64x64xf32>", True),
        ("inputPrecision = tf32x3 : tensor<64x32xf32> * tensor<32x64xf32> -> tensor<64x64xf32>", True),
        (": tensor<64x32xbf16> * tensor<32x64xbf16> -> tensor<64x64xf32>", True),
        ("inputPrecision = tf32 : tensor<64x32xf16> * tensor<32x64xf16> -> tensor<64x64xf32>", True),
        (": tensor<64x32xf32> * tensor<32x64xf32> -> tensor<64x64xf32>", False),
        ("inputPrecision = ieee : tensor<64x32xf32> * tensor<32x64xf32> -> tensor<64x64xf32>", False),
    ],
)
def test_products_for_tensor_cores_are_told_from_others(dot, needs):
    text = f"    %1 = tt.load %0 : tensor<64x32x!tt.ptr<bf16>>\n    %199 = tt.dot %181, %198, %arg28, {dot} loc(#l1)\n"
    assert compiler.needs_tensor_core(text) is needs


PRODUCTS = """
%m = ttng.warp_group_dot %a, %s, %t {isAsync = true} : tensor<64x16xbf16, #d> * !ttg.memdesc<16x64xbf16, #s>
%m_1:2 = ttng.warp_group_dot_wait %m, %s {pendings = 1 : i32} : tensor<64x64xf32, #mma>, !ttg.memdesc<16x64xbf16, #s>
%q = ttng.warp_group_dot %b, %s, %m_1#0 {isAsync = true} : !ttg.memdesc<64x16xbf16, #s> * !ttg.memdesc<16x64xbf16, #s>
%q_1:2 = ttng.warp_group_dot_wait %q, %b {pendings = 1 : i32} : tensor<64x64xf32, #mma>, !ttg.memdesc<64x16xbf16, #s>
"""


def test_products_that_go_on_while_their_registers_change_are_found() -> None:
    """Of a left factor in registers, not of one in shared memory."""
    assert compiler.pending_products(PRODUCTS) == 1
    assert (
        compiler.pending_products(PRODUCTS.replace("wait %m, %s {pendings = 1", "wait %m, %s {pendings = 0"))
        == 0
    )
