"""Every test that asks for ``builder`` runs with both backends, on one thread."""

from __future__ import annotations

import pytest

from hierpool import backends
from hierpool.graph import build
from tests.support.running import one_thread

__all__ = ["builder", "one_thread"]


@pytest.fixture(params=["reference", "native"])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build all graphs with one backend."""
    if request.param not in backends.available("graph_build"):
        with pytest.raises(RuntimeError) as unavailable:
            backends.select("graph_build", "cpu", request.param)
        pytest.skip(str(unavailable.value))
    chosen = backends.module("graph_build", "cpu", request.param)
    monkeypatch.setattr(build, "_backend", lambda device: chosen)
    return request.param
