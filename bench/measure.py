"""Timing of two pools against each other: alternating samples, paired ratios, percentiles."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch

from bench.providers import Pool
from bench.sparse import AnyBatch

SAMPLE_S = 0.002  # a sample repeats short calls until it lasts about this long
MAX_CALLS = 20
WARM_UP_S = 0.1
SLOW_S = 1.0  # of warm-up that is enough for calls of any length


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
        ordered = sorted(values)

        def at(q: float) -> float:
            position = q * (len(ordered) - 1)
            low = math.floor(position)
            high = min(low + 1, len(ordered) - 1)
            return ordered[low] + (position - low) * (ordered[high] - ordered[low])

        return cls(at(0.2), at(0.5), at(0.8))


@dataclass(frozen=True)
class Comparison:
    """Times of both sides, and the ratio peer / candidate of each pair."""

    candidate_ms: Percentiles
    peer_ms: Percentiles
    speedup: Percentiles
    pairs: int
    calls_per_sample: tuple[int, int]

    @classmethod
    def of(cls, samples: list[tuple[float, float]], calls: tuple[int, int]) -> Comparison:
        """From seconds of the peer and of the candidate, and how many calls of each a sample is the mean of."""
        return cls(
            candidate_ms=Percentiles.of([1e3 * c for _, c in samples]),
            peer_ms=Percentiles.of([1e3 * p for p, _ in samples]),
            speedup=Percentiles.of([p / c for p, c in samples]),
            pairs=len(samples),
            calls_per_sample=(calls[1], calls[0]),
        )

    def as_row(self) -> dict:
        return asdict(self)


def step(pool: Pool, batch: AnyBatch, mode: str) -> Callable[[], float]:
    """A function that runs one step and returns the seconds of the timed part.

    "forward" records for the backward, as training does; "backward" leaves its forward out of the time.
    """

    def forward() -> float:
        start = time.perf_counter()
        pool(batch)
        return time.perf_counter() - start

    def backward() -> float:
        outputs = pool(batch)
        start = time.perf_counter()
        torch.autograd.grad(outputs, batch.leaves, batch.grads)
        return time.perf_counter() - start

    def both() -> float:
        start = time.perf_counter()
        torch.autograd.grad(pool(batch), batch.leaves, batch.grads)
        return time.perf_counter() - start

    return {"forward": forward, "backward": backward, "both": both}[mode]


def warm_up(call: Callable[[], float]) -> float:
    """Run ``call`` three times, fewer if that takes seconds, and for `WARM_UP_S`; the median of its times."""
    times: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP_S or (len(times) < 3 and sum(times) < SLOW_S):
        times.append(call())
    return statistics.median(times)


def alternate(
    first: Callable[[], float], second: Callable[[], float], pairs: int, calls: tuple[int, int] = (1, 1)
) -> list[tuple[float, float]]:
    """Samples in the order A B A B ...; a sample is the mean of that side's ``calls``. No garbage collection inside."""

    def sample(call: Callable[[], float], number: int) -> float:
        return sum(call() for _ in range(number)) / number

    collecting = gc.isenabled()
    gc.disable()
    try:
        return [(sample(first, calls[0]), sample(second, calls[1])) for _ in range(pairs)]
    finally:
        if collecting:
            gc.enable()


def compare(candidate: Pool, peer: Pool, batch: AnyBatch, mode: str, effort: Effort) -> Comparison:
    """Time ``candidate`` against ``peer``: the peer first in every pair."""
    sides = (step(peer, batch, mode), step(candidate, batch, mode))
    single = [warm_up(side) for side in sides]
    calls = tuple(max(1, min(MAX_CALLS, math.ceil(SAMPLE_S / seconds))) for seconds in single)
    pair_s = sum(c * s for c, s in zip(calls, single, strict=True))
    samples = alternate(*sides, effort.pairs(pair_s), (calls[0], calls[1]))
    return Comparison.of(samples, (calls[0], calls[1]))
