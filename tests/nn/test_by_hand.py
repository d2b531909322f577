"""Gradients written out against torch's, of the first and the second order, and what takes the composition instead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import _native, backends
from hierpool.nn import by_hand


def arguments(
    *, shape: tuple[int, ...] = (7,), relation: bool = True, root: bool = True, bias: bool = True, **last: Any
) -> tuple[Any, ...]:
    """Arguments of ``combine``: three features in, parts of four and two columns out."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True)

    options = {"widths": (4, 2), "normalize": True, "relu": True} | last
    return (
        draw(*shape, 3 if relation else 6),
        draw(*shape, 3) if root else None,
        draw(6, 3) if relation else None,
        draw(6, 3) if root else None,
        draw(6) if bias else None,
        *options.values(),
    )


VARIANTS: list[dict[str, Any]] = [
    {},
    {"shape": (2, 3)},
    {"root": False},
    {"relation": False},
    {"relation": False, "root": False},
    {"relation": False, "root": False, "bias": False},
    {"bias": False},
    {"normalize": False},
    {"relu": False},
    {"normalize": False, "relu": False},
    {"widths": (6,)},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_combine(variant: dict[str, Any]) -> None:
    args = arguments(**variant)
    leaves = [arg for arg in args if isinstance(arg, Tensor)]
    got, expected = by_hand.combine(*args), by_hand._combine_plain(*args)
    torch.testing.assert_close(got, expected)
    upstream = [torch.randn_like(part) for part in got]
    assert torch.autograd.gradcheck(lambda *_: by_hand.combine(*args), leaves)
    second = [torch.autograd.grad(y, leaves, upstream, create_graph=True) for y in (got, expected)]
    torch.testing.assert_close(*second)
    turned = [
        torch.autograd.grad(
            sum(g.square().sum() for g in grads), leaves, allow_unused=True, materialize_grads=True
        )
        for grads in second
    ]
    torch.testing.assert_close(*turned)


def test_combine_skips_gradients_that_nobody_needs() -> None:
    args = arguments()
    expected = torch.autograd.grad(sum(y.sum() for y in by_hand._combine_plain(*args)), args[2])
    frozen = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
    frozen[2].requires_grad_()
    got = torch.autograd.grad(sum(y.sum() for y in by_hand.combine(*frozen)), frozen[2])
    torch.testing.assert_close(got, expected)


def test_rows_of_no_length() -> None:
    """A row of zeros stays one, and has the gradient that torch gives it."""
    x = torch.tensor([[0.0, 0.0], [3.0, -4.0]], dtype=torch.float64)
    weight = torch.eye(2, dtype=torch.float64)
    results = []
    for function in (by_hand.combine, by_hand._combine_plain):
        leaf = x.clone().requires_grad_()
        (y,) = function(leaf, None, weight, None, None, (2,), True, False)
        (y * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
        results.append((y, leaf.grad))
    torch.testing.assert_close(results[0][0], torch.tensor([[0, 0], [0.6, -0.8]], dtype=torch.float64))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.skipif(_native.unavailable_reason() is not None, reason="the native backend was not built")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("relu", [True, False])
def test_native_rows_are_as_exact_as_the_reference(dtype: torch.dtype, relu: bool) -> None:
    """At most twice the error of plain torch in the same dtype, against float64; rows of no length among them."""
    native, plain = (
        backends.select("unit_rows", "cpu", name).filler("unit_rows") for name in ("native", "reference")
    )
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(300, 70, generator=generator).to(dtype)
    if dtype != torch.float16:  # which does not hold their gradient
        wide[3:5] *= torch.tensor([[0.0], [1e-14]], dtype=dtype)
    upstream = torch.randn(37, 300, generator=generator).to(dtype).t()

    def results(filler: Any, dtype: torch.dtype) -> list[Tensor]:
        rows, dh = wide.to(dtype, copy=True), torch.zeros(wide.shape, dtype=dtype)
        out, length = filler.forward(rows[:, 3:40], relu)
        filler.backward(upstream.to(dtype), rows[:, 3:40], length, relu, dh[:, 3:40])
        return [t.double() for t in (rows, out, length, dh * length.to(dtype))]

    truth = results(plain, torch.float64)
    for got, other, exact in zip(results(native, dtype), results(plain, dtype), truth, strict=True):
        allowed = 2 * (other - exact).abs().max() + 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= allowed


def test_transforms_and_autocast_take_the_composition() -> None:
    args = arguments()
    leaves = tuple(arg for arg in args if isinstance(arg, Tensor))

    def total(*leaves: Tensor) -> Tensor:
        return sum(y.sum() for y in by_hand.combine(*leaves, *args[5:]))

    torch.testing.assert_close(
        torch.func.grad(total)(*leaves), torch.autograd.grad(total(*leaves), leaves[0])[0]
    )
    _, along = torch.func.jvp(total, leaves, tuple(torch.ones_like(leaf) for leaf in leaves))
    assert along.isfinite()
    single = [leaf.detach().float() for leaf in leaves]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = by_hand.combine(*single, *args[5:])
    assert parts[0].dtype == torch.bfloat16


def test_segment_max() -> None:
    group = torch.tensor([0, 0, 2, 2, 2])
    x = torch.tensor([[1.0, 2], [1, 3], [4, -1], [4, -1], [0, -1]], dtype=torch.float64, requires_grad=True)
    outs = by_hand.segment_max(x, group, 3), by_hand._segment_max_plain(x, group, 3)
    assert torch.equal(outs[0], torch.tensor([[1, 3], [-torch.inf] * 2, [4, -1]], dtype=torch.float64))
    upstream = torch.tensor([[1.0, 2], [0, 0], [5, 6]], dtype=torch.float64)
    first, second = (torch.autograd.grad(out, x, upstream)[0] for out in outs)
    torch.testing.assert_close(first, second)
    assert first.tolist() == [[0.5, 0], [0.5, 2], [2.5, 2], [2.5, 2], [0, 2]]


def test_second_derivative_of_segment_max() -> None:
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    group = torch.tensor([0, 0, 1, 1, 1, 1])
    assert torch.autograd.gradgradcheck(lambda x: by_hand.segment_max(x, group, 2), x)
