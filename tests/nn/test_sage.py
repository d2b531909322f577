"""GraphSAGE layers: PyTorch Geometric's values, and padding that is never read."""

from __future__ import annotations

import pytest
import torch

from hierpool.nn import SAGEConv, SAGEStack


def make_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
    both = mask[:, None] & mask[..., None]
    adj = torch.where(both, torch.rand(3, 6, 6), 0)  # some rows of degree below 1, where the clamp acts
    adj[0] *= 0.1
    return torch.where(mask[..., None], torch.randn(3, 6, 4), 0), adj, mask


@pytest.mark.parametrize("normalize", [True, False])
def test_same_as_pyg(normalize: bool) -> None:
    pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
    x, adj, mask = make_batch()
    ours = SAGEConv(4, 5, normalize=normalize)
    theirs = pyg.DenseSAGEConv(4, 5, normalize=normalize)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x, adj, mask), theirs(x, adj, mask))
    torch.testing.assert_close(ours(x, adj), theirs(x, adj))


def test_sum_without_root_is_the_plain_product() -> None:
    x, adj, _ = make_batch()
    conv = SAGEConv(4, 5, aggregation="sum", root=False)
    assert conv.lin_root is None
    torch.testing.assert_close(conv(x, adj), conv.lin_rel(adj @ x))


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e6])
def test_padding_is_not_read(norm: str | None, poison: float) -> None:
    x, adj, mask = make_batch()
    bad_x = torch.where(mask[..., None], x, poison)
    bad_adj = torch.where(mask[:, None] & mask[..., None], adj, poison)
    for layer in (SAGEConv(4, 5), SAGEStack(4, 5, 3, norm=norm)):
        expected = layer(x, adj, mask)
        got = layer(bad_x, bad_adj, mask)
        assert torch.equal(got, expected)
        assert got[~mask].eq(0).all()
        layer.zero_grad()
        got.square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


def test_stack_concatenates_every_layer() -> None:
    x, adj, mask = make_batch()
    stack = SAGEStack(4, 5, 3, layers=3)
    assert stack.out_channels == 13
    y = stack(x, adj, mask)
    assert y.shape == (3, 6, 13)
    first = stack.convs[0](x, adj, mask).relu()
    torch.testing.assert_close(y[..., :5], stack.norms[0](first, mask))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SAGEConv(4, 5, aggregation="max"), "aggregation must be one of"),
        (lambda: SAGEStack(4, 5, 3, layers=0), "layers must be at least 1, got 0"),
        (lambda: SAGEStack(4, 5, 3, norm="layer"), "norm must be one of"),
        (lambda: SAGEConv(4, 5)(torch.ones(4), torch.ones(2, 2)), "x must have shape"),
        (
            lambda: SAGEConv(4, 5)(torch.ones(1, 2, 4), torch.ones(1, 2, 3)),
            r"adj must have shape \[1, 2, 2\]",
        ),
        (
            lambda: SAGEConv(4, 5)(torch.ones(1, 2, 4), torch.ones(1, 2, 2), torch.ones(3)),
            r"mask must have shape \[1, 2\]",
        ),
    ],
)
def test_bad_arguments_are_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
