"""The plain PyTorch reference of ragged batches: its values, its derivatives, and its closed backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hierpool import reference
from hierpool.reference.soft_pool_csr import CsrForward
from tests.support.cases import Case, over
from tests.support.oracle import Gradients, truth
from tests.support.running import assert_fields, assert_gradients
from tests.support.sparse import RAGGED_GRID, Ragged, RaggedCase, ragged

SEED = 11
FORWARD_FIELDS = 8  # m follows


def forward(inputs: Ragged, temperature: Tensor | None = None, mean: bool = False) -> CsrForward:
    """Of inputs whose nodes are in the order of the matrix."""
    if temperature is None and inputs.temperature != 1:
        temperature = torch.tensor(inputs.temperature, dtype=torch.float64)
    graph = inputs.graph
    structure = (graph.rowptr, graph.col, graph.ptr)
    return reference.soft_pool_csr(
        inputs.s, inputs.x, inputs.adj, *structure, temperature, given=inputs.given, mean=mean
    )


def weights(values: CsrForward, seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [
        torch.randn(t.shape, generator=draw, dtype=torch.float64).to(t.dtype) for t in values[:FORWARD_FIELDS]
    ]


def autograd(inputs: Ragged, values: CsrForward, upstream: list[Tensor]) -> Gradients:
    """Gradients to x, the entries and s; of size 0 where there are no weights."""
    leaves = [t for t in inputs[:3] if t is not None]
    grads = list(torch.autograd.grad(values[:FORWARD_FIELDS], leaves, upstream))
    if inputs.adj is None:
        grads.insert(1, torch.zeros(0))
    return Gradients(*grads)


def sorted_cases() -> list[RaggedCase]:
    return [case for case in RAGGED_GRID if not case.shuffled]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@over(SEED, *sorted_cases())
def test_autograd_of_the_reference_is_the_truth(case: RaggedCase, dtype: torch.dtype) -> None:
    inputs = case.make(SEED, dtype)
    leaves = inputs.leaves()
    values = forward(leaves)
    upstream = weights(values, SEED)
    exact = truth(inputs, values.s, upstream)
    assert_fields(values[:FORWARD_FIELDS], exact, inputs, None)
    assert_gradients(autograd(leaves, values, upstream), exact, inputs, None)


@over(SEED, *sorted_cases())
def test_closed_backward_is_autograd_of_the_forward(case: RaggedCase) -> None:
    inputs = case.make(SEED).leaves()
    values = forward(inputs)
    upstream = weights(values, SEED + 1)
    expected = autograd(inputs, values, upstream)
    with torch.no_grad():
        got = backward(inputs, values, upstream)
    for name, one, other in zip(("s", "x", "adj"), got, (expected.s, expected.x, expected.adj), strict=True):
        if one is None:
            assert name == "adj"
            assert inputs.adj is None
            continue
        # Two orders of the same float64 sums of up to 1100 terms of size about 10.
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10, msg=f"gradient of {name}: ".__add__)


def backward(
    inputs: Ragged,
    values: CsrForward,
    upstream: Sequence[Tensor | None],
    needs: tuple[bool, bool, bool] = (True, True, True),
    mean: bool = False,
) -> tuple[Tensor | None, ...]:
    temperature = torch.tensor(inputs.temperature, dtype=torch.float64) if inputs.temperature != 1 else None
    graph = inputs.graph
    return reference.soft_pool_csr_backward(
        tuple(upstream),
        values.s,
        values.gram,
        values.link_norm,
        values.m,
        inputs.x,
        inputs.adj,
        graph.rowptr,
        graph.col,
        graph.ptr,
        temperature,
        given=inputs.given,
        mean=mean,
        needs=needs,
    )


@over(SEED, *ragged("directed", "middle-empty"))
def test_closed_backward_computes_what_is_needed(case: RaggedCase) -> None:
    inputs = case.make(SEED)
    values = forward(inputs)
    upstream = weights(values, SEED)
    whole = backward(inputs, values, upstream)
    for wanted in range(3):
        needs = (wanted == 0, wanted == 1, wanted == 2)
        part = backward(inputs, values, upstream, needs)
        assert [grad is not None for grad in part] == list(needs)
        assert torch.equal(part[wanted], whole[wanted])  # type: ignore[arg-type]


def test_closed_backward_without_upstream_gradients_is_zero() -> None:
    (case,) = ragged("directed")
    inputs = case.make(SEED)
    grads = backward(inputs, forward(inputs), [None] * FORWARD_FIELDS)
    assert all(grad is not None and not grad.any() for grad in grads)


TINY = Case("tiny", b=2, n=4, k=3, f=2, directed=True, weights="signed")
TINY_CASES = [
    RaggedCase(TINY),
    RaggedCase(replace(TINY, name="tiny-holes", valid="holes")),
    RaggedCase(replace(TINY, name="tiny-empty", b=3, valid="num_nodes", sizes=(0, 4, 3), edgeless=2)),
    RaggedCase(replace(TINY, name="tiny-given", given=True)),
]


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(
    "check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck], ids=["first", "second"]
)
@over(SEED, *TINY_CASES)
def test_derivatives(case: RaggedCase, check: Callable[..., bool], mean: bool) -> None:
    inputs = case.make(SEED).leaves()
    # Zeros of a given S are where the entropy has no second derivative; finite differences need positive entries.
    s = (inputs.s.detach() + 0.1).requires_grad_() if inputs.given else inputs.s
    temperature = None if inputs.given else torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, adj: Tensor, s: Tensor, temperature: Tensor | None) -> tuple[Tensor, ...]:
        return forward(inputs._replace(x=x, adj=adj, s=s), temperature, mean)[:FORWARD_FIELDS]

    assert check(function, (inputs.x, inputs.adj, s, temperature))


@over(SEED, *ragged("mask", "tails", "no-graphs", "all-empty", "many"))
def test_mean_divides_the_totals_by_what_a_padded_batch_does(case: RaggedCase) -> None:
    inputs = case.make(SEED)
    plain, divided = forward(inputs), forward(inputs, mean=True)
    sizes = inputs.graph.ptr.diff().tolist()
    largest = max([1, *sizes])
    rows = max(len(sizes), 1) * largest
    torch.testing.assert_close(divided.total_entropy * rows, plain.total_entropy)
    torch.testing.assert_close(divided.link_norm * rows * largest, plain.link_norm)
    for one, other in zip(plain[:6], divided[:6], strict=True):
        assert torch.equal(one, other)
    upstream = [None] * 6 + [torch.tensor(0.7).double(), torch.tensor(-1.3).double()]
    of_plain = [None] * 6 + [upstream[6] / rows, upstream[7] / (rows * largest)]
    got, expected = backward(inputs, divided, upstream, mean=True), backward(inputs, plain, of_plain)
    torch.testing.assert_close(got, expected)
