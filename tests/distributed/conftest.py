from __future__ import annotations

import pytest

from tests.support import worlds


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, list[str]]]:
    """The failures of every case for groups of 1 to 4 processes, which are started once."""
    return worlds.run("tests.distributed.cases", tmp_path_factory.mktemp("worlds"))
