"""Every soft pooler on a CUDA device, compared with itself in float64 on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests.support.poolers import NAMES, make_batch, run

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
FORMS = ("dense", "edge_index", "ragged")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_values_and_gradients(symmetric: bool, name: str, form: str, device: torch.device) -> None:
    b = make_batch(symmetric=symmetric)
    expected = run(name, b, form, f64, "cpu")
    got = run(name, b, form, f32, device)
    assert all(t.device == device for t in got.values())
    values = {what: t.cpu().double() for what, t in got.items()}
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [bf16, f16])
@pytest.mark.parametrize("name", NAMES)
def test_small_dtypes_are_finite(name: str, dtype: torch.dtype, form: str, device: torch.device) -> None:
    for what, t in run(name, make_batch(), form, dtype, device).items():
        assert t.isfinite().all(), what
