"""The tests of the benchmark wait for nothing, describe the machine once and use one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from bench.harness import floors, machine, run, timing


@pytest.fixture(scope="session")
def described() -> dict:
    return machine.describe(torch.device("cpu"))


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch, described: dict) -> Iterator[None]:
    monkeypatch.setattr(timing, "WARM_UP_S", 0.0)
    monkeypatch.setattr(timing, "SLOW_S", 1e-12)  # one step
    monkeypatch.setattr(timing, "MAX_CALLS", {"cpu": 1, "cuda": 1})
    monkeypatch.setattr(floors, "WARM_UP_S", 0.0)
    monkeypatch.setattr(run.Run, "tidy", lambda self: None)
    monkeypatch.setattr(run.machine, "describe", lambda device: described | {"device": device.type})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
