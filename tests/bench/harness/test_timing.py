"""Sides alternate, ratios are paired, and every mode counts what it says; peak memory and rates are measured."""

from __future__ import annotations

import os

import pytest
import torch

from bench.harness import floors, machine, memory, precision, timing
from bench.harness.timing import Effort, Side
from bench.harness.workload import CPU, Unavailable
from tests.bench.toys import small_batch


def test_inputs_take_turns_and_sides_alternate(monkeypatch):
    order = []

    def one(name):
        return lambda: order.append(name) or 0.001

    sides = [Side([one(f"{n}{i}") for i in range(3)], CPU) for n in "AB"]
    found = timing.compare(*sides, Effort(budget_s=1.0, min_pairs=3, max_pairs=3))
    assert order[:4] == ["B0", "B1", "A0", "A1"]  # warm-up
    assert order[4:] == ["B2", "A2", "B0", "A0", "B1", "A1"]
    assert (found.pairs, found.speedup.p50) == (3, 1.0)
    monkeypatch.setattr(timing, "MAX_CALLS", {"cpu": 2})
    order.clear()
    short = [Side([lambda n=n: order.append(n) or 1e-9 * (1 + (n == "B"))], CPU) for n in "AB"]
    found = timing.compare(*short, Effort(1.0, 3, 3))
    assert "".join(order[4:]) == "BBAA" * 3  # short calls are repeated
    assert (found.calls_per_sample, found.speedup.p50) == ((2, 2), 2.0)


def test_peak_of_tensors_counts_what_is_alive_at_once():
    def call():
        a = torch.zeros(1000)
        b = a + 1  # 8000 bytes
        a.view(10, 100).add_(1)  # in place
        del a
        c = b[:500] * 2  # 6000
        del b, c
        torch.zeros(1500)

    for device in ("cpu", "meta"):
        with torch.device(device):
            assert memory.peak_of_tensors(call) == 8000


def test_available_memory_is_bounded_by_the_control_group(tmp_path):
    meminfo, limit, unlimited = (tmp_path / name for name in ("meminfo", "limit", "unlimited"))
    meminfo.write_text("MemTotal:  9 kB\nMemAvailable:    5 kB\n")
    unlimited.write_text("max\n")
    assert machine.available_bytes(meminfo, (unlimited, limit)) == 5120
    limit.write_text("4000\n")
    assert machine.available_bytes(meminfo, (unlimited, limit)) == 4000
    assert machine.available_bytes() > 1 << 20
    assert machine.available_bytes(tmp_path / "absent", ()) > 1 << 20


def test_ratio_is_paired():
    samples = [(8.0, 2.0), (9.0, 3.0), (60.0, 10.0)]  # ratios 4, 3, 6; the ratio of medians would be 3
    found = timing.Comparison.of(samples)
    assert found.speedup.p50 == 4.0
    assert (found.peer_ms.p50, found.candidate_ms.p50) == (9000.0, 3000.0)
    p = timing.Percentiles.of([4.0, 0.0, 1.0, 3.0, 2.0, 10.0])
    assert (p.p20, p.p50, p.p80) == (1.0, 2.5, 4.0)


def test_the_first_step_is_not_counted_in_the_warm_up(monkeypatch):
    monkeypatch.setattr(timing, "SLOW_S", 1.0)
    times = iter([9.0, 0.1, 0.3, 0.2, 0.0])
    assert Side([lambda: next(times)], CPU).warm_up() == 0.2
    times = iter([9.0, 5.0])  # one is enough where it takes seconds
    assert Side([lambda: next(times)], CPU).warm_up() == 5.0


@pytest.mark.parametrize(("pair_s", "pairs"), [(1.0, 11), (0.04, 101), (1e-6, 201)])
def test_number_of_pairs_is_odd_and_bounded(pair_s, pairs):
    assert Effort(budget_s=4.0, min_pairs=11, max_pairs=201).pairs(pair_s) == pairs


@pytest.mark.parametrize(("mode", "seconds"), [("forward", 1.0), ("backward", 10.0), ("both", 11.0)])
def test_what_each_mode_counts(monkeypatch, mode, seconds):
    clock = [0.0]

    def takes(duration):
        def call(*_):
            clock[0] += duration

        return call

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(torch.autograd, "grad", takes(10.0))
    assert timing.step(takes(1.0), small_batch(), mode)() == seconds


def test_what_only_a_device_has_is_named():
    with pytest.raises(Unavailable, match="allocator of CUDA"):
        memory.peak_on_device(lambda: None, CPU)
    with pytest.raises(Unavailable, match="CUDA"):
        timing.captured(lambda: None, CPU)
    a = torch.ones(8, 8)
    found = timing.kernels(lambda: a @ a, CPU)
    assert any(kernel["name"] == "aten::mm" and kernel["count"] == 1 for kernel in found)


@pytest.mark.skipif(not memory.CLEAR_REFS.exists(), reason="peak memory is measured on Linux")
def test_peak_counts_what_a_call_touches():
    block = 64 << 20
    assert 0.9 * block < memory.peak_of(lambda: torch.ones(block // 4).sum()) < 1.5 * block


# ---- floors and precisions ------------------------------------------------------------------------------------------


def test_floor_is_the_larger_bound():
    rates = floors.Rates(10.0, {"ieee": 100.0, "half": 1000.0})
    assert rates.floor_ms(floors.Work(bytes=1e7, flops=1e6)) == pytest.approx(1.0)
    assert rates.floor_ms(floors.Work(bytes=1e6, flops=1e9)) == pytest.approx(10.0)
    assert rates.floor_ms(floors.Work(bytes=1e6, flops=1e9), "half") == pytest.approx(1.0)


def test_rates_are_measured():
    rates = floors.measure_rates(CPU, copy_bytes=1 << 16, side=64, repeats=2)
    assert rates.copy_gbps > 0
    assert set(rates.gemm_gflops) == {"ieee"}
    assert all(floors.gemm_gflops(CPU, kind, 64, 2) > 0 for kind in precision.PRECISIONS)


@pytest.mark.parametrize("kept", [None, "tf32x3"])
def test_precision_is_put_back(monkeypatch, kept):
    variable = "HIERPOOL_FP32_PRECISION"
    monkeypatch.delenv(variable, raising=False)
    if kept:
        monkeypatch.setenv(variable, kept)
    before = torch.get_float32_matmul_precision()
    for one, products, name in ((precision.TF32, "tf32", "high"), (precision.IEEE, "ieee", "highest")):
        with precision.in_force(one):
            assert (os.environ[variable], torch.get_float32_matmul_precision()) == (products, name)
    assert torch.get_float32_matmul_precision() == before
    assert os.environ.get(variable) == kept
