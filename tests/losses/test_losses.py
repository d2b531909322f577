"""Auxiliary losses: formulas, values of PyG and tgp, normalisations, 0/0."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from hierpool import SoftPoolRecord, losses, soft_pool
from tests.support.tgp import import_tgp

CUT_LOSSES = (
    "mincut_loss",
    "orthogonality_loss",
    "spectral_loss",
    "cluster_loss",
    "just_balance_loss",
    "hosc_orthogonality_loss",
)


def make_batch(*, seed: int = 0, sizes: tuple[int, ...] = (7, 4, 1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weighted directed graphs in float64, padded with zeros to one row more than the largest graph."""
    torch.manual_seed(seed)
    b, n = len(sizes), max(sizes) + 1
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    adj = torch.rand(b, n, n, dtype=torch.float64) * mask[:, None] * mask[..., None]
    x = torch.randn(b, n, 3, dtype=torch.float64) * mask[..., None]
    logits = torch.randn(b, n, 4, dtype=torch.float64)
    return x, adj, logits, mask


def link_losses(record: SoftPoolRecord) -> list[Tensor]:
    """The link-prediction loss with every normalisation."""
    choices = itertools.product(losses.REDUCTIONS, (None, "numel", "valid"))
    return [losses.link_pred_loss(record, reduction=r, normalize=n) for r, n in choices]


def entropy_losses(record: SoftPoolRecord) -> list[Tensor]:
    """The entropy loss with every normalisation."""
    choices = itertools.product(losses.REDUCTIONS, (None, "padded", "valid"))
    return [losses.entropy_loss(record, reduction=r, normalize=n) for r, n in choices]


def cut_losses(record: SoftPoolRecord) -> dict[str, Tensor]:
    return {name: getattr(losses, name)(record) for name in CUT_LOSSES}


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
    ours = losses.link_pred_loss(record, **link), losses.entropy_loss(record, **chosen.entropy)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weights = (3.0, 0.7)
    sum(w * loss for w, loss in zip(weights, theirs, strict=True)).backward()
    sum(w * loss for w, loss in zip(weights, ours, strict=True)).backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-9, atol=1e-12)


def test_normalisations() -> None:
    x, adj, logits, mask = make_batch()
    record = soft_pool(x, adj, logits, mask=mask)
    s = logits.softmax(-1) * mask[..., None]
    difference, row_entropy = adj - s @ s.transpose(1, 2), -torch.special.xlogy(s, s).sum(-1)
    (b, n), sizes = row_entropy.shape, mask.sum(1).double()
    norms, norm = difference.flatten(1).norm(dim=1), difference.norm()
    expected = [norm, norm / (b * n * n), norm / sizes.square().sum()]  # global
    expected += [norms.mean(), (norms / n**2).mean(), (norms / sizes.square()).mean()]  # mean_graph
    torch.testing.assert_close(link_losses(record), expected, rtol=1e-12, atol=0)
    per_graph = row_entropy.sum(1)
    expected = [per_graph.sum(), row_entropy.mean(), per_graph.sum() / sizes.sum()]
    expected += [per_graph.mean(), row_entropy.mean(), (per_graph / sizes).mean()]
    torch.testing.assert_close(entropy_losses(record), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["paper", "tgp_unbatched"])
def test_size_free_conventions_ignore_padding(name: str) -> None:
    x, adj, logits, mask = make_batch()
    pad = torch.nn.functional.pad
    wider = pad(x, (0, 0, 0, 5)), pad(adj, (0, 5, 0, 5)), pad(logits, (0, 0, 0, 5)), pad(mask, (0, 5))
    chosen = losses.CONVENTIONS[name]
    record, reference = (soft_pool(a, b, c, mask=d) for a, b, c, d in (wider, (x, adj, logits, mask)))
    for loss, options in ((losses.link_pred_loss, chosen.link), (losses.entropy_loss, chosen.entropy)):
        torch.testing.assert_close(loss(record, **options), loss(reference, **options), rtol=1e-12, atol=0)


def test_edge_types_add_up() -> None:
    x, adj, logits, mask = make_batch()
    stacked = torch.stack([adj, 3 * adj.square(), adj.transpose(1, 2)], 1)
    together = soft_pool(x, stacked, logits, mask=mask)
    parts = [soft_pool(x, stacked[:, r], logits, mask=mask) for r in range(3)]
    sums = [sum(of_parts) for of_parts in zip(*map(link_losses, parts), strict=True)]
    torch.testing.assert_close(link_losses(together), sums)
    for loss in (losses.mincut_loss, losses.spectral_loss):
        torch.testing.assert_close(loss(together), sum(map(loss, parts)))
    for loss in (losses.orthogonality_loss, losses.cluster_loss):
        torch.testing.assert_close(loss(together), loss(parts[0]))


