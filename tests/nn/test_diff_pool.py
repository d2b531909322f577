"""The DiffPool layer: it composes the assignment, the operator and the losses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hierpool import RaggedGraph, dense_diff_pool, link_bce, losses, soft_pool
from hierpool.nn import DiffPool


def make_batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor([6, 3])[:, None]
    adj = torch.rand(2, 6, 6).round()
    adj = torch.where(mask[:, None] & mask[..., None], adj + adj.transpose(1, 2), 0)
    return torch.where(mask[..., None], torch.randn(2, 6, 4), 0), adj, mask


class Doubling(nn.Module):
    """An assignment that needs all three of its arguments."""

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> Tensor:
        return (adj @ x)[..., :3] * 2 + mask[..., None]


@pytest.mark.parametrize("convention", losses.CONVENTIONS)
def test_is_the_operator_and_its_losses(convention: str) -> None:
    x, adj, mask = make_batch()
    layer = DiffPool(4, 3, temperature=0.5, convention=convention)
    out = layer(x, adj, mask=mask)
    record = soft_pool(x, adj, layer.assignment(x), mask=mask, temperature=0.5)
    chosen = losses.CONVENTIONS[convention]
    torch.testing.assert_close(out.x, record.x)
    torch.testing.assert_close(out.adj, record.adj)
    torch.testing.assert_close(out.loss["link_loss"], losses.link_pred_loss(record, **chosen.link))
    torch.testing.assert_close(out.loss["entropy_loss"], losses.entropy_loss(record, **chosen.entropy))


@pytest.mark.parametrize("convention", ["original", "pyg"])
def test_cross_entropy_of_the_original_code(convention: str) -> None:
    x, adj, mask = make_batch()
    layer = DiffPool(4, 3, link_loss="bce", entropy=False, convention=convention)
    out = layer(x, adj.clamp(max=1), mask=mask)
    s = layer.assignment(x).softmax(-1)
    divisor = {"original": "valid", "pyg": "numel"}[convention]
    expected = link_bce(s, adj.clamp(max=1), mask=mask, normalize=divisor)
    torch.testing.assert_close(out.loss["link_loss"], expected)
    assert list(out.loss) == ["link_loss"]
    graph = RaggedGraph.from_dense(adj.clamp(max=1), mask=mask)
    torch.testing.assert_close(layer(x[mask], graph).loss["link_loss"], expected)
    grads = [
        torch.autograd.grad(loss, layer.assignment.lins[0].weight)[0]
        for loss in (out.loss["link_loss"], expected)
    ]
    torch.testing.assert_close(*grads)


def test_assignment_sees_its_own_features() -> None:
    x, adj, mask = make_batch()
    z = torch.randn(2, 6, 7)
    out = DiffPool(4, 3, assignment=Doubling())(z, adj, mask=mask, assign_x=x)
    expected = soft_pool(z, adj, Doubling()(x, adj, mask), mask=mask)
    torch.testing.assert_close(out.x, expected.x)
    assert out.record is not None
    torch.testing.assert_close(out.record.s, expected.s)


def test_losses_that_are_not_wanted_are_not_computed() -> None:
    x, adj, mask = make_batch()
    out = DiffPool(4, 3, link_loss=None, entropy=False)(x, adj, mask=mask)
    assert not out.has_loss
    assert out.get_loss_value() == 0
    assert out.record is not None
    assert out.record.gram is None
    assert out.record.entropy is None


def test_another_librarys_function_can_pool() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: pyg) is not installed")
    x, adj, mask = make_batch()
    ours = DiffPool(4, 3, temperature=2.0)
    theirs = DiffPool(4, 3, temperature=2.0, pool="pyg")
    theirs.load_state_dict(ours.state_dict())
    got, expected = theirs(x, adj, mask=mask), ours(x, adj, mask=mask)
    for name in ("x", "adj", "loss", "mask"):
        torch.testing.assert_close(getattr(got, name), getattr(expected, name))
    torch.testing.assert_close(got.so.s, expected.so.s)
    assert got.record is None


def test_can_be_copied_and_printed() -> None:
    layer = copy.deepcopy(DiffPool(4, 3))
    assert "k=3" in repr(layer)
    x, adj, mask = make_batch()
    assert layer(x, adj, mask=mask).x.shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of k and ratio"),
        ({"k": 2, "ratio": 0.5}, "exactly one of k and ratio"),
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"ratio": 1.5, "max_nodes": 4}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"ratio": 0.5}, "max_nodes must be at least 1"),
        ({"k": 2, "temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"k": 2, "link_loss": "l2"}, "link_loss must be 'frobenius', 'bce' or None, got 'l2'"),
        ({"k": 2, "link_loss": "bce", "convention": "paper"}, "with link_loss='bce', got 'paper'"),
        ({"k": 2, "link_loss": "bce", "pool": dense_diff_pool}, "link_loss must be 'frobenius' or None with"),
        ({"k": 2, "convention": "mine"}, "convention must be one of .* got 'mine'"),
        ({"k": 2, "pool": "dgl"}, "pool must be 'hierpool', 'pyg' or a function, got 'dgl'"),
        ({"k": 2, "pool": "pyg", "convention": "paper"}, "convention must be 'pyg'"),
    ],
)
def test_bad_arguments_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffPool(4, **options)


def test_assignment_of_another_shape_is_refused() -> None:
    x, adj, mask = make_batch()
    with pytest.raises(ValueError, match=r"assignment must return \[2, 6, 5\] .* returned \[2, 6, 3\]"):
        DiffPool(4, 5, assignment=Doubling())(x, adj, mask=mask)
