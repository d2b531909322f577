"""TVGNN's layer: its formula, both forms of a batch, and tgp's layer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from hierpool.nn import GTVConv
from tests.support.ragged import both_forms
from tests.support.tgp import import_tgp

SIZES = (6, 1, 9, 4)


def make_layer(**options: object) -> GTVConv:
    torch.manual_seed(0)
    return GTVConv(4, 3, delta_coeff=0.4, **options).double()  # type: ignore[arg-type]


def written_out(layer: GTVConv, x: Tensor, adj: Tensor) -> Tensor:
    h = x @ layer.weight
    rows = []
    for i in range(len(x)):
        change = torch.zeros_like(h[0])
        for j in range(len(x)):
            distance = (h[i] - h[j]).abs().sum().clamp(min=layer.eps)
            change = change + adj[i, j] / distance * (h[i] - h[j])
        rows.append(h[i] - 0.4 * change + layer.bias)
    return torch.stack(rows).relu()


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_is_its_formula_in_both_forms(directed: bool, weighted: bool) -> None:
    batch = both_forms(SIZES, directed=directed, weighted=weighted)
    layer = make_layer()
    expected = torch.cat(
        [written_out(layer, batch.x[b, :n], batch.adj[b, :n, :n]) for b, n in enumerate(SIZES)]
    )
    ragged, dense = layer(batch.nodes, batch.graph), layer(batch.x, batch.adj, batch.mask)
    torch.testing.assert_close(ragged, expected)
    torch.testing.assert_close(dense[batch.mask], expected)
    assert not dense[~batch.mask].any()
    weights = torch.linspace(-1, 1, expected.numel(), dtype=torch.float64).view_as(expected)
    grads = [
        torch.autograd.grad((y * weights).sum(), list(layer.parameters()))
        for y in (expected, ragged, dense[batch.mask])
    ]
    torch.testing.assert_close(grads[1], grads[0])
    torch.testing.assert_close(grads[2], grads[0])


def test_is_that_of_tgp() -> None:
    theirs = import_tgp("tgp.mp").GTVConv(4, 3, delta_coeff=0.4).double()
    ours = make_layer()
    ours.load_state_dict(theirs.state_dict())
    batch = both_forms(SIZES, directed=True, weighted=True)
    graph = batch.graph
    edge_index, weight = graph.to_edge_index()
    torch.testing.assert_close(ours(batch.nodes, graph), theirs(batch.nodes, edge_index, weight))
    dense = theirs(batch.x, batch.adj)[batch.mask]
    torch.testing.assert_close(ours(batch.x, batch.adj, batch.mask)[batch.mask], dense)


@pytest.mark.parametrize("ragged", [False, True])
def test_compiles_in_one_graph(ragged: bool) -> None:
    batch = both_forms(SIZES)
    layer = make_layer()
    args = (batch.nodes, batch.graph) if ragged else (batch.x, batch.adj, batch.mask)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(*args), layer(*args))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_dtypes_are_finite(dtype: torch.dtype) -> None:
    batch = both_forms(SIZES)
    layer = make_layer(act="elu").to(dtype)
    for y in (layer(batch.nodes.to(dtype), batch.graph), layer(batch.x.to(dtype), batch.adj, batch.mask)):
        assert y.dtype is dtype
        assert y.isfinite().all()
        y.float().square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_padding_is_not_read() -> None:
    batch = both_forms(SIZES, weighted=True)
    layer = make_layer()
    both = batch.mask[:, :, None] & batch.mask[:, None, :]
    dirty_x = torch.where(batch.mask[..., None], batch.x, torch.nan)
    y = layer(dirty_x, torch.where(both, batch.adj, torch.nan), batch.mask)
    torch.testing.assert_close(y, layer(batch.x, batch.adj, batch.mask))


def test_options_and_bad_ones() -> None:
    plain = copy.deepcopy(make_layer(bias=False, act=None))
    assert plain.bias is None
    batch = both_forms(SIZES)
    assert (plain(batch.nodes, batch.graph) < 0).any()
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        GTVConv(4, 3, eps=0.0)
    with pytest.raises(ValueError, match="act must name a function"):
        GTVConv(4, 3, act="rellu")