@pytest.mark.parametrize("case", ["no graphs", "no nodes", "no valid nodes", "no edges", "exact"])
def test_zero_over_zero_is_zero_with_zero_gradient(case: str) -> None:
    b, n = {"no graphs": (0, 3), "no nodes": (2, 0)}.get(case, (2, 3))
    x, adj = torch.zeros(b, n, 2), torch.zeros(b, n, n)
    mask = torch.zeros(b, n) if case == "no valid nodes" else None
    logits = torch.eye(3)[:n].expand(b, n, 3).contiguous()
    if case == "exact":  # every node alone in a cluster, A = S S^T
        adj = torch.eye(n).expand(b, n, n)
        logits = torch.where(adj > 0, 0.0, -math.inf)
    logits.requires_grad_()
    record = soft_pool(x, adj, logits, mask=mask)
    cuts = cut_losses(record)
    values = {
        "no edges": [cuts["mincut_loss"], cuts["spectral_loss"]],
        "exact": [*link_losses(record), *entropy_losses(record)],
    }.get(case, [*link_losses(record), *entropy_losses(record), *cuts.values()])
    for value in values:
        assert value.item() == 0.0
        (grad,) = torch.autograd.grad(value, logits, retain_graph=True)
        assert grad.eq(0).all()


def test_bad_choices_are_named() -> None:
    x, adj, logits, mask = make_batch()
    record = soft_pool(x, adj, logits, mask=mask)
    with pytest.raises(ValueError, match="reduction must be one of 'global', 'mean_graph', got 'sum'"):
        losses.link_pred_loss(record, reduction="sum")
    with pytest.raises(ValueError, match="normalize must be one of None, 'numel', 'valid', got 'padded'"):
        losses.link_pred_loss(record, normalize="padded")
    with pytest.raises(ValueError, match="normalize must be one of None, 'padded', 'valid', got 'numel'"):
        losses.entropy_loss(record, normalize="numel")


@pytest.mark.parametrize("reduction", losses.links.REDUCTIONS)
def test_losses_of_fields_that_were_not_computed_are_errors(reduction: str) -> None:
    x, adj, logits, mask = make_batch()
    record = soft_pool(x, adj, logits, mask=mask, link_loss=None, entropy=False)
    asked = 'record must have link(_norm)?, got None; call soft_pool with link_loss="frobenius"'
    with pytest.raises(ValueError, match=asked):
        losses.link_pred_loss(record, reduction=reduction)
    with pytest.raises(ValueError, match="got None; call soft_pool with entropy=True"):
        losses.entropy_loss(record, reduction=reduction)


