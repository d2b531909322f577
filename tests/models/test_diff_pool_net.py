"""The DiffPool network as a whole: what it must not depend on, and PyTorch Geometric in its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.models import DiffPoolNet

SIZES = (9, 5, 1, 7)


def make_batch(pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Random undirected graphs in float64, padded ``pad`` rows further than needed."""
    generator = torch.Generator().manual_seed(0)
    b, n = len(SIZES), max(SIZES) + pad
    x, adj = torch.zeros(b, n, 4, dtype=torch.float64), torch.zeros(b, n, n, dtype=torch.float64)
    mask = torch.arange(n) < torch.tensor(SIZES)[:, None]
    for i, size in enumerate(SIZES):
        x[i, :size] = torch.randn(size, 4, generator=generator, dtype=torch.float64)
        upper = torch.rand(size, size, generator=generator).gt(0.6).triu(1)
        adj[i, :size, :size] = (upper | upper.t()).double()
    return x, adj, mask


def make_net(**options: Any) -> DiffPoolNet:
    torch.manual_seed(1)
    options = {"max_nodes": 16, "ratio": 0.25, "hidden_channels": 8, "embedding_channels": 6} | options
    return DiffPoolNet(4, 3, **options).double()


def values(net: DiffPoolNet, x: Tensor, adj: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    out = net(x, adj, mask)
    assert out.link_loss is not None
    assert out.entropy_loss is not None
    return out.logits, out.link_loss, out.entropy_loss


def warmed(net: DiffPoolNet) -> DiffPoolNet:
    """In evaluation mode, with running statistics that are not those of a fresh layer."""
    net(*make_batch())
    return net.eval()


@pytest.mark.parametrize("options", [{}, {"levels": 2}, {"ratio": None, "k": (5, 2)}, {"readout": "mean"}])
def test_shapes(options: dict[str, Any]) -> None:
    net = make_net(**options)
    out = net(*make_batch())
    assert out.logits.shape == (4, 3)
    assert net.clusters == {"levels": (4, 1), "k": (5, 2)}.get(
        next(iter(options.keys() - {"ratio"}), ""), (4,)
    )
    assert [level.adj.shape[1] for level in out.levels] == list(net.clusters)


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(training: bool) -> None:
    options: dict[str, Any] = {"levels": 2, "pool_options": {"convention": "tgp_unbatched"}}
    narrow, wide = warmed(make_net(**options)).train(training), warmed(make_net(**options)).train(training)
    expected = values(narrow, *make_batch())
    got = values(wide, *make_batch(pad=4))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(list(wide.buffers()), list(narrow.buffers()), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poison_in_padding_reaches_no_output_and_no_gradient(poison: float) -> None:
    x, adj, mask = make_batch(pad=2)
    net = make_net()
    bad_x = torch.where(mask[..., None], x, poison)
    bad_adj = torch.where(mask[:, None] & mask[..., None], adj, poison)
    expected = values(net, x, adj, mask)
    got = values(net, bad_x, bad_adj, mask)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    sum(term.sum() for term in got).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert all(b.isfinite().all() for b in net.buffers())


def test_order_of_nodes_changes_nothing() -> None:
    x, adj, mask = make_batch(pad=2)
    order = torch.randperm(x.size(1), generator=torch.Generator().manual_seed(3))
    net = warmed(make_net(levels=2))
    expected = values(net, x, adj, mask)
    got = values(net, x[:, order], adj[:, order][:, :, order], mask[:, order])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_a_batch_is_its_graphs_one_by_one() -> None:
    x, adj, mask = make_batch()
    net = warmed(make_net(levels=2))
    together = net(x, adj, mask).logits
    for i, size in enumerate(SIZES):
        alone = net(x[i : i + 1, :size], adj[i : i + 1, :size, :size], None).logits
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-10, atol=1e-12)


def test_adjacency_of_any_dtype() -> None:
    x, adj, mask = make_batch()
    net = warmed(make_net())
    for dtype in (torch.bool, torch.int8, torch.float32):
        assert torch.equal(net(x, adj.to(dtype), mask.to(dtype)).logits, net(x, adj, mask).logits)


def test_pyg_in_place_of_ours_is_the_same_model() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: pyg) is not installed")
    ours, theirs = make_net(levels=2), make_net(levels=2, pool="pyg")
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    results = []
    for net in (ours, theirs):  # one seed, so the weights are the same
        out = values(net, *make_batch(pad=1))
        (out[0].square().sum() + out[1] + out[2]).backward()
        results.append((out, [p.grad for p in net.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-10)


def test_quirks_of_the_original_code() -> None:
    x, adj, mask = make_batch()
    net = make_net(aggregation="sum", root=False, norm="slot", readout_padding=True)
    assert not list(net.buffers())
    out = net(x, adj, mask)
    # The maximum runs over padding rows, which are 0, so no entry of a padded graph's first summary is negative.
    z = net.embeddings[0](x, adj, mask)
    assert z[~mask].eq(0).all()
    torch.testing.assert_close(net._summary(z, adj, mask), z.amax(1))
    assert net._summary(z, adj, mask)[1:].ge(0).all()
    assert out.logits.isfinite().all()


def test_losses_skipped_by_option() -> None:
    out = make_net(pool_options={"link_loss": None, "entropy": False})(*make_batch())
    assert out.link_loss is None
    assert out.entropy_loss is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3}, "exactly one of k and ratio"),
        ({"ratio": None}, "exactly one of k and ratio"),
        ({"ratio": None, "k": ()}, "k must name at least one level"),
        ({"ratio": None, "k": (3, 0)}, "k must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"readout": "last"}, "readout must be one of"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_net(**options)
