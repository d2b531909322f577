"""The largest rows of each group."""

from __future__ import annotations

import pytest
import torch

from hierpool import backends
from hierpool.ops.segment_max import OPERATOR, Call, Options, segment_max

BACKENDS = ("composite", *backends.available("segment_max"))


def run(backend: str, call: Call) -> torch.Tensor:
    if backend == "composite":
        return OPERATOR.composite(call).y
    return OPERATOR(call._replace(options=call.options._replace(backend=backend)))[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("padded", [False, True])
def test_ties_and_groups_without_rows(padded: bool, backend: str) -> None:
    rows = [[[1.0, 0], [1, -3], [9, 9]], [[9.0, 9]] * 3, [[4.0, -1], [4, -1], [0, -1]]]
    x = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False] * 3, [True] * 3])
    group = mask.nonzero()[:, 0]
    options = Options(3, "auto")
    y = run(backend, Call(x, None, mask, options) if padded else Call(x[mask], group, None, options))
    assert y.tolist() == [[1, 0], [0, 0], [4, -1]]
    dy = torch.tensor([[1.0, 2], [7, 7], [5, 6]], dtype=torch.float64)
    expected = [[[0.5, 2], [0.5, 0], [0, 0]], [[0.0, 0]] * 3, [[2.5, 2], [2.5, 2], [0, 2]]]
    assert torch.autograd.grad(y, x, dy)[0].tolist() == expected


def test_second_derivative() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    group = torch.tensor([0, 0, 1, 1, 1, 1])
    assert torch.autograd.gradgradcheck(lambda x: segment_max(x, group, 2), x)
