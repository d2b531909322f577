"""Every soft pooler on the Triton kernels, compared with itself on the reference."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from tests.support.poolers import NAMES, make_batch, run


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", ["dense", "ragged"])
@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name: str, form: str, symmetric: bool) -> None:
    b = make_batch(symmetric=symmetric)
    expected = run(name, b, form, torch.float64, backend="reference")
    torch.testing.assert_close(run(name, b, form, torch.float64, backend="triton"), expected)
