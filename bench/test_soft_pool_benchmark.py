"""Single operators under pytest-benchmark: ``pytest bench --benchmark-only``. A wrong result fails, untimed."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.kinds import KINDS
from bench.measure import step
from bench.providers import ProviderUnavailable
from bench.registry import MODES, PROVIDERS, WORKLOADS
from bench.sparse import AnyBatch
from bench.verify import Evaluation, truth_of, verify
from bench.workloads import WorkloadUnavailable

CASES = [
    (workload, provider)
    for workload in ("mutag", "dnd-like", "dnd-like-edges", "dnd-like-linear")
    for provider in PROVIDERS
    if provider != "pyg-compiled" and PROVIDERS[provider].applies(WORKLOADS[workload])
]


@pytest.fixture(scope="module")
def prepared() -> dict[str, tuple[AnyBatch, Evaluation]]:
    return {}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("workload", "provider"), CASES)
def test_soft_pool(
    benchmark: BenchmarkFixture,
    prepared: dict[str, tuple[AnyBatch, Evaluation]],
    workload: str,
    provider: str,
    mode: str,
) -> None:
    try:
        if workload not in prepared:
            batch = WORKLOADS[workload].build(0, None)
            kind = KINDS[WORKLOADS[workload].kind]
            prepared[workload] = batch, truth_of(batch, PROVIDERS[kind.truth].load)
        pool = PROVIDERS[provider].load()
    except (WorkloadUnavailable, ProviderUnavailable) as error:
        pytest.skip(str(error))
    batch, truth = prepared[workload]
    verdict = verify(PROVIDERS[provider], pool, batch, truth)
    assert verdict.ok, verdict.failures
    benchmark.group = f"{WORKLOADS[workload].title}, {mode}"
    if mode == "backward":  # its forward is set-up, run outside the time of every round
        benchmark.pedantic(
            lambda outputs: torch.autograd.grad(outputs, batch.leaves, batch.grads),
            setup=lambda: ((pool(batch),), {}),
            rounds=30,
            warmup_rounds=3,
        )
    else:
        benchmark(step(pool, batch, mode))
