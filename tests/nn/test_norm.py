"""Batch normalisation over valid nodes."""

from __future__ import annotations

import pytest
import torch

from hierpool.nn import MaskedBatchNorm, SlotBatchNorm


def make_batch(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    return torch.randn(3, 4, 5, dtype=dtype) * 3 + 2, mask


@pytest.mark.parametrize("masked", [True, False])
def test_same_as_batch_norm_on_the_valid_rows(masked: bool) -> None:
    x, mask = make_batch()
    rows = mask if masked else torch.ones_like(mask)
    ours, theirs = MaskedBatchNorm(5).double(), torch.nn.BatchNorm1d(5).double()
    with torch.no_grad():
        ours.weight.uniform_(0.5, 2)
        ours.bias.uniform_(-1, 1)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for training in (True, True, False):
        ours.train(training)
        theirs.train(training)
        x = x + 1
        x_ours, x_theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y = ours(x_ours, mask if masked else None)
        expected = theirs(x_theirs[rows])
        torch.testing.assert_close(y[rows], expected)
        y.pow(3).sum().backward()
        expected.pow(3).sum().backward()
        torch.testing.assert_close(x_ours.grad, x_theirs.grad)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_other_calls_may_come_before_the_backward() -> None:
    x, mask = make_batch()
    norm = MaskedBatchNorm(5).double()
    x.requires_grad_()
    calls = (norm(x), norm(x, mask), norm(x))
    got = torch.autograd.grad(sum(y.pow(3).sum() for y in calls), x)
    alone = [torch.autograd.grad(norm(x, m).pow(3).sum(), x)[0] for m in (None, mask, None)]
    torch.testing.assert_close(got[0], sum(alone))


def test_padding_reaches_nothing() -> None:
    x, mask = make_batch()
    clean, poisoned = MaskedBatchNorm(5).double(), MaskedBatchNorm(5).double()
    bad = torch.where(mask[..., None], x, torch.nan).requires_grad_()
    y = poisoned(bad, mask)
    assert torch.equal(y, clean(x, mask))
    assert y[~mask].eq(0).all()
    assert torch.equal(poisoned.running_mean, clean.running_mean)
    assert torch.equal(poisoned.running_var, clean.running_var)
    y.square().sum().backward()
    assert bad.grad is not None
    assert bad.grad.isfinite().all()


def test_one_valid_node_and_none() -> None:
    norm = MaskedBatchNorm(2)
    x = torch.tensor([[[3.0, 5.0], [7.0, 9.0]]])
    assert torch.equal(norm(x, torch.tensor([[1, 0]]))[0, 0], norm.bias)
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.3, 0.5]))
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9, 0.9]))
    before = norm.running_mean.clone(), norm.running_var.clone()
    assert norm(x, torch.zeros(1, 2)).eq(0).all()
    assert torch.equal(norm.running_mean, before[0])
    assert torch.equal(norm.running_var, before[1])


def test_reset_forgets() -> None:
    norm = MaskedBatchNorm(5).double()
    norm(*make_batch())
    norm.reset_parameters()
    fresh = MaskedBatchNorm(5).double()
    assert all(
        torch.equal(a, b)
        for a, b in zip(norm.state_dict().values(), fresh.state_dict().values(), strict=True)
    )


def test_slot_norm_is_the_original_codes() -> None:
    x, _ = make_batch()
    expected = torch.nn.BatchNorm1d(4, affine=False).double()(x)
    torch.testing.assert_close(SlotBatchNorm()(x), expected)


def test_mask_of_another_shape_is_refused() -> None:
    x, _ = make_batch()
    with pytest.raises(ValueError, match=r"mask must have shape \[3, 4\] \(graphs, nodes\), got \[4, 3\]"):
        MaskedBatchNorm(5).double()(x, torch.ones(4, 3))
