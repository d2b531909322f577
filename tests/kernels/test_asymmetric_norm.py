"""Every variant of the kernels of the asymmetric norm is run and right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels.core.launch import Call, watch
from tests.kernels.test_variants import DENSE, SEED, WIDE, argument, assert_reached, f32, option
from tests.support import asymmetric_norm
from tests.support.cases import Case

# Layout: ptr, sizes, mask; whether all rows of a graph are in a tile; the first digit.
OF_NORM: list[tuple[str, tuple[Callable[[Call], Any], ...], set[tuple[Any, ...]]]] = [
    ("_asymmetric_norm_fwd_kernel", (argument(7), argument(8), argument(9), option("ONE_TILE")),
     {(False, False, False, True), (False, True, False, True), (False, True, True, True),
      (True, False, False, False)}),
    ("_asymmetric_norm_count_fwd_kernel", (argument(6), argument(7), argument(8), argument(3)),
     {(*layout, later) for layout in ((False, True, False), (False, True, True), (True, False, False))
      for later in (False, True)}),
    ("_asymmetric_norm_digit_fwd_kernel", (option("LOWEST"),), {(None,), (-(1 << 31),)}),
    ("_asymmetric_norm_sums_fwd_kernel", (), {()}),
    ("_asymmetric_norm_reduce_fwd_kernel", (), {()}),
    ("_asymmetric_norm_bwd_kernel", (argument(9),), {(True,), (False,)}),
]  # fmt: skip


def test_variants_of_the_asymmetric_norm() -> None:
    """Both layouts, small graphs and large ones."""
    small = Case("skewed", b=8, n=80, k=5, valid="num_nodes", sizes=(2, 80, 0, 1, 3, 2, 1, 2))
    cases = [Case("all", n=20), replace(DENSE, n=30), replace(WIDE, n=30), DENSE, WIDE]
    with watch() as launched:
        for inputs in (asymmetric_norm.make(case, SEED, f32) for case in cases):
            asymmetric_norm.check(inputs, "triton")
        for case in (small, replace(DENSE, n=120, sizes=(120, 60, 90))):
            asymmetric_norm.check(asymmetric_norm.make(case, SEED, f32).ragged(), "triton")
    assert_reached(launched, OF_NORM)
