"""Lower bounds on time: the least bytes and flops a pooling step needs, over what this machine was measured to do.

Per graph of n nodes with E non-zeros, K clusters, F features (a multiply-add is 2 flops, an element 4 bytes):

    forward   flops  2 E K [A S] + 2 n K (F + K + K/2) [S^T X, S^T M, half of S^T S]
              bytes  A, L, X read, S and M = A S written
    backward  flops  2 n K F [dX] + 2 n K (F + 2K) [dS]
              bytes  S, X, M read, dL and dX written
    directed  A^T S adds 2 E K and 2 n K K flops and one more reading of A to the backward
    linear    a layer of P weights that makes the logits adds 2 n P flops to the forward, 4 n P to the backward

A is read as it is stored: dense (n n elements) whatever its share of zeros, or in compressed rows (E + n + 1 numbers
of 4 bytes); padding is neither read nor written, and making the rows of ``edge_index`` is not counted. The bound is
the larger of bytes / copy bandwidth and flops / GEMM rate; a batch that fits in cache can pass the first one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.sparse import AnyBatch


@dataclass(frozen=True)
class Work:
    """Least bytes moved and least floating-point operations of one step."""

    bytes: float
    flops: float

    def __add__(self, other: Work) -> Work:
        return Work(self.bytes + other.bytes, self.flops + other.flops)


@dataclass(frozen=True)
class Rates:
    """Measured on the machine at the start of a run: copy (read + write) and square float32 matrix product."""

    copy_gbps: float
    gemm_gflops: float


def work(batch: AnyBatch) -> dict[str, Work]:
    """Least work of each mode."""
    k, f = batch.clusters, batch.x.shape[-1]
    size = batch.x.element_size()
    nodes, entries, parameters = sum(batch.sizes), batch.entries, batch.parameters
    forward = Work(
        bytes=batch.adjacency_bytes + size * (nodes * (k + f) + 2 * nodes * k),
        flops=2 * entries * k + 2 * nodes * k * (f + 1.5 * k),
    )
    backward = Work(
        bytes=size * (nodes * (2 * k + f) + nodes * (k + f)),
        flops=2 * nodes * k * f + 2 * nodes * k * (f + 2 * k),
    )
    if not batch.symmetric:
        backward += Work(bytes=batch.adjacency_bytes, flops=2 * entries * k + 2 * nodes * k * k)
    forward += Work(bytes=size * parameters, flops=2 * nodes * parameters)
    backward += Work(bytes=2 * size * parameters, flops=4 * nodes * parameters)
    return {"forward": forward, "backward": backward, "both": forward + backward}


def floor_ms(step: Work, rates: Rates) -> float:
    """The least time of ``step`` in milliseconds."""
    return max(step.bytes / (rates.copy_gbps * 1e6), step.flops / (rates.gemm_gflops * 1e6))


def _best_seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def measure_rates(copy_elements: int = 1 << 26, gemm_size: int = 2048, repeats: int = 9) -> Rates:
    """Best of ``repeats``: a copy of ``copy_elements`` float32 (beyond any cache) and one square matrix product."""
    source = torch.ones(copy_elements)
    target = torch.empty_like(source)
    copy = _best_seconds(lambda: target.copy_(source), repeats)
    a, b = torch.randn(2, gemm_size, gemm_size)
    out = torch.empty_like(a)
    gemm = _best_seconds(lambda: torch.mm(a, b, out=out), repeats)
    return Rates(2 * source.nbytes / copy / 1e9, 2 * gemm_size**3 / gemm / 1e9)
