"""Every backend, and every instruction set of the native one, in one run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.running import BACKENDS, choose


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of torch wait for each other on busy machines; that they change no bit is a test of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return choose(request.param, monkeypatch)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend with the best instruction set of this machine."""
    name = choose("native-scalar", monkeypatch)
    monkeypatch.delenv("HIERPOOL_CPU_ISA")
    return name
