"""Small inputs, fake providers and runs without waiting, for the tests of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.harness import results, run
from bench.harness.floors import Rates
from bench.harness.timing import Effort
from bench.harness.workload import CPU, Pool, Provider, Request, Unavailable, Workload
from bench.ops import PROVIDERS
from bench.ops.batches import Batch, make_batch
from bench.ops.soft_pool import DENSE

SIZES = (5, 9, 12)
RATES = Rates(10.0, {"half": 100.0, "tf32": 50.0, "ieee": 50.0}, l2_bytes=1 << 12)
AT_ONCE = Effort(0.0, min_pairs=1, max_pairs=1)


def small_batch(request: Request = Request(), symmetric: bool = True) -> Batch:  # noqa: B008  # frozen
    """Three graphs of 5, 9 and 12 nodes."""
    gen = torch.Generator().manual_seed(request.seed)
    adj = (torch.rand(3, 12, 12, generator=gen) < 0.4).float()
    mask = torch.arange(12) < torch.tensor(SIZES).unsqueeze(1)
    adj = adj * mask.unsqueeze(1) * mask.unsqueeze(2)
    if symmetric:
        adj = adj.triu() + adj.triu(1).mT
    return make_batch(adj, SIZES, 4, 3, symmetric, seed=1)


SMALL = Workload("small", "Small", DENSE, small_batch)


def loaded(name: str) -> Pool:
    """The pool of a provider on the CPU; the test is skipped where it cannot be loaded."""
    try:
        return PROVIDERS[name].load(CPU)
    except Unavailable as error:
        pytest.skip(str(error))


def off(right: Pool, which: int, value: float = 0.0, gradient: float = 0.0) -> Pool:
    """``right`` with an output off by a relative ``value`` and its gradient to a leaf by ``gradient``."""

    def pool(batch: Any) -> tuple[Tensor, ...]:
        outputs = list(right(batch))
        leaf = batch.leaves[-1].square().mean()
        outputs[which] = outputs[which] * (1 + value) + gradient * (leaf - leaf.detach())
        return tuple(outputs)

    return pool


def raising(error: Exception) -> Callable[[Any], Any]:
    """A pool, or a way to load one, that fails."""

    def fail(_: Any) -> Any:
        raise error

    return fail


def provider_of(pool: Pool, name: str, **more: Any) -> Provider:
    return Provider(name, name.title(), "test", lambda device: pool, **more)


def plan_of(
    workloads: list[Workload], wanted: list[str], known: dict[str, Provider] = PROVIDERS, **more: Any
) -> run.Plan:
    more = {"modes": run.MODES["cuda"], "effort": AT_ONCE, "quick": True} | more
    return run.Plan(workloads, known, wanted, **more)


def execute(plan: run.Plan, parent: Path) -> tuple[results.Results, int, dict[tuple[str, str, str], dict]]:
    """The results, the number of failures, and rows by workload, provider and mode."""
    found, failed = run.execute(plan, parent, RATES)
    rows = {(row["workload"], row.get("provider", ""), row.get("mode", "")): row for row in found.rows}
    return found, failed, rows
