"""Both builders of sparse matrices in one run, and one thread of torch."""

from __future__ import annotations

import pytest

from hierpool import backends
from hierpool.graph import csr
from tests.support.running import one_thread

__all__ = ["builder", "one_thread"]


@pytest.fixture(params=["reference", "native"])
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build all graphs by one backend."""
    if request.param not in backends.available("csr"):
        with pytest.raises(RuntimeError) as unavailable:
            backends.select("csr", "cpu", request.param)
        pytest.skip(str(unavailable.value))
    chosen = backends.select("csr", "cpu", request.param).filler("csr")
    monkeypatch.setattr(csr, "_filler", lambda device: chosen)
    return request.param
