"""Shared by all tests: the environment of a developer's shell must not change their outcome."""

import pytest

from tests.support.interpreter import check_bounds, make_fast
from tests.support.running import INTERPRETED

if INTERPRETED:
    make_fast()
    check_bounds()


@pytest.fixture(autouse=True)
def _no_instruction_set_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIERPOOL_CPU_ISA", raising=False)
