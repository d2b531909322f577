"""The asymmetric norm on a CUDA device."""

from __future__ import annotations

import pytest
import torch

import hierpool
from tests.support.cases import Case

SEED, f32 = 3, torch.float32


@pytest.mark.parametrize("n", [30, 5000])  # a graph in a program, and by digits
def test_asymmetric_norm(n: int, device: torch.device) -> None:
    s = Case("norm", b=3, n=n, k=7, valid="num_nodes").make_nodes(SEED, f32)
    for inputs in ((s[0].softmax(-1), s[2]), (s[0].softmax(-1), None)):
        here, there = (inputs[0].to(where).requires_grad_() for where in ("cpu", device))
        counts = inputs[1]
        expected = hierpool.asymmetric_norm(here, num_nodes=counts, backend="reference")
        counts = None if counts is None else counts.to(device)
        got = hierpool.asymmetric_norm(there, num_nodes=counts, backend="triton")
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-5, atol=1e-3)
        expected.sum().backward()
        got.sum().backward()
        torch.testing.assert_close(there.grad.cpu(), here.grad, rtol=1e-5, atol=1e-5)
