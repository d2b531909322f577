"""Layers on ragged batches: the values and gradients of padded ones, without the padding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hierpool import RaggedGraph
from hierpool.nn import DiffPool, MaskedBatchNorm, SAGEConv, SAGEStack, SlotBatchNorm, readout
from tests.support.ragged import BothForms, both_forms

SIZES = (6, 0, 1, 9, 3)
KINDS = {"undirected": {}, "directed": {"directed": True}, "weighted": {"directed": True, "weighted": True}}


@pytest.fixture(params=KINDS)
def batch(request: pytest.FixtureRequest) -> BothForms:
    return both_forms(SIZES, **KINDS[request.param])


def assert_same(layer: nn.Module, batch: BothForms) -> None:
    """Values, gradients to features, weights of edges and parameters, and what the layer remembers."""
    other = copy.deepcopy(layer)
    x, adj, nodes, weights = (
        t.clone().requires_grad_() for t in (batch.x, batch.adj, batch.nodes, batch.adj)
    )
    dense = layer(x, adj, batch.mask)[batch.mask]
    ragged = other(nodes, RaggedGraph.from_dense(weights, batch.mask))
    torch.testing.assert_close(ragged, dense)
    torch.testing.assert_close(list(other.buffers()), list(layer.buffers()))
    torch.testing.assert_close(
        copy.deepcopy(layer).eval()(nodes, batch.graph), layer.eval()(x, adj, batch.mask)[batch.mask]
    )
    upstream = torch.randn(dense.shape, generator=torch.Generator().manual_seed(1), dtype=dense.dtype)
    for out in (dense, ragged):
        (out * upstream).sum().backward()
    assert x.grad is not None
    assert adj.grad is not None
    torch.testing.assert_close(nodes.grad, x.grad[batch.mask])
    torch.testing.assert_close(
        weights.grad, torch.where(batch.adj != 0, adj.grad, 0)
    )  # where there are entries
    torch.testing.assert_close([p.grad for p in other.parameters()], [p.grad for p in layer.parameters()])


@pytest.mark.parametrize("aggregation", ["mean", "sum"])
@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize(
    "channels", [(4, 9), (4, 1)]
)  # products with the adjacency before and after the weights
def test_conv(batch: BothForms, aggregation: str, root: bool, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    assert_same(SAGEConv(*channels, aggregation=aggregation, root=root).double(), batch)


@pytest.mark.parametrize("norm", ["batch", None])
@pytest.mark.parametrize("normalize", [True, False])
def test_stack(batch: BothForms, norm: str | None, normalize: bool) -> None:
    torch.manual_seed(0)
    assert_same(SAGEStack(4, 5, 3, norm=norm, normalize=normalize).double(), batch)


def test_adjacency_is_summed_before_or_after_the_weights_alike() -> None:
    """Whether the features need a gradient decides on the order of the products, not on the result."""
    torch.manual_seed(0)
    batch = both_forms(SIZES)
    conv = SAGEConv(4, 3).double()
    first, second = (conv(batch.nodes.requires_grad_(needed), batch.graph) for needed in (False, True))
    torch.testing.assert_close(first, second)


def test_weights_take_the_dtype_of_the_features() -> None:
    batch = both_forms(SIZES, weighted=True)
    assert SAGEConv(4, 5)(batch.nodes.float(), batch.graph).dtype == torch.float32


@pytest.mark.parametrize("kind", ["max", "mean", "sum"])
def test_readout(kind: str) -> None:
    batch = both_forms(SIZES)
    x = batch.x.round()  # some maxima are shared
    dense, ragged = x.clone().requires_grad_(), x[batch.mask].requires_grad_()
    expected, got = readout(dense, batch.mask, kind), readout(ragged, None, kind, graph=batch.graph)
    torch.testing.assert_close(got, expected)
    assert got[1].eq(0).all()  # the graph without nodes
    for out in (expected, got):
        out.pow(3).sum().backward()
    assert dense.grad is not None
    torch.testing.assert_close(ragged.grad, dense.grad[batch.mask])


def test_maximum_over_a_full_batch_shares_its_gradient_as_torch_does() -> None:
    x = torch.tensor([[[1.0, 2.0], [1.0, 3.0], [0.0, 3.0]]], dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    (readout(ours) ** 2).sum().backward()
    (theirs.amax(1) ** 2).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    y = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(readout, y)
    assert torch.autograd.gradgradcheck(readout, y)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_over_all_nodes(training: bool) -> None:
    batch = both_forms(SIZES)
    dense = MaskedBatchNorm(4).double().train(training)
    ragged = copy.deepcopy(dense)
    torch.testing.assert_close(ragged(batch.nodes), dense(batch.x, batch.mask)[batch.mask])
    torch.testing.assert_close(list(ragged.buffers()), list(dense.buffers()))


@pytest.mark.parametrize("nodes", [0, 1])
def test_batch_norm_of_a_node_and_of_none(nodes: int) -> None:
    dense = MaskedBatchNorm(2)
    ragged = copy.deepcopy(dense)
    x = torch.tensor([[3.0, 5.0]])[:nodes]
    assert torch.equal(ragged(x), dense(x[None])[0])
    assert all(torch.equal(a, b) for a, b in zip(ragged.buffers(), dense.buffers(), strict=True))
    assert ragged.running_var.isfinite().all()


def test_diff_pool(batch: BothForms) -> None:
    torch.manual_seed(0)
    dense = DiffPool(4, 3, temperature=0.7, assignment=SAGEStackTo(3)).double()
    ragged = copy.deepcopy(dense)
    x, nodes = batch.x.clone().requires_grad_(), batch.nodes.requires_grad_()
    outs = dense(x, batch.adj, mask=batch.mask), ragged(nodes, batch.graph)
    for name in ("x", "adj", "loss", "mask"):
        torch.testing.assert_close(getattr(outs[1], name), getattr(outs[0], name))
    assert outs[1].record is not None
    torch.testing.assert_close(outs[1].record.s, outs[0].record.s[batch.mask])
    for out in outs:
        (out.x.square().sum() + out.adj.square().sum() + sum(out.loss.values())).backward()
    assert x.grad is not None
    torch.testing.assert_close(nodes.grad, x.grad[batch.mask])
    torch.testing.assert_close([p.grad for p in ragged.parameters()], [p.grad for p in dense.parameters()])


class SAGEStackTo(SAGEStack):
    """A stack of one layer: an assignment of so many clusters."""

    def __init__(self, k: int) -> None:
        super().__init__(4, k, k, layers=1, normalize=False)


def test_logits_that_the_caller_has() -> None:
    batch = both_forms(SIZES)
    layer = DiffPool(4, 3).double()
    logits = layer.assignment(batch.nodes)
    got, expected = layer(batch.nodes, batch.graph, logits=logits), layer(batch.nodes, batch.graph)
    torch.testing.assert_close((got.x, got.adj, got.loss), (expected.x, expected.adj, expected.loss))


def _dense(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    raise AssertionError("was called with a ragged batch")


def test_bad_arguments_are_named() -> None:
    batch = both_forms(SIZES)
    x, graph = batch.nodes, batch.graph
    for call, message in (
        (
            lambda: SAGEConv(4, 3).double()(x[1:], graph),
            r"x must have shape \[19, features\].* got \[18, 4\]",
        ),
        (lambda: SAGEConv(4, 3).double()(x, graph, batch.mask), "mask must not be given with a ragged graph"),
        (lambda: readout(x, batch.mask, graph=graph), "mask must not be given with a ragged graph"),
        (lambda: readout(x[1:], graph=graph), r"x must have shape \[19, features\].* got \[18, 4\]"),
        (lambda: readout(x), r"x must have shape \[graphs, nodes, features\], got \[19, 4\]"),
        (lambda: SlotBatchNorm()(x), r"x must be a padded batch .* got \[19, 4\]"),
        (lambda: SAGEStack(4, 3, 2, norm="slot").double()(x, graph), "x must be a padded batch"),
        (lambda: DiffPool(4, 3, pool=_dense).double()(x, graph), "adj must be dense"),
        (
            lambda: DiffPool(4, 3).double()(x, graph, assign_x=x, logits=x[:, :3]),
            "at most one of so, assign_x and logits must be given, got assign_x and logits",
        ),
        (lambda: DiffPool(4, 3).double()(x, graph, logits=x), r"must return \[19, 3\].* returned \[19, 4\]"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
