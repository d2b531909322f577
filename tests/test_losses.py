"""Auxiliary losses: values of the libraries they are named after, and 0/0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hierpool import SoftPoolRecord, losses, soft_pool


def make_batch(*, seed: int = 0, sizes: tuple[int, ...] = (7, 4, 1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted directed graphs in float64, padded by zeros to one more than the largest."""
    torch.manual_seed(seed)
    b, n = len(sizes), max(sizes) + 1
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    adj = torch.rand(b, n, n, dtype=torch.float64) * mask[:, None] * mask[..., None]
    x = torch.randn(b, n, 3, dtype=torch.float64) * mask[..., None]
    logits = torch.randn(b, n, 4, dtype=torch.float64)
    return x, adj, logits, mask


def record_of(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> SoftPoolRecord:
    x, adj, logits, mask = batch
    return soft_pool(x, adj, logits, mask=mask)


def residual(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A - S S^T written out, and the row entropies."""
    _, adj, logits, mask = batch
    s = logits.softmax(-1) * mask[..., None]
    return adj - s @ s.transpose(1, 2), -torch.special.xlogy(s, s).sum(-1)


@pytest.mark.parametrize("normalize", [True, False])
def test_pyg_values_and_gradients(normalize: bool) -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
    x, adj, logits, mask = make_batch()
    theirs_in = logits.clone().requires_grad_()
    theirs = pyg.dense_diff_pool(x, adj, theirs_in, mask, normalize)[2:]
    ours_in = logits.clone().requires_grad_()
    record = soft_pool(x, adj, ours_in, mask=mask)
    chosen = losses.CONVENTIONS["pyg"]
    link = chosen.link if normalize else {"reduction": "global", "normalize": None}
    ours = losses.link_prediction(record, **link), losses.entropy(record, **chosen.entropy)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = (3.0, 0.7)
    sum(w * loss for w, loss in zip(weights, theirs, strict=True)).backward()
    sum(w * loss for w, loss in zip(weights, ours, strict=True)).backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-9, atol=1e-12)


def test_every_normalisation_is_what_the_table_says() -> None:
    batch = make_batch()
    record = record_of(batch)
    difference, row_entropy = residual(batch)
    b, n = row_entropy.shape
    sizes = batch[3].sum(1).double()
    norms, norm = difference.flatten(1).norm(dim=1), difference.norm()
    expected_link = {
        ("global", None): norm,
        ("global", "numel"): norm / (b * n * n),
        ("global", "valid"): norm / sizes.square().sum(),
        ("mean_graph", None): norms.mean(),
        ("mean_graph", "numel"): (norms / n**2).mean(),
        ("mean_graph", "valid"): (norms / sizes.square()).mean(),
    }
    for (reduction, normalize), value in expected_link.items():
        got = losses.link_prediction(record, reduction=reduction, normalize=normalize)
        torch.testing.assert_close(got, value, rtol=1e-12, atol=0)
    per_graph = row_entropy.sum(1)
    expected_entropy = {
        ("global", None): per_graph.sum(),
        ("global", "padded"): row_entropy.mean(),
        ("global", "valid"): per_graph.sum() / sizes.sum(),
        ("mean_graph", None): per_graph.mean(),
        ("mean_graph", "padded"): row_entropy.mean(),
        ("mean_graph", "valid"): (per_graph / sizes).mean(),
    }
    for (reduction, normalize), value in expected_entropy.items():
        got = losses.entropy(record, reduction=reduction, normalize=normalize)
        torch.testing.assert_close(got, value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["paper", "tgp_unbatched"])
def test_size_free_conventions_ignore_padding(name: str) -> None:
    x, adj, logits, mask = make_batch()
    pad = torch.nn.functional.pad
    wider = pad(x, (0, 0, 0, 5)), pad(adj, (0, 5, 0, 5)), pad(logits, (0, 0, 0, 5)), pad(mask, (0, 5))
    chosen = losses.CONVENTIONS[name]
    record, reference = record_of(wider), record_of((x, adj, logits, mask))
    for loss, options in ((losses.link_prediction, chosen.link), (losses.entropy, chosen.entropy)):
        torch.testing.assert_close(loss(record, **options), loss(reference, **options), rtol=1e-12, atol=0)


def test_edge_types_add_up() -> None:
    x, adj, logits, mask = make_batch()
    stacked = torch.stack([adj, 2 * adj, adj.transpose(1, 2)], 1)
    together = soft_pool(x, stacked, logits, mask=mask)
    for reduction in losses.REDUCTIONS:
        for normalize in (None, "numel", "valid"):
            options = {"reduction": reduction, "normalize": normalize}
            parts = [
                losses.link_prediction(soft_pool(x, stacked[:, r], logits, mask=mask), **options)
                for r in range(3)
            ]
            torch.testing.assert_close(losses.link_prediction(together, **options), sum(parts))


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
@pytest.mark.parametrize("case", ["no graphs", "no nodes", "no valid nodes", "exact"])
def test_zero_over_zero_is_zero_with_zero_gradient(reduction: str, case: str) -> None:
    b, n = {"no graphs": (0, 3), "no nodes": (2, 0)}.get(case, (2, 3))
    x, adj = torch.zeros(b, n, 2), torch.zeros(b, n, n)
    mask = torch.zeros(b, n) if case == "no valid nodes" else None
    logits = torch.zeros(b, n, 3)
    if case == "exact":  # every node alone in a cluster, A = S S^T
        adj = torch.eye(n).expand(b, n, n)
        logits = torch.where(adj > 0, 0.0, -math.inf)
    logits.requires_grad_()
    record = soft_pool(x, adj, logits, mask=mask)
    total = sum(
        losses.link_prediction(record, reduction=reduction, normalize=normalize)
        for normalize in (None, "numel", "valid")
    ) + sum(
        losses.entropy(record, reduction=reduction, normalize=normalize)
        for normalize in (None, "padded", "valid")
    )
    assert total.item() == 0.0
    total.backward()
    assert logits.grad is not None
    assert logits.grad.eq(0).all()


def test_bad_choices_are_named() -> None:
    record = record_of(make_batch())
    with pytest.raises(ValueError, match="reduction must be one of 'global', 'mean_graph', got 'sum'"):
        losses.link_prediction(record, reduction="sum")
    with pytest.raises(ValueError, match="normalize must be one of None, 'numel', 'valid', got 'padded'"):
        losses.link_prediction(record, normalize="padded")
    with pytest.raises(ValueError, match="normalize must be one of None, 'padded', 'valid', got 'numel'"):
        losses.entropy(record, normalize="numel")


@pytest.mark.parametrize("reduction", losses.REDUCTIONS)
@pytest.mark.parametrize("normalize", [None, "numel", "valid"])
def test_a_link_loss_that_was_not_computed_is_nan(reduction: str, normalize: str | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x, adj, s = (torch.rand(2, 5, width, generator=generator) for width in (3, 5, 4))
    record = soft_pool(x, adj, s, link_loss=None)
    assert losses.link_prediction(record, reduction=reduction, normalize=normalize).isnan()
