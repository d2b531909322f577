"""The plain PyTorch reference: its values against the definitions, its derivatives, and its closed backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hierpool import reference
from hierpool.reference.soft_pool_dense import DenseForward, Saved
from tests.support.cases import GRID, SMALL, Case, Inputs, find, over
from tests.support.oracle import Gradients, truth
from tests.support.running import assert_fields, assert_gradients

SEED = 11
FORWARD_FIELDS = 8  # m and symmetric follow


def forward(inputs: Inputs, temperature: Tensor | None = None) -> DenseForward:
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    if temperature is None and inputs.temperature != 1:
        temperature = torch.tensor(inputs.temperature, dtype=torch.float64)
    arguments = (inputs.s, inputs.x, adj, inputs.mask, inputs.num_nodes, temperature)
    return reference.soft_pool_dense(*arguments, given=inputs.given)


def weights(values: DenseForward, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [
        torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype) for t in values[:FORWARD_FIELDS]
    ]


def packed(values: DenseForward, inputs: Inputs) -> list[Tensor]:
    """As the operator returns them: without the dimension of edge types where there is none."""
    if inputs.adj.dim() == 4:
        return list(values[:FORWARD_FIELDS])
    adj, link_norm = values.adj[:, 0], values.link_norm[0]
    return list(values._replace(adj=adj, link_norm=link_norm)[:FORWARD_FIELDS])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@over(SEED, *GRID)
def test_autograd_of_the_reference_is_the_truth(case: Case, dtype: torch.dtype) -> None:
    inputs = case.make(SEED, dtype)
    leaves = inputs.leaves()
    values = forward(leaves)
    upstream = weights(values, SEED)
    grads = torch.autograd.grad(values[:FORWARD_FIELDS], leaves[:3], upstream)
    if inputs.adj.dim() == 3:
        upstream[2], upstream[7] = upstream[2][:, 0], upstream[7][0]
    exact = truth(inputs, values.s, upstream)
    assert_fields(packed(values, inputs), exact, inputs, None)
    assert_gradients(Gradients(*grads), exact, inputs, None)


@over(SEED, *GRID)
def test_closed_backward_is_autograd_of_the_forward(case: Case) -> None:
    inputs = case.make(SEED).leaves()
    values = forward(inputs)
    upstream = weights(values, SEED + 1)
    expected = torch.autograd.grad(values[:FORWARD_FIELDS], (inputs.s, inputs.x, inputs.adj), upstream)
    with torch.no_grad():
        got = backward(inputs, values, upstream)
    for name, one, other in zip(("s", "x", "adj"), got, expected, strict=True):
        assert one is not None
        # Two orders of the same float64 sums of up to 1100 terms of size about 10.
        torch.testing.assert_close(one.reshape(other.shape), other, rtol=1e-9, atol=1e-10, msg=label(name))


def label(name: str) -> Callable[[str], str]:
    return lambda text: f"gradient of {name}: {text}"


def backward(
    inputs: Inputs,
    values: DenseForward,
    upstream: Sequence[Tensor | None],
    needs: tuple[bool, bool, bool] = (True, True, True),
) -> tuple[Tensor | None, ...]:
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    temperature = torch.tensor(inputs.temperature, dtype=torch.float64) if inputs.temperature != 1 else None
    return reference.soft_pool_dense_backward(
        tuple(upstream),
        Saved(values.s, values.gram, values.link_norm, values.m, values.symmetric),
        inputs.x,
        adj,
        inputs.mask,
        inputs.num_nodes,
        temperature,
        given=inputs.given,
        mean=False,
        needs=needs,
    )


def test_closed_backward_computes_what_is_needed() -> None:
    inputs = find("directed").make(SEED)
    values = forward(inputs)
    upstream = weights(values, SEED)
    whole = backward(inputs, values, upstream)
    for wanted in range(3):
        needs = (wanted == 0, wanted == 1, wanted == 2)
        part = backward(inputs, values, upstream, needs)
        assert [grad is not None for grad in part] == list(needs)
        assert torch.equal(part[wanted], whole[wanted])  # type: ignore[arg-type]


def test_closed_backward_without_upstream_gradients_is_zero() -> None:
    inputs = find("directed").make(SEED)
    grads = backward(inputs, forward(inputs), [None] * FORWARD_FIELDS)
    assert all(grad is not None and not grad.any() for grad in grads)


TINY = Case("tiny", b=2, n=4, k=3, f=2, directed=True, weights="signed")
TINY_CASES = [
    TINY,
    replace(TINY, name="tiny-holes", valid="holes"),
    replace(TINY, name="tiny-types", r=2),
    replace(TINY, name="tiny-given", given=True),
]


@pytest.mark.parametrize(
    "check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck], ids=["first", "second"]
)
@over(SEED, *TINY_CASES)
def test_derivatives(case: Case, check: Callable[..., bool]) -> None:
    inputs = case.make(SEED).leaves()
    # Zeros of a given S are where the entropy has no second derivative; finite differences need positive entries.
    s = (inputs.s.detach() + 0.1).requires_grad_() if case.given else inputs.s
    temperature = None if case.given else torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, adj: Tensor, s: Tensor, temperature: Tensor | None) -> tuple[Tensor, ...]:
        return forward(inputs._replace(x=x, adj=adj, s=s), temperature)[:FORWARD_FIELDS]

    assert check(function, (inputs.x, inputs.adj, s, temperature))


@pytest.mark.parametrize("mean", [False, True])
@over(SEED, "mask", "three-types")
def test_mean_divides_the_totals(case: Case, mean: bool) -> None:
    inputs = case.make(SEED)
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    values = reference.soft_pool_dense(inputs.s, inputs.x, adj, inputs.mask, inputs.num_nodes, mean=mean)
    rows = case.b * case.n if mean else 1
    channels = adj.size(1)
    link_sq = values.scalars[:, 2 + 3 * channels :].sum(0)
    torch.testing.assert_close(values.total_entropy * rows, values.scalars[:, 1].sum())
    torch.testing.assert_close(values.link_norm * rows * (case.n if mean else 1), link_sq.sqrt())


@over(SEED, *SMALL)
def test_symmetry_is_found(case: Case) -> None:
    inputs = case.make(SEED)
    both = inputs.valid[:, None, :] & inputs.valid[..., None]
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    selected = torch.where(both[:, None], adj, 0)
    assert torch.equal(forward(inputs).symmetric, (selected == selected.mT).flatten(2).all(-1))
