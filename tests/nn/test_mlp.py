"""Perceptrons, and linear maps as one on the valid rows."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool import backends
from hierpool.backends.native import _library
from hierpool.nn.mlp import MLP
from hierpool.ops.linear_maps import OPERATOR, Call, Leaves, Options, Upstream, linear_maps

DEPTHS = ((4, 3), (4, 6, 3), (4, 6, 5, 3))


def make_maps(channels: tuple[int, ...], dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(0)
    sizes = list(zip(channels[1:], channels[:-1], strict=True))
    return [
        (
            torch.randn(shape, generator=draw, dtype=dtype).requires_grad_(),
            torch.randn(shape[0], generator=draw, dtype=dtype).requires_grad_(),
        )
        for shape in sizes
    ]


def make_x(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()


def make_mask(kind: str) -> Tensor | None:
    if kind == "none":
        return None
    mask = torch.arange(5) < torch.tensor([[3], [0], [5]])
    if kind == "holes":
        mask[2, 1] = False
    return mask & (kind != "empty")


def one_by_one(x: Tensor, maps: list[tuple[Tensor, Tensor]], mask: Tensor | None) -> Tensor:
    for weight, bias in maps:
        x = F.linear(x, weight, bias)
    return x if mask is None else torch.where(mask[..., None], x, 0)


def leaves(x: Tensor, maps: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    return [x, *(tensor for one in maps for tensor in one)]


@pytest.mark.parametrize("kind", ["none", "prefix", "holes", "empty"])
@pytest.mark.parametrize("channels", DEPTHS)
def test_equal_the_maps_one_by_one(channels: tuple[int, ...], kind: str) -> None:
    maps, x, mask = make_maps(channels), make_x(3, 5, 4), make_mask(kind)
    got, expected = linear_maps(x, maps, mask), one_by_one(x, maps, mask)
    torch.testing.assert_close(got, expected)
    upstream = make_x(3, 5, 3).detach()
    for ours, theirs in zip(
        torch.autograd.grad(got, leaves(x, maps), upstream),
        torch.autograd.grad(expected, leaves(x, maps), upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("kind", ["none", "holes"])
def test_gradients_against_differences(kind: str) -> None:
    maps, x, mask = make_maps((4, 6, 3)), make_x(3, 5, 4), make_mask(kind)

    def y(x: Tensor, *tensors: Tensor) -> Tensor:
        return linear_maps(x, list(zip(tensors[::2], tensors[1::2], strict=True)), mask)

    assert torch.autograd.gradcheck(y, tuple(leaves(x, maps)))


@pytest.mark.parametrize("wanted", ["x", "weights"])
def test_gradients_of_some_inputs_alone(wanted: str) -> None:
    maps, x, mask = make_maps((4, 6, 3)), make_x(3, 5, 4), make_mask("prefix")
    both = leaves(x, maps)
    upstream = make_x(3, 5, 3).detach()
    expected = torch.autograd.grad(linear_maps(x, maps, mask), both, upstream)
    frozen = both[1:] if wanted == "x" else both[:1]
    for tensor in frozen:
        tensor.requires_grad_(False)
    chosen = [(leaf, grad) for leaf, grad in zip(both, expected, strict=True) if leaf.requires_grad]
    got = torch.autograd.grad(linear_maps(x, maps, mask), [leaf for leaf, _ in chosen], upstream)
    for ours, (_, theirs) in zip(got, chosen, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("act", [None, "relu"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_padding_reaches_nothing(bad: float, act: str | None) -> None:
    torch.manual_seed(0)
    net, mask = MLP([4, 6, 3], act).double(), make_mask("holes")
    assert mask is not None
    results = []
    for filling in (0.0, bad):
        x = torch.where(mask[..., None], make_x(3, 5, 4).detach(), filling).requires_grad_()
        y = net(x, mask=mask)
        results.append((y[mask], *torch.autograd.grad(y[mask].square().sum(), [x, *net.parameters()])))
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


def test_rows_of_one_graph_and_rows_apart_in_memory() -> None:
    maps, mask = make_maps((4, 6, 3)), make_mask("holes")
    assert mask is not None
    wide = make_x(3, 5, 8).detach()[..., ::2].requires_grad_()
    torch.testing.assert_close(linear_maps(wide, maps, mask), one_by_one(wide, maps, mask))
    torch.testing.assert_close(linear_maps(wide[2], maps, mask[2]), one_by_one(wide[2], maps, mask[2]))
    (grad,) = torch.autograd.grad(linear_maps(wide, maps, mask).sum(), wide)  # of a gradient without strides
    (expected,) = torch.autograd.grad(one_by_one(wide, maps, mask).sum(), wide)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_error_is_that_of_the_maps_one_by_one(dtype: torch.dtype) -> None:
    maps, x, mask = make_maps((64, 48, 10), dtype), make_x(3, 5, 64, dtype=dtype), make_mask("prefix")
    wide = [(weight.double(), bias.double()) for weight, bias in maps]
    exact = one_by_one(x.double(), wide, mask)
    errors = [
        (y.double() - exact).abs().max() for y in (linear_maps(x, maps, mask), one_by_one(x, maps, mask))
    ]
    assert errors[0] <= 2 * errors[1]


def test_compiled_and_transformed_calls_see_plain_operators() -> None:
    maps, x, mask = make_maps((4, 6, 3)), make_x(3, 5, 4), make_mask("holes")
    assert mask is not None
    expected = one_by_one(x, maps, mask)
    compiled = torch.compile(lambda x: linear_maps(x, maps, mask), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    mapped = torch.func.vmap(lambda x, mask: linear_maps(x, maps, mask))(x.detach(), mask)
    torch.testing.assert_close(mapped, expected)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear_maps(x.detach().float(), make_maps((4, 6, 3), torch.float32), mask)
    assert y.dtype is torch.bfloat16


def test_what_is_between_two_maps_is_seen_by_a_hook() -> None:
    net, x = MLP([4, 6, 3]).double(), make_x(3, 5, 4)
    assert net.as_maps() is not None
    seen: list[Tensor] = []
    handle = net.lins[0].register_forward_hook(lambda layer, inputs, y: seen.append(y))
    hooked = net(x)
    handle.remove()
    assert seen[0].shape == (3, 5, 6)
    torch.testing.assert_close(net(x), hooked)


def test_an_activation_may_come_later() -> None:
    net, x = MLP([4, 6, 3]).double(), make_x(3, 5, 4)
    net.act = F.relu
    assert net.as_maps() is None
    first, second = net.lins
    torch.testing.assert_close(net(x), second(first(x).relu()))


def test_a_layer_without_a_bias_is_called() -> None:
    net, x = MLP([4, 6, 3]).double(), make_x(3, 5, 4)
    net.lins[0] = nn.Linear(4, 6, bias=False).double()
    assert net.as_maps() is None
    first, second = net.lins
    torch.testing.assert_close(net(x), second(first(x)))


def test_a_replica_without_parameters_is_called() -> None:
    net, x = MLP([4, 6, 3]).double(), make_x(3, 5, 4)
    expected = net(x)
    for lin in net.lins:
        weight, bias = lin.weight.detach(), lin.bias.detach()
        del lin.weight, lin.bias
        lin.weight, lin.bias = weight, bias
    assert net.as_maps() is None
    torch.testing.assert_close(net(x), expected)


class Doubled(nn.Linear):
    """A map with something of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def test_a_layer_with_a_forward_of_its_own_is_called() -> None:
    net, x = MLP([4, 3]).double(), make_x(2, 4)
    expected = 2 * net(x)
    layer = Doubled(4, 3).double()
    layer.load_state_dict(net.lins[0].state_dict())
    net.lins[0] = layer
    torch.testing.assert_close(net(x), expected)


