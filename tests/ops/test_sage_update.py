"""The update step of GraphSAGE layers: values and gradients of both orders against the composite's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import backends
from hierpool.backends.native import _library
from hierpool.ops.sage_update import OPERATOR, Call, Options, sage_update


def composite(*args: Any) -> tuple[Tensor, ...]:
    *tensors, widths, normalize, relu = args
    y = OPERATOR.composite(Call(*tensors, Options(widths, normalize, relu, "auto"))).y
    return y.split(widths, -1)


def arguments(
    *, shape: tuple[int, ...] = (7,), relation: bool = True, root: bool = True, bias: bool = True, **last: Any
) -> tuple[Any, ...]:
    """Arguments of ``sage_update``: three features in, parts of four and two columns out."""
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
def test_values_and_gradients(variant: dict[str, Any]) -> None:
    args = arguments(**variant)
    leaves = [arg for arg in args if isinstance(arg, Tensor)]
    got, expected = sage_update(*args), composite(*args)
    torch.testing.assert_close(got, expected)
    upstream = [torch.randn_like(part) for part in got]
    assert torch.autograd.gradcheck(lambda *_: sage_update(*args), leaves)
    second = [torch.autograd.grad(y, leaves, upstream, create_graph=True) for y in (got, expected)]
    torch.testing.assert_close(*second)
    turned = [
        torch.autograd.grad(
            sum(g.square().sum() for g in grads), leaves, allow_unused=True, materialize_grads=True
        )
        for grads in second
    ]
    torch.testing.assert_close(*turned)


def test_skips_gradients_that_nobody_needs() -> None:
    args = arguments()
    expected = torch.autograd.grad(sum(y.sum() for y in composite(*args)), args[2])
    frozen = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
    frozen[2].requires_grad_()
    got = torch.autograd.grad(sum(y.sum() for y in sage_update(*frozen)), frozen[2])
    torch.testing.assert_close(got, expected)


def test_rows_of_no_length() -> None:
    """A row of zeros stays one, and has the gradient that torch gives it."""
    x = torch.tensor([[0.0, 0.0], [3.0, -4.0]], dtype=torch.float64)
    weight = torch.eye(2, dtype=torch.float64)
    results = []
    for function in (sage_update, composite):
        leaf = x.clone().requires_grad_()
        (y,) = function(leaf, None, weight, None, None, (2,), True, False)
        (y * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
        results.append((y, leaf.grad))
    torch.testing.assert_close(results[0][0], torch.tensor([[0, 0], [0.6, -0.8]], dtype=torch.float64))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.skipif(_library.unavailable_reason() is not None, reason="the native backend was not built")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("relu", [True, False])
def test_native_rows_are_as_exact_as_the_reference(dtype: torch.dtype, relu: bool) -> None:
    """At most twice the error of plain torch in the same dtype, against float64; rows of no length among them."""
    native, plain = (backends.module("sage_update", "cpu", name) for name in ("native", "reference"))
    generator = torch.Generator().manual_seed(0)
    rows_in = torch.randn(300, 70, generator=generator).to(dtype)
    if dtype != torch.float16:  # which does not hold their gradient
        rows_in[3:5] *= torch.tensor([[0.0], [1e-14]], dtype=dtype)
    upstream = torch.randn(37, 300, generator=generator).to(dtype).t()

    def results(backend: Any, dtype: torch.dtype) -> list[Tensor]:
        rows, dh = rows_in.to(dtype, copy=True), torch.zeros(rows_in.shape, dtype=dtype)
        out, length = backend.unit_rows(rows[:, 3:40], relu)
        backend.unit_rows_backward(upstream.to(dtype), rows[:, 3:40], length, relu, dh[:, 3:40])
        return [t.double() for t in (rows, out, length, dh * length.to(dtype))]

    truth = results(plain, torch.float64)
    for got, other, exact in zip(results(native, dtype), results(plain, dtype), truth, strict=True):
        allowed = 2 * (other - exact).abs().max() + 4 * torch.finfo(dtype).eps * exact.abs().max()
        assert (got - exact).abs().max() <= allowed


def test_transforms_and_autocast_take_the_composite() -> None:
    args = arguments()
    leaves = tuple(arg for arg in args if isinstance(arg, Tensor))

    def total(*leaves: Tensor) -> Tensor:
        return sum(y.sum() for y in sage_update(*leaves, *args[5:]))

    torch.testing.assert_close(
        torch.func.grad(total)(*leaves), torch.autograd.grad(total(*leaves), leaves[0])[0]
    )
    _, along = torch.func.jvp(total, leaves, tuple(torch.ones_like(leaf) for leaf in leaves))
    assert along.isfinite()
    single = [leaf.detach().float() for leaf in leaves]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = sage_update(*single, *args[5:])
    assert parts[0].dtype == torch.bfloat16
