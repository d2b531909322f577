"""Launch plans: pure functions, whose tiles cover what they are asked to, on every architecture."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels.core import plan, plan_losses, plan_walk
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import (
    INTERPRETER,
    KNOWN,
    PRECISIONS,
    VARIABLE,
    Target,
    fp32_precision,
    target_of,
)

f32, f64, bf16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
TARGETS = [Target(architecture, how) for architecture in KNOWN.values() for how in PRECISIONS]
TARGETS.append(Target(INTERPRETER, "ieee"))
WIDTHS = (1, 7, 16, 17, 50, 64, 65, 128, 129, 256, 1000, 1500)
every_target = pytest.mark.parametrize(
    "target", TARGETS, ids=lambda t: f"{t.architecture.family}{t.architecture.version}-{t.fp32}"
)


def is_power(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def assert_tiles(tiles: plan.Tiles) -> None:
    assert all(is_power(size) for size in (tiles.bn, tiles.bj, tiles.bk, tiles.warps))
    assert tiles.warps <= 16


@every_target
@pytest.mark.parametrize("k", WIDTHS)
def test_tiles_are_powers_of_two_that_tensor_cores_take(target: Target, k: int) -> None:
    for how in ("half", *PRECISIONS):
        backward, _ = plan.rows_backward(k, how, target)
        for tiles in (
            plan_walk.dense_rows(4, 500, 1, k, how, target).tiles,
            plan_walk.dense_product(k, how, target),
            plan.products(k, 64, how, target),
            plan.row_products(k, how, target),
            plan.dense_edges(how, target),
            backward,
        ):
            assert_tiles(tiles)
            assert min(tiles.bn, tiles.bj, tiles.bk) >= 16
    rows, walk = plan_walk.sparse_rows(4, 5000, 90_000, k, target)
    assert_tiles(rows.tiles)
    assert is_power(walk.longest)
    assert is_power(walk.ahead)


@every_target
@pytest.mark.parametrize("k", WIDTHS)
def test_a_plan_says_whether_a_row_fits_into_a_tile(target: Target, k: int) -> None:
    assign = plan.softmax(k, target)
    assert assign.one_tile == (k <= assign.bk)
    for how in ("half", *PRECISIONS):
        backward, one_tile = plan.rows_backward(k, how, target)
        assert one_tile == (k <= backward.bk)
        rows = plan_walk.dense_rows(4, 500, 1, k, how, target)
        assert not rows.on_chip or k <= rows.tiles.bk
    rows, walk = plan_walk.sparse_rows(4, 5000, 90_000, k, target)
    assert rows.on_chip == (k <= walk.bk)


def test_threads_get_all_registers_there_are() -> None:
    cuda, hip = (Target(KNOWN[name], "ieee") for name in ("sm_90", "gfx942"))
    assert [plan.registers(warps, cuda)["maxnreg"] for warps in (4, 8, 16)] == [255, 255, 128]
    tiles = plan.Tiles(64, 32, 64, 8, 2)
    assert tiles.options("tf32", cuda) == {"num_warps": 8, "num_stages": 2, "maxnreg": 255}
    assert tiles.options("tf32", hip) == tiles.options("ieee", cuda) == {"num_warps": 8, "num_stages": 2}


@every_target
def test_chunks_are_whole_tiles(target: Target) -> None:
    for b, n, k in itertools.product((1, 3, 1000), (1, 40, 5000, 10**6), (8, 64, 300)):
        for how in ("half", *PRECISIONS):
            rows = plan_walk.dense_rows(b, n, 1, k, how, target)
            assert rows.chunk % rows.tiles.bn == 0
        sparse, _ = plan_walk.sparse_rows(b, n, 10 * n, k, target)
        assert sparse.chunk % sparse.tiles.bn == 0
        for ragged in (True, False):
            step = plan.products_chunk(b, n, k, k, ragged, target)
            assert step % plan.products(k, k, "ieee", target).bn == 0


@every_target
@pytest.mark.parametrize("k", WIDTHS)
def test_differences_of_a_pass_fit_into_registers(target: Target, k: int) -> None:
    for size in (2, 4, 8):
        for tiles in plan_losses.variation(k, size, target):
            sizes = (tiles.bn, tiles.bj, tiles.bk, tiles.warps)
            assert all(map(is_power, sizes))
            if target.architecture.family != "interpreter":
                assert tiles.bn * tiles.bj * tiles.bk * size <= 512 * 32 * tiles.warps
    for entries in (0, 1000, 10**9):
        step, be, bk = plan_losses.entry_chunks(entries, k, target)
        assert all(map(is_power, (step, be, bk)))
        assert step % be == 0
        walk = plan_losses.signed_sums(entries, k, target)
        assert walk.ahead <= plan_walk.sparse(entries, k, target).ahead
        assert is_power(walk.ahead)


def test_a_graph_never_needs_more_chunks_than_it_owns() -> None:
    draw = random.Random(0)
    for _ in range(2000):
        step, first, nodes = draw.randint(1, 70), draw.randint(0, 500), draw.randint(0, 500)
        owned = (first + nodes) // step - first // step + 1
        assert owned >= plan.cdiv(nodes, step)


@pytest.mark.parametrize("ptr", [[0], [0, 0], [0, 5], [0, 0, 0, 9], [0, 64, 128], [0, 1, 2, 3, 200]], ids=str)
def test_there_is_a_chunk_for_every_graph_and_no_more_than_that_too_many(ptr: list[int]) -> None:
    batch = Rows.ragged(torch.tensor(ptr), ptr[-1])
    for step in (16, 64, 256):
        needed = sum(plan.cdiv(end - first, step) for first, end in itertools.pairwise(ptr))
        assert needed <= batch.chunks(step) <= needed + batch.b


def test_precision_of_products() -> None:
    cuda = Target(KNOWN["sm_90"], "ieee")
    assert plan.product_precision(f32, f32, cuda) == "ieee"
    assert plan.product_precision(f32, f32, cuda._replace(fp32="tf32")) == "tf32"
    assert plan.product_precision(f32, f32, cuda._replace(fp32="tf32x3")) == "tf32x3"
    assert plan.product_precision(bf16, bf16, cuda) == "half"
    assert plan.product_precision(f16, f16, cuda) == "half"
    # One factor is exact in TF32: three products keep all of the other one.
    assert (
        plan.product_precision(bf16, f32, cuda)
        == plan.product_precision(f32, f16, cuda)
        == plan.product_precision(bf16, f16, cuda)
        == "tf32x3"
    )
    assert plan.product_precision(bf16, f32, cuda._replace(fp32="tf32")) == "tf32"
    assert plan.product_precision(bf16, bf16, Target(INTERPRETER, "ieee")) == "ieee"
    assert plan.gradient_precision(f32, cuda) == "ieee"
    assert plan.gradient_precision(bf16, cuda) == "tf32"
    assert plan.gradient_precision(f16, cuda) == "tf32x3"


@pytest.fixture
def matmul_settings() -> Any:
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("matmul_settings")
def test_fp32_precision_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for setting, expected in (("highest", "ieee"), ("high", "tf32")):
        torch.set_float32_matmul_precision(setting)
        assert fp32_precision() == expected


def test_fp32_precision_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "tf32x3")
    assert fp32_precision() == "tf32x3"
    monkeypatch.setenv(VARIABLE, "fp8")
    with pytest.raises(
        ValueError, match="HIERPOOL_FP32_PRECISION must be one of ieee, tf32, tf32x3, got 'fp8'"
    ):
        fp32_precision()


def test_tensors_of_the_cpu_are_for_the_interpreter() -> None:
    assert target_of(torch.device("cpu")) == Target(INTERPRETER, "ieee")
