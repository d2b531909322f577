"""Every backend, and every instruction set of the native one, in one run."""

from __future__ import annotations

import pytest

from tests.support.running import BACKENDS, choose, one_thread

__all__ = ["backend", "native", "native_isa", "one_thread"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return choose(request.param, monkeypatch)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend with the best instruction set of this machine."""
    name = choose("native-scalar", monkeypatch)
    monkeypatch.delenv("HIERPOOL_CPU_ISA")
    return name


@pytest.fixture(params=BACKENDS[1:])
def native_isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The native backend with one instruction set after the other."""
    return choose(request.param, monkeypatch)
