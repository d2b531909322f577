"""Time, memory and kernels of calls on a device; on the CPU, where tests run them, what can be had there."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import torch

from bench.bytes import H200, DeviceRates
from bench.gpu.workloads import BF16, IEEE, TF32, in_force
from bench.measure import Comparison, Effort, alternate

Call = Callable[[], object]

SAMPLE_S = 0.004  # of a sample, which repeats short calls
MAX_CALLS = 100
WARM_UP_CALLS = 3
WARM_UP_S = 0.3  # of a rate
MOST_KERNELS = 40  # of a list


class Unavailable(RuntimeError):
    """It cannot be measured on this device; the message says why."""


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(calls: Sequence[Call], device: torch.device) -> float:
    """From the start of the first to the end of the last, by events on the device."""
    if device.type != "cuda":
        start = time.perf_counter()
        for call in calls:
            call()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    for call in calls:
        call()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


class Rotation:
    """The same call on one copy of the inputs after the other, so that none is in the cache when its turn comes."""

    def __init__(self, calls: Sequence[Call], device: torch.device) -> None:
        self.device, self._calls = device, cycle(calls)

    def sample(self, number: int) -> float:
        """Seconds of one of ``number`` calls."""
        return seconds([next(self._calls) for _ in range(number)], self.device) / number

    def warm_up(self) -> float:
        """Seconds of a call after a few; the first compile and are not counted."""
        next(self._calls)()
        synchronize(self.device)
        return statistics.median(self.sample(1) for _ in range(WARM_UP_CALLS))


def compare(candidate: Rotation, peer: Rotation, effort: Effort) -> Comparison:
    """Time ``candidate`` against ``peer``: A B A B ..., the peer first in every pair."""
    sides = (peer, candidate)
    single = [side.warm_up() for side in sides]
    calls = [max(1, min(MAX_CALLS, math.ceil(SAMPLE_S / s))) for s in single]
    pairs = effort.pairs(sum(c * s for c, s in zip(calls, single, strict=True)))
    samples = alternate(lambda: peer.sample(calls[0]), lambda: candidate.sample(calls[1]), pairs)
    return Comparison.of(samples, (calls[0], calls[1]))


def peak_bytes(call: Call, device: torch.device) -> int:
    """Bytes by which allocated memory grows at most while ``call`` runs, after a first run."""
    if device.type != "cuda":
        raise Unavailable("memory is counted by the allocator of CUDA")
    call()
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def captured(call: Call, device: torch.device) -> Call:
    """The replay of ``call`` as a CUDA graph."""
    if device.type != "cuda":
        raise Unavailable("graphs are replayed by CUDA")
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_CALLS):
            call()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def kernels(call: Call, device: torch.device) -> list[dict[str, Any]]:
    """What one call starts on the device, by the profiler: name, count and microseconds, longest first."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    on_gpu = device.type == "cuda"
    call()
    synchronize(device)
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        call()
        synchronize(device)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    rows = [
        {
            "name": event.key,
            "count": event.count,
            "us": event.self_device_time_total if on_gpu else event.self_cpu_time_total,
        }
        for event in found.key_averages()
        if event.device_type == wanted and not getattr(event, "is_user_annotation", False)
    ]
    return sorted(rows, key=lambda row: -row["us"])[:MOST_KERNELS]


# ---- rates ----------------------------------------------------------------------------------------------------------


def _median_seconds(call: Call, device: torch.device, repeats: int) -> float:
    """After a warm-up, in which an idle device finds its clock."""
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP_S:
        call()
        synchronize(device)
    return statistics.median(seconds([call], device) for _ in range(repeats))


def _copy_gbps(device: torch.device, n_bytes: int, repeats: int) -> float:
    source = torch.randn(n_bytes // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _median_seconds(lambda: target.copy_(source), device, repeats) / 1e9


def _gemm_gflops(device: torch.device, dtype: torch.dtype, side: int, repeats: int) -> float:
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * side**3 / _median_seconds(lambda: torch.mm(a, b, out=out), device, repeats) / 1e9


def measure_rates(
    device: torch.device, copy_bytes: int = 4 << 30, side: int = 8192, repeats: int = 20
) -> DeviceRates:
    """Medians of a copy within the device and of square products of random numbers; and what it has of the rest."""
    gemm = {}
    for precision in (BF16, TF32, IEEE):
        with in_force(precision):
            gemm[precision.rate] = _gemm_gflops(device, precision.dtype, side, repeats)
    launch_us, l2_bytes, processors = H200.launch_us, H200.l2_bytes, H200.processors
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        l2_bytes = getattr(properties, "L2_cache_size", l2_bytes)
        processors = properties.multi_processor_count
        launch_us = _launch_us(device)
    return DeviceRates(_copy_gbps(device, copy_bytes, repeats), gemm, launch_us, l2_bytes, processors)


def _launch_us(device: torch.device, launches: int = 200) -> float:
    """Microseconds from one kernel of almost no work to the next, in a graph."""
    one = torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(launches):
            one.add_(1)

    return 1e6 * _median_seconds(captured(many, device), device, 5) / launches
