"""Lower bounds on time: least bytes and flops of a step, divided by the rates that the device was measured to reach.

A multiply-add is 2 flops. Inputs are read once, as they are stored, and outputs are written once; padding is neither
read nor written. Rows that the entries of a sparse A gather in random order are counted as often as they are gathered,
except for the share that the L2 cache holds, where the size of that cache is known (on a GPU). The bound is the larger
of bytes / copy bandwidth and flops / GEMM rate. A batch that fits into a CPU's caches can be faster than the first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.harness.precision import PRECISIONS, Precision, in_force

WARM_UP_S = 0.3  # an idle GPU raises its clock meanwhile


@dataclass(frozen=True)
class Work:
    """Least bytes moved and least floating-point operations of one step."""

    bytes: float
    flops: float

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)


@dataclass(frozen=True)
class Rates:
    """Rates of a device: copy (read + write), square products by `Precision.rate`, and on a GPU its L2 cache and the
    time from one small kernel to the next in a graph."""

    copy_gbps: float
    gemm_gflops: Mapping[str, float]
    l2_bytes: int | None = None
    launch_us: float | None = None

    def floor_ms(self, step: Work, rate: str = "ieee") -> float:
        """The least time of ``step`` in milliseconds."""
        return max(step.bytes / (self.copy_gbps * 1e6), step.flops / (self.gemm_gflops[rate] * 1e6))


def by_mode(forward: Work, backward: Work) -> dict[str, Work]:
    """Least work of each mode."""
    return {"forward": forward, "backward": backward, "both": forward + backward}


def size(*tensors: Tensor) -> int:
    """Bytes of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def gathered_bytes(rows: int, n_bytes: float, whole: float, l2_bytes: int) -> float:
    """Bytes of reading ``rows`` rows of ``n_bytes`` in random order from a tensor of ``whole`` bytes: every row once,
    and again unless the cache holds it."""
    repeated = max(0.0, rows * n_bytes - whole)
    return whole + repeated * max(0.0, 1 - l2_bytes / max(whole, 1))


# ---- rates of this machine ------------------------------------------------------------------------------------------


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def best_seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest of ``repeats`` calls after a warm-up."""
    start = time.perf_counter()
    while True:
        call()
        synchronize(device)
        if time.perf_counter() - start > WARM_UP_S:
            break
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def gemm_gflops(device: torch.device, precision: Precision, side: int, repeats: int) -> float:
    """Rate of square products of random numbers."""
    with in_force(precision):
        a, b = (torch.randn(side, side, device=device, dtype=precision.dtype) for _ in range(2))
        out = torch.empty_like(a)
        return 2 * side**3 / best_seconds(lambda: torch.mm(a, b, out=out), device, repeats) / 1e9


def measure_rates(
    device: torch.device, copy_bytes: int | None = None, side: int | None = None, repeats: int = 9
) -> Rates:
    """A copy beyond any cache, and products in every precision that workloads of the device have."""
    on_gpu = device.type == "cuda"
    copy_bytes, side = copy_bytes or (4 << 30 if on_gpu else 1 << 28), side or (8192 if on_gpu else 2048)
    source = torch.rand(copy_bytes // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.nbytes / best_seconds(lambda: target.copy_(source), device, repeats) / 1e9
    kinds = PRECISIONS if on_gpu else PRECISIONS[:1]
    gemm = {kind.rate: gemm_gflops(device, kind, side, repeats) for kind in kinds}
    if not on_gpu:
        return Rates(copy, gemm)
    l2_bytes = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", None)
    return Rates(copy, gemm, l2_bytes, _launch_us(device))


def _launch_us(device: torch.device, launches: int = 200) -> float:
    """Microseconds from one kernel of almost no work to the next, in a graph."""
    from bench.harness.timing import captured

    one = torch.zeros(1, device=device)

    def many() -> None:
        for _ in range(launches):
            one.add_(1)

    return 1e6 * best_seconds(captured(many, device), device, 5) / launches