def written_out(batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """The losses by the formulas of their papers, one graph at a time, with explicit matrices."""
    _, adj, logits, mask = batch
    values: dict[str, list[Tensor]] = {name: [] for name in CUT_LOSSES}
    for b in range(len(adj)):
        rows = mask[b] != 0
        a, s = adj[b][rows][:, rows], logits[b, rows].softmax(-1)
        n, k = s.shape
        d = a.sum(1)
        total, gram, eye = d.sum(), s.t() @ s, torch.eye(k, dtype=s.dtype)
        values["mincut_loss"].append(-(s.t() @ a @ s).trace() / (s.t() @ d.diag() @ s).trace())
        values["orthogonality_loss"].append((gram / gram.norm() - eye / math.sqrt(k)).norm())
        values["spectral_loss"].append(-(s.t() @ (a - torch.outer(d, d) / total) @ s).trace() / total)
        values["cluster_loss"].append(math.sqrt(k) / n * s.sum(0).norm() - 1)
        values["just_balance_loss"].append(-(gram + 1e-8).sqrt().trace() / math.sqrt(n * k))
        lengths = s.norm(dim=0).sum()
        values["hosc_orthogonality_loss"].append((math.sqrt(k) - lengths / math.sqrt(n)) / (math.sqrt(k) - 1))
    return {name: torch.stack(parts).mean() for name, parts in values.items()}


@pytest.mark.parametrize("name", CUT_LOSSES)
def test_losses_of_cuts_are_their_formulas(name: str) -> None:
    x, adj, logits, mask = make_batch(seed=3)
    theirs_in, ours_in = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    theirs = written_out((x, adj, theirs_in, mask))[name]
    ours = getattr(losses, name)(soft_pool(x, adj, ours_in, mask=mask))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    theirs.backward()
    ours.backward()
    torch.testing.assert_close(ours_in.grad, theirs_in.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", [(8,), (6, 6, 6)])
def test_losses_of_cuts_are_those_of_pyg(sizes: tuple[int, ...]) -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
    x, adj, logits, mask = make_batch(
        seed=4, sizes=sizes
    )  # PyG's collapse loss is the paper's for equal sizes
    record = soft_pool(x, adj, logits, mask=mask)
    mincut, orthogonality = pyg.dense_mincut_pool(x, adj, logits, mask)[2:]
    torch.testing.assert_close(losses.mincut_loss(record), mincut, rtol=1e-12, atol=0)
    torch.testing.assert_close(losses.orthogonality_loss(record), orthogonality, rtol=1e-12, atol=0)
    dmon = pyg.DMoNPooling(3, 4).double().eval()
    s = dmon.mlp(x).detach()
    record = soft_pool(x, adj, s, mask=mask)
    modularity, orthogonality, collapse = dmon(x, adj, mask)[3:]
    for name, value in (
        ("spectral_loss", modularity),
        ("orthogonality_loss", orthogonality),
        ("cluster_loss", collapse),
    ):
        torch.testing.assert_close(getattr(losses, name)(record), value, rtol=1e-12, atol=1e-14)


def test_losses_of_cuts_are_those_of_tgp() -> None:
    tgp = import_tgp("tgp.utils.losses")
    x, adj, logits, mask = make_batch(seed=5)
    record = soft_pool(x, adj, logits, mask=mask)
    s, valid = record.s, mask != 0
    expected = {
        "mincut_loss": tgp.mincut_loss(adj, s, record.adj),
        "orthogonality_loss": tgp.orthogonality_loss(s),
        "spectral_loss": tgp.spectral_loss(adj, s, record.adj, valid),
        "cluster_loss": tgp.cluster_loss(s, valid),
        "just_balance_loss": tgp.just_balance_loss(s, valid),
        "hosc_orthogonality_loss": tgp.hosc_orthogonality_loss(s, valid),
    }
    for name, value in expected.items():  # tgp adds 1e-8 to degrees
        torch.testing.assert_close(getattr(losses, name)(record), value, rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", CUT_LOSSES)
def test_the_sum_over_graphs_is_their_number_times_the_mean(name: str) -> None:
    x, adj, logits, mask = make_batch()
    record = soft_pool(x, adj, logits, mask=mask)
    loss = getattr(losses, name)
    total = loss(record, batch_reduction="sum")
    torch.testing.assert_close(total, len(adj) * loss(record))
    with pytest.raises(ValueError, match="batch_reduction must be one of 'mean', 'sum', got 'max'"):
        loss(record, batch_reduction="max")


def test_perfect_clusters_have_the_best_losses() -> None:
    clusters, each = 4, 5
    label = torch.arange(clusters).repeat_interleave(each)
    adj = (label[:, None] == label).double()[None]
    logits = torch.where(label[:, None] == torch.arange(clusters), 0.0, -math.inf).double()[None]
    logits.requires_grad_()
    record = soft_pool(torch.zeros(1, len(label), 1).double(), adj, logits)
    values = cut_losses(record)
    assert values["mincut_loss"].item() == -1.0
    assert values["orthogonality_loss"].item() == pytest.approx(0.0, abs=1e-15)
    assert values["spectral_loss"].item() == pytest.approx(1 / clusters - 1)
    assert values["cluster_loss"].item() == pytest.approx(0.0, abs=1e-15)
    sum(values.values()).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    together = torch.zeros_like(logits) - torch.arange(clusters) * 1e3
    one = soft_pool(torch.zeros(1, len(label), 1).double(), adj, together)
    assert losses.cluster_loss(one).item() == pytest.approx(math.sqrt(clusters) - 1)
    assert losses.orthogonality_loss(one).item() == pytest.approx(math.sqrt(2 - 2 / math.sqrt(clusters)))


def test_orthogonality_needs_the_gram_matrix() -> None:
    x, adj, logits, mask = make_batch()
    record = soft_pool(x, adj, logits, mask=mask, link_loss=None)
    with pytest.raises(ValueError, match="record must have gram, got None; call soft_pool with gram=True"):
        losses.orthogonality_loss(record)
    assert losses.spectral_loss(record).isfinite()


def test_ragged_records_are_normalised_as_padded_ones() -> None:
    x, adj, logits, mask = (t[:, :7] for t in make_batch())  # no more padding than the largest graph needs
    dense = soft_pool(x, adj[..., :7], logits, mask=mask)
    ragged = dense._replace(s=dense.s[mask])
    for loss in (link_losses, entropy_losses):
        torch.testing.assert_close(loss(ragged), loss(dense), rtol=1e-14, atol=0)
    torch.testing.assert_close(cut_losses(ragged), cut_losses(dense), rtol=0, atol=0)


def test_losses_of_a_ragged_batch_without_graphs_are_zero() -> None:
    record = soft_pool(torch.zeros(0, 3, 2), torch.zeros(0, 3, 3), torch.zeros(0, 3, 4))
    ragged = record._replace(s=record.s.reshape(0, 4))
    values = [*link_losses(ragged), *entropy_losses(ragged), *cut_losses(ragged).values()]
    assert all(value.item() == 0.0 for value in values)
