"""Single operators under pytest-benchmark: ``pytest bench --benchmark-only``. A wrong result fails, untimed."""

from __future__ import annotations

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from bench.harness.inputs import Inputs
from bench.harness.timing import step
from bench.harness.truth import Evaluation, truth_of, verify
from bench.harness.workload import CPU, Request, Unavailable
from bench.ops import PROVIDERS, WORKLOADS

CASES = [
    (workload, provider.name)
    for workload in ("mutag", "dnd-like", "dnd-like-edges", "dnd-like-linear")
    for provider in PROVIDERS.values()
    if provider.name != "pyg-compiled" and "cpu" in provider.devices and provider.applies(WORKLOADS[workload])
]


@pytest.fixture(scope="module")
def prepared() -> dict[str, tuple[Inputs, Evaluation]]:
    return {}


@pytest.mark.parametrize("mode", ["forward", "backward", "both"])
@pytest.mark.parametrize(("workload", "provider"), CASES)
def test_soft_pool(
    benchmark: BenchmarkFixture, prepared: dict[str, tuple[Inputs, Evaluation]], workload: str, provider: str,
    mode: str,
) -> None:  # fmt: skip
    try:
        if workload not in prepared:
            batch = WORKLOADS[workload].build(Request())
            right = PROVIDERS[WORKLOADS[workload].kind.truths[0]].load(CPU)
            prepared[workload] = batch, truth_of(batch, right)
        pool = PROVIDERS[provider].load(CPU)
    except Unavailable as error:
        pytest.skip(str(error))
    batch, truth = prepared[workload]
    verdict = verify(pool, batch, truth, fp32_norm=PROVIDERS[provider].fp32_norm)
    assert verdict.ok, verdict.failures
    benchmark.group = f"{WORKLOADS[workload].title}, {mode}"
    if mode == "backward":  # its forward is set-up, run outside the time of every round
        benchmark.pedantic(
            lambda outputs: torch.autograd.grad(outputs, batch.leaves, batch.grads),
            setup=lambda: ((pool(batch),), {}), rounds=30, warmup_rounds=3,
        )  # fmt: skip
    else:
        benchmark(step(pool, batch, mode))
