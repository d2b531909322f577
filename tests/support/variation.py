"""The total variation of an assignment over a padded batch: its truth in float64, and the comparison with it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import hierpool
from hierpool.ops.total_variation import TotalVariation
from tests.support.link import LinkInputs
from tests.support.oracle import assert_error, eps_of, max_error


class Values(NamedTuple):
    """Outputs and gradients; a gradient of no element where the dtype has none."""

    variation: Tensor
    entries: Tensor
    s: Tensor
    adj: Tensor


def call(inputs: LinkInputs, backend: str = "auto") -> TotalVariation:
    """The operator."""
    return hierpool.total_variation(
        inputs.s, inputs.adj, mask=inputs.mask, num_nodes=inputs.num_nodes, backend=backend
    )


def weights_of(inputs: LinkInputs, dtype: torch.dtype) -> Tensor:
    """A gradient of the variation of each graph: of either sign, and of different sizes."""
    graphs = torch.arange(inputs.s.size(0), dtype=torch.float64)
    return (0.5 - graphs.remainder(3) * 0.75).to(dtype)


def padded_values(inputs: LinkInputs, backend: str) -> Values:
    """Of the padded batch."""
    leaves = inputs.leaves()
    out = call(leaves, backend)
    needed = [t for t in leaves[:2] if t.requires_grad]
    grads = torch.autograd.grad(out.variation, needed, weights_of(inputs, out.variation.dtype))
    return Values(out[0].detach(), out[1], grads[0], grads[1] if len(grads) > 1 else torch.zeros(0))


def ragged_values(inputs: LinkInputs, backend: str) -> Values:
    """Of the ragged batch, laid out as those of the padded one; 0 at entries that are not stored."""
    s, graph = inputs.ragged()
    assert graph.value is not None
    s, value = s.detach().requires_grad_(), graph.value.detach().requires_grad_()
    graph = graph.with_value(value, symmetric=graph.is_symmetric)
    out = hierpool.total_variation(s, graph, backend=backend)
    ds, dvalue = torch.autograd.grad(out.variation, (s, value), weights_of(inputs, out.variation.dtype))
    grad_s = torch.zeros(inputs.s.shape, dtype=ds.dtype)
    grad_s[inputs.valid] = ds
    b, i = inputs.valid.nonzero(as_tuple=True)
    grad_adj = torch.zeros(inputs.adj.shape, dtype=dvalue.dtype)
    row, col = graph.row.long(), graph.col.long()
    grad_adj[b[row], i[row], i[col]] = dvalue
    return Values(out[0].detach(), out[1], grad_s, grad_adj)


def truth(inputs: LinkInputs) -> tuple[Values, Values]:
    """Values in float64 from the definition, one graph and its valid nodes at a time, and their majorants."""
    s, adj = inputs.s.detach().double(), inputs.adj.detach().double()
    variation, scale, entries = torch.zeros(3, s.size(0), dtype=torch.float64).unbind(0)
    ds, ds_scale, da = (
        torch.zeros(s.shape).double(),
        torch.zeros(s.shape).double(),
        torch.zeros(adj.shape).double(),
    )
    for b, weight in enumerate(weights_of(inputs, torch.float64)):
        rows = inputs.valid[b].nonzero().flatten()
        apart = s[b, rows][:, None] - s[b, rows][None]  # [n, n, K]
        a, distance = adj[b][rows][:, rows], apart.abs().sum(2)
        variation[b], scale[b] = (a * distance).sum(), (a.abs() * distance).sum()
        entries[b] = (a != 0).sum()
        ds[b, rows] = weight * ((a + a.T)[..., None] * apart.sign()).sum(1)
        ds_scale[b, rows] = weight.abs() * ((a.abs() + a.abs().T)[..., None] * apart.sign().abs()).sum(1)
        da[b, rows[:, None], rows] = weight * distance
    return Values(variation, entries, ds, da), Values(scale, entries, ds_scale, da.abs())


def assert_values(got: Values, inputs: LinkInputs, plain: Values | None, stored: bool = False) -> None:
    """Under the error rule of :func:`tests.support.oracle.assert_error`; ``plain`` are the values by plain torch,
    which are held to it, too. ``stored``: the gradient to A is that of entries that are not 0 alone."""
    exact, scales = truth(inputs)
    if stored:
        exact = exact._replace(adj=torch.where(inputs.adj != 0, exact.adj, 0))
    acc = torch.float64 if torch.float64 in (inputs.s.dtype, inputs.adj.dtype) else torch.float32
    assert torch.equal(got.entries.double(), exact.entries)
    dtypes = {"variation": acc, "entries": acc, "s": inputs.s.dtype, "adj": inputs.adj.dtype}
    for values, baselines in ((got, plain), (plain, None)):
        for name, value, true, scale in zip(Values._fields, values or (), exact, scales, strict=False):
            dtype = dtypes[name]
            if not dtype.is_floating_point:
                continue
            assert value.dtype == dtype, name
            baseline = 0.0 if baselines is None else max_error(getattr(baselines, name), true)
            assert_error(name, value, true, scale, eps_of(acc, dtype), max(inputs.s.shape[1:]), baseline)


def check(inputs: LinkInputs, backend: str) -> None:
    """Values and gradients of one padded batch against the truth."""
    plain = None if backend == "reference" else padded_values(inputs, "reference")
    assert_values(padded_values(inputs, backend), inputs, plain)


def check_ragged(inputs: LinkInputs, backend: str) -> None:
    """Of the same graphs as a ragged batch."""
    plain = None if backend == "reference" else ragged_values(inputs, "reference")
    assert_values(ragged_values(inputs, backend), inputs, plain, stored=True)
