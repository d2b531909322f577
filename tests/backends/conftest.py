"""Which backend runs is found out anew by every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hierpool import backends


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    backends.module.cache_clear()
    yield
    backends.module.cache_clear()
