"""Sharded graphs in groups of 1 to 4 processes: values, gradients and errors; the cases are in ``cases``."""

from __future__ import annotations

import pytest

from tests.distributed.cases import CASES
from tests.support.worlds import SIZES


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_equal_to_one_process(outcomes: dict[int, dict[str, list[str]]], case: str, size: int) -> None:
    assert not outcomes[size][case], "\n".join(outcomes[size][case])
