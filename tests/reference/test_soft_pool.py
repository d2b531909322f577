"""Soft pooling in plain PyTorch: what operators do not show. Its values and gradients are in the tests of operators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import reference
from tests.support.cases import SMALL, Case, Inputs, Recipe, over
from tests.support.sparse import Ragged, RaggedCase, ragged

SEED = 11
FORWARD_FIELDS = 8  # m, and of dense adjacencies symmetric, follow


def forward(inputs: Inputs | Ragged, temperature: Tensor | None = None, mean: bool = False) -> Any:
    """Of inputs whose nodes are in the order of the matrix."""
    options = {"given": inputs.given, "mean": mean}
    if isinstance(inputs, Ragged):
        graph = inputs.graph
        structure = (graph.rowptr, graph.col, graph.ptr)
        return reference.soft_pool_csr(inputs.s, inputs.x, inputs.adj, *structure, temperature, **options)
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    rows = (inputs.mask, inputs.num_nodes)
    return reference.soft_pool_dense(inputs.s, inputs.x, adj, *rows, temperature, **options)


# Every graph has edges: |A| has no derivative at 0.
TINY = Case("tiny", b=2, n=4, k=3, f=2, density=1, directed=True, weights="signed")
TINY_CASES = [
    TINY,
    replace(TINY, name="tiny-holes", valid="holes"),
    replace(TINY, name="tiny-types", r=2),
    replace(TINY, name="tiny-given", given=True),
    RaggedCase(TINY),
    RaggedCase(replace(TINY, name="tiny-empty", b=3, valid="num_nodes", sizes=(0, 4, 3), edgeless=2)),
    RaggedCase(replace(TINY, name="tiny-given", given=True)),
]


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    "check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck], ids=["first", "second"]
)
@over(SEED, *TINY_CASES)
def test_derivatives(case: Recipe, check: Callable[..., bool], mean: bool) -> None:
    inputs = case.make(SEED).leaves()
    # Zeros of a given S are where the entropy has no second derivative; finite differences need positive entries.
    s = (inputs.s.detach() + 0.1).requires_grad_() if inputs.given else inputs.s
    temperature = None if inputs.given else torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, adj: Tensor, s: Tensor, temperature: Tensor | None) -> tuple[Tensor, ...]:
        return tuple(forward(inputs._replace(x=x, adj=adj, s=s), temperature, mean)[:FORWARD_FIELDS])

    assert check(function, (inputs.x, inputs.adj, s, temperature), fast_mode=True)


@over(SEED, "mask", "three-types", *ragged("mask", "tails", "no-graphs", "all-empty", "many"))
def test_mean_divides_the_totals_by_what_a_padded_batch_does(case: Recipe) -> None:
    inputs = case.make(SEED).leaves()
    plain, divided = forward(inputs), forward(inputs, mean=True)
    graphs, largest = inputs.s.shape[:2]
    if isinstance(inputs, Ragged):
        sizes = inputs.graph.ptr.diff().tolist()
        graphs, largest = max(len(sizes), 1), max([1, *sizes])
    rows = graphs * largest
    torch.testing.assert_close(divided.total_entropy * rows, plain.total_entropy)
    torch.testing.assert_close(divided.link_norm * rows * largest, plain.link_norm)
    assert all(torch.equal(one, other) for one, other in zip(plain[:6], divided[:6], strict=True))
    weights = [0.7, torch.linspace(-1.3, 1, divided.link_norm.numel()).double().view(divided.link_norm.shape)]
    leaves = [t for t in inputs[:3] if t is not None]
    got, expected = (
        torch.autograd.grad(
            sum((v * w).sum() for v, w in zip(values, weights, strict=True)),
            leaves,
            allow_unused=True,
            materialize_grads=True,
        )
        for values in (divided[6:8], (plain.total_entropy / rows, plain.link_norm / (rows * largest)))
    )
    torch.testing.assert_close(got, expected)


@over(SEED, *SMALL)
def test_symmetry_is_found(case: Case) -> None:
    inputs = case.make(SEED)
    both = inputs.valid[:, None, :] & inputs.valid[..., None]
    adj = inputs.adj if inputs.adj.dim() == 4 else inputs.adj[:, None]
    selected = torch.where(both[:, None], adj, 0)
    assert torch.equal(forward(inputs).symmetric, (selected == selected.mT).flatten(2).all(-1))
