"""Sharded graphs in groups of 1 to 4 processes: values, gradients and errors; the cases are in ``cases``."""

from __future__ import annotations

import pytest

from tests.distributed.cases import CASES
from tests.support.worlds import sizes_of

MODULE = "tests.distributed.cases"


@pytest.mark.parametrize(
    ("case", "size"), [(case, size) for case in CASES for size in sizes_of(MODULE, case)]
)
def test_equal_to_one_process(outcomes: dict[int, dict[str, list[str]]], case: str, size: int) -> None:
    assert not outcomes[size][case], "\n".join(outcomes[size][case])
