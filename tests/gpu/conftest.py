"""Tests on a CUDA device; where none can be used, all of them are skipped, for one reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hierpool.backends.triton import _availability
from tests.support.running import INTERPRETED


def missing() -> str | None:
    """Why nothing here can run, or None."""
    if INTERPRETED:
        return "no test on a device: with TRITON_INTERPRET=1 the kernels run on the CPU"
    reason = _availability.unavailable_reason("cuda", False)
    return None if reason is None else f"no test on a device: {reason}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    if reason is None:
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(autouse=True)
def ieee(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Products of float32 in float32, unless a test says otherwise."""
    monkeypatch.delenv("HIERPOOL_FP32_PRECISION", raising=False)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)