@pytest.mark.skipif(_library.unavailable_reason() is not None, reason="the native backend was not built")
@pytest.mark.parametrize("kind", ["none", "prefix", "holes", "empty"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("channels", [(57, 33), (57, 20, 40, 33)], ids=str)
def test_the_c_plus_plus_map_is_the_one_in_torch(
    dtype: torch.dtype, kind: str, channels: tuple[int, ...]
) -> None:
    native = backends.module("linear_maps", "cpu", "native")
    x, dy = make_x(15, 70, dtype=dtype).detach()[:, 3:60], make_x(15, 35, dtype=dtype).detach()[:, :33]
    maps, mask = make_maps(channels, dtype), make_mask(kind)
    tensors = [tensor.detach() for one in maps for tensor in one]
    mask = None if mask is None else mask.flatten()

    def composite(dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in (x, *tensors)]
        (y,) = OPERATOR.composite(Call(leaves[0], mask, tuple(leaves[1:]), Options("auto")))
        return [y.detach(), *torch.autograd.grad(y, leaves, dy.to(dtype))]

    call = Call(x, mask, tuple(tensors), Options("auto"))
    needs = (True,) * len(tensors)
    dx, grads = native.backward(call, (), Upstream(dy), Leaves(True, needs))
    ours = [*native.forward(call), dx, *grads]
    for one, other, exact in zip(ours, composite(dtype), composite(torch.float64), strict=True):
        errors = [(t.double() - exact).abs().max() for t in (one, other)]
        assert errors[0] <= 2 * errors[1] + 4 * torch.finfo(dtype).eps * exact.abs().max()
    alone, none = native.backward(call, (), Upstream(dy), Leaves(True, (False,) * len(tensors)))
    assert torch.equal(alone, dx)
    assert set(none) == {None}
    nothing, again = native.backward(call, (), Upstream(dy), Leaves(False, needs))
    assert nothing is None
    for one, other in zip(again, grads, strict=True):
        assert torch.equal(one, other)


def test_second_derivatives_are_those_of_the_composite() -> None:
    maps, x = make_maps((4, 6, 3)), make_x(3, 5, 4)
    leaves = [x, *(tensor.requires_grad_() for one in maps for tensor in one)]
    assert torch.autograd.gradgradcheck(lambda *_: linear_maps(x, maps), leaves)


def test_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have 4 features in its last dimension, got \[3, 5\]"):
        linear_maps(make_x(3, 5), make_maps((4, 6, 3)))
