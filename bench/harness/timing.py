"""Timing of two sides against each other on one device: alternating samples, paired ratios, percentiles.

On a CPU every step is timed by the clock; on a GPU a sample is the time between two events around several steps, and
copies of the inputs take turns, so that none is in the L2 cache when its turn comes.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch

from bench.harness.floors import synchronize
from bench.harness.inputs import Inputs
from bench.harness.workload import Pool, Unavailable

Step = Callable[[], float]  # runs a step, returns the seconds of the timed part by the clock of the CPU

SAMPLE_S = {"cpu": 0.002, "cuda": 0.004}  # a sample repeats short steps until it lasts about this long
MAX_CALLS = {"cpu": 20, "cuda": 100}
WARM_UP_S = 0.1
SLOW_S = 1.0  # of warm-up that is enough for steps of any length
WARM_UP_CALLS = 3  # before a graph is captured
MOST_KERNELS = 40  # of a list


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds per pair of providers and mode, and bounds on the number of pairs."""

    budget_s: float = 2.0
    min_pairs: int = 11
    max_pairs: int = 201

    def pairs(self, pair_s: float) -> int:
        """An odd number of pairs, so that the median is one of them."""
        wanted = max(self.min_pairs, min(self.max_pairs, int(self.budget_s / pair_s)))
        return wanted + 1 - wanted % 2


@dataclass(frozen=True)
class Percentiles:
    """20th, 50th and 80th percentile."""

    p20: float
    p50: float
    p80: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles:
        """Linear interpolation between order statistics."""
        deciles = statistics.quantiles([*values] * (1 + (len(values) == 1)), n=10, method="inclusive")
        return cls(deciles[1], deciles[4], deciles[7])


@dataclass(frozen=True)
class Comparison:
    """Times of both sides, and the ratio peer / candidate of each pair."""

    candidate_ms: Percentiles
    peer_ms: Percentiles
    speedup: Percentiles
    pairs: int
    calls_per_sample: tuple[int, int]

    @classmethod
    def of(cls, samples: Sequence[tuple[float, ...]], calls: tuple[int, int] = (1, 1)) -> Comparison:
        """From seconds of the peer and of the candidate, and how many steps of each a sample is the mean of."""
        return cls(
            candidate_ms=Percentiles.of([1e3 * c for _, c in samples]),
            peer_ms=Percentiles.of([1e3 * p for p, _ in samples]),
            speedup=Percentiles.of([p / c for p, c in samples]),
            pairs=len(samples),
            calls_per_sample=(calls[1], calls[0]),
        )


def step(pool: Pool, inputs: Inputs, mode: str) -> Step:
    """One step. "forward" records for the backward, as training does; "backward" does not time its forward."""

    def forward() -> float:
        start = time.perf_counter()
        pool(inputs)
        return time.perf_counter() - start

    def backward() -> float:
        outputs = pool(inputs)
        start = time.perf_counter()
        torch.autograd.grad(outputs, inputs.leaves, inputs.grads)
        return time.perf_counter() - start

    def both() -> float:
        start = time.perf_counter()
        torch.autograd.grad(pool(inputs), inputs.leaves, inputs.grads)
        return time.perf_counter() - start

    return {"forward": forward, "backward": backward, "both": both}[mode]


def timed(call: Callable[[], Any]) -> Step:
    """A call as a step."""

    def seconds() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return seconds


class Side:
    """One side of a comparison: the same step on one copy of the inputs after the other."""

    def __init__(self, steps: Sequence[Callable[[], Any]], device: torch.device) -> None:
        self.device, self._steps = device, cycle(steps)

    def sample(self, number: int = 1) -> float:
        """Seconds of one of ``number`` steps."""
        steps = [next(self._steps) for _ in range(number)]
        if self.device.type != "cuda":
            return sum(one() for one in steps) / number
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for one in steps:
            one()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1e3 / number

    def warm_up(self) -> float:
        """Median seconds of a step, after a first one that may compile: three or more, fewer if they take seconds."""
        next(self._steps)()
        synchronize(self.device)
        times: list[float] = []
        start = time.perf_counter()
        while time.perf_counter() - start < WARM_UP_S or (len(times) < 3 and sum(times) < SLOW_S):
            times.append(self.sample())
        return statistics.median(times)


def alternate(steps: Sequence[Step], rounds: int) -> list[tuple[float, ...]]:
    """Samples of all steps in turn, in the order A B A B ..., without garbage collection meanwhile."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return [tuple(step() for step in steps) for _ in range(rounds)]
    finally:
        if collecting:
            gc.enable()


def compare(candidate: Side, peer: Side, effort: Effort) -> Comparison:
    """Time ``candidate`` against ``peer``: the peer first in every pair."""
    sides = (peer, candidate)
    single = [side.warm_up() for side in sides]
    sample_s, most = SAMPLE_S[peer.device.type], MAX_CALLS[peer.device.type]
    calls = [max(1, min(most, math.ceil(sample_s / seconds))) for seconds in single]
    pairs = effort.pairs(sum(c * s for c, s in zip(calls, single, strict=True)))
    samples = alternate((lambda: peer.sample(calls[0]), lambda: candidate.sample(calls[1])), pairs)
    return Comparison.of(samples, (calls[0], calls[1]))


# ---- on a GPU -------------------------------------------------------------------------------------------------------


def captured(call: Callable[[], object], device: torch.device) -> Callable[[], object]:
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


def kernels(call: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
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
