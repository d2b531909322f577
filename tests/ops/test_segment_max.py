"""The largest rows of each group."""

from __future__ import annotations

import torch

from hierpool.ops.segment_max import OPERATOR, Call, Options, segment_max


def test_segment_max() -> None:
    group = torch.tensor([0, 0, 2, 2, 2])
    x = torch.tensor([[1.0, 2], [1, 3], [4, -1], [4, -1], [0, -1]], dtype=torch.float64, requires_grad=True)
    outs = segment_max(x, group, 3), OPERATOR.composite(Call(x, group, Options(3, "auto"))).y
    assert torch.equal(outs[0], torch.tensor([[1, 3], [-torch.inf] * 2, [4, -1]], dtype=torch.float64))
    upstream = torch.tensor([[1.0, 2], [0, 0], [5, 6]], dtype=torch.float64)
    first, second = (torch.autograd.grad(out, x, upstream)[0] for out in outs)
    torch.testing.assert_close(first, second)
    assert first.tolist() == [[0.5, 0], [0.5, 2], [2.5, 2], [2.5, 2], [0, 2]]


def test_second_derivative_of_segment_max() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    group = torch.tensor([0, 0, 1, 1, 1, 1])
    assert torch.autograd.gradgradcheck(lambda x: segment_max(x, group, 2), x)
