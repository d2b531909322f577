"""Post-processing of a pooled adjacency: values of tgp, 0/0, gradients."""

from __future__ import annotations

import itertools

import pytest
import torch

from hierpool.connect import postprocess_adj
from tests.support.tgp import import_tgp


def pooled(seed: int = 0, b: int = 3, k: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, k, k, generator=generator, dtype=torch.float64)


FLAGS = {
    "remove_self_loops": "remove_self_loops",
    "degree_norm": "degree_norm",
    "edge_weight_norm": "edge_weight_norm",
    "transposed": "adj_transpose",
}  # and the arguments of tgp
ALL_STEPS = {"remove_self_loops": True, "degree_norm": True, "edge_weight_norm": True}


@pytest.mark.parametrize("chosen", [*itertools.product([False, True], repeat=4)])
def test_values_and_gradients_are_those_of_tgp(chosen: tuple[bool, ...]) -> None:
    ops = import_tgp("tgp.utils.ops")
    adj = pooled().requires_grad_()
    theirs_in = adj.detach().clone().requires_grad_()
    theirs = ops.postprocess_adj_pool_dense(
        theirs_in.clone(), **dict(zip(FLAGS.values(), chosen, strict=True))
    )
    ours = postprocess_adj(adj, **dict(zip(FLAGS, chosen, strict=True)))
    torch.testing.assert_close(ours, theirs)
    weight = pooled(1)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(adj.grad, theirs_in.grad)


def test_the_argument_is_not_modified() -> None:
    adj = pooled()
    before = adj.clone()
    postprocess_adj(adj, **ALL_STEPS)
    assert torch.equal(adj, before)


def test_clusters_without_neighbours_stay_finite() -> None:
    adj = pooled()
    adj[0] = 0
    adj[1, 2] = adj[1, :, 2] = 0
    adj.requires_grad_()
    out = postprocess_adj(adj, **ALL_STEPS)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert adj.grad is not None
    assert adj.grad.isfinite().all()
    assert not out[0].any()
    assert not out[1, 2].any()
    alone = postprocess_adj(pooled()[2:], **ALL_STEPS)
    torch.testing.assert_close(out[2:], alone)


def test_rows_whose_sum_is_not_positive_are_zero() -> None:
    adj = torch.tensor([[0.0, -2.0, 1.0], [-2.0, 0.0, 5.0], [1.0, 5.0, 0.0]], dtype=torch.float64)
    out = postprocess_adj(adj, degree_norm=True)
    assert not out[0].any()
    assert not out[:, 0].any()
    torch.testing.assert_close(out[1, 2], torch.tensor(5 / (3.0 * 6.0) ** 0.5, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(0, 4, 4), (2, 0, 0), (2, 3, 4, 4)])
def test_any_leading_dimensions(shape: tuple[int, ...]) -> None:
    adj = torch.rand(shape, dtype=torch.float64)
    out = postprocess_adj(adj, **ALL_STEPS)
    assert out.shape == shape
    if len(shape) == 4:
        one = postprocess_adj(adj[:, 1], **ALL_STEPS)
        torch.testing.assert_close(out[:, 1], one)


def test_gradients() -> None:
    adj = pooled(b=2, k=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: postprocess_adj(a, **ALL_STEPS), adj)
