"""Operators with a formula of their own for the gradient: registered for compilers and tracers, and called past the
dispatcher by everybody else, as a small batch takes less time than three trips through it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hierpool import backends
from hierpool._tracing import seen

_LIB = torch.library.Library("hierpool", "FRAGMENT")

Gradients = tuple[Tensor | None, ...]


def transformed() -> bool:
    """Whether torch.func or forward-mode AD is at work, which no operator with a formula of its own goes along with."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def without_second(name: str) -> Callable[[Callable[..., Gradients]], Callable[..., Gradients]]:
    """A backward whose gradients, if somebody asks for their graph, raise an error once they are differentiated.

    ``torch.autograd.function.once_differentiable`` lets them pass as constants where the gradients that come in are.
    """

    def decorate(backward: Callable[..., Gradients]) -> Callable[..., Gradients]:
        @wraps(backward)
        def run(ctx: Any, *grads: Tensor | None) -> Gradients:
            if not torch.is_grad_enabled():
                return backward(ctx, *grads)
            with torch.no_grad():
                found = backward(ctx, *grads)
            anchor = torch.zeros((), requires_grad=True)
            return tuple(None if grad is None else _Constant.apply(name, anchor, grad) for grad in found)

        return run

    return decorate


class _Constant(torch.autograd.Function):
    """A gradient that is not to be differentiated."""

    @staticmethod
    def forward(ctx: Any, name: str, anchor: Tensor, grad: Tensor) -> Tensor:
        ctx.name = name
        return grad

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        raise RuntimeError(
            f"{ctx.name} has no second derivative; the functions of hierpool.reference are differentiable any number of"
            " times"
        )


class Operator(ABC):
    """One operator, ``hierpool::name``, and its backward, ``hierpool::name_backward``.

    A subclass says what is computed; the last argument of both operators is the name of the backend. Outputs are a
    tensor or a tuple of tensors.
    """

    name: str
    schema: str  # "(Tensor s, ..., str backend) -> Tensor"
    backward_schema: str

    @abstractmethod
    def forward(self, *args: Any) -> Any:
        """The outputs."""

    @abstractmethod
    def backward(self, *args: Any) -> Any:
        """What the backward operator returns."""

    @abstractmethod
    def forward_fake(self, *args: Any) -> Any:
        """Outputs of the right shapes, which every backend returns."""

    @abstractmethod
    def backward_fake(self, *args: Any) -> Any:
        """The same for the backward operator."""

    @abstractmethod
    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Put aside what the backward needs."""

    @abstractmethod
    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        """A gradient for every argument, from those of the outputs, by a call of the backward operator."""

    @abstractmethod
    def plain(self, *args: Any) -> Any:
        """The outputs in differentiable PyTorch; the backend is not among the arguments."""

    def defined_forward(self, *args: Any) -> Any:
        """The outputs with every element defined, for those who compare all of them."""
        return self.forward(*args)

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Put aside what the backward needs, with all outputs returned."""
        self.keep(ctx, inputs, output)

    def filler(self, args: tuple[Any, ...]) -> Any:
        """The module that computes this operator or its backward, from the arguments, of which the last is its name."""
        first = args[0] if isinstance(args[0], Tensor) else next(t for t in args if isinstance(t, Tensor))
        device_type = first.device.type
        # Every backend of the CPU takes float64.
        wide = device_type != "cpu" and any(isinstance(t, Tensor) and t.dtype is torch.float64 for t in args)
        return backends.select(self.name, device_type, args[-1], wide).filler(self.name)

    def register(self) -> Operator:
        """Define both operators."""
        backward_name = f"{self.name}_backward"
        _LIB.define(self.name + self.schema)
        _LIB.define(backward_name + self.backward_schema)
        for key in ("CPU", "CUDA"):
            _LIB.impl(self.name, self.defined_forward, key)
            _LIB.impl(backward_name, self.backward, key)
        self.op = getattr(torch.ops.hierpool, self.name)
        self.backward_op = getattr(torch.ops.hierpool, backward_name)
        qualified = f"hierpool::{self.name}"
        torch.library.register_fake(qualified, self.forward_fake, lib=_LIB)
        torch.library.register_fake(f"{qualified}_backward", self.backward_fake, lib=_LIB)
        torch.library.register_autograd(
            qualified,
            lambda ctx, *grads: self.gradients(ctx, grads, self.backward_op),
            setup_context=self.setup_context,
            lib=_LIB,
        )
        torch.library.register_autograd(f"{qualified}_backward", self._no_second_derivative, lib=_LIB)
        self.function = self.make_function()
        return self

    def make_function(self, only: tuple[int, ...] | None = None) -> type[torch.autograd.Function]:
        """The operator as a function of autograd, with some of its outputs or all.

        Each output costs autograd more than the arithmetic of a small graph.
        """
        operator = self

        class Eager(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *args: Any) -> Any:
                output = operator.forward(*args)
                if only is None:
                    operator.setup_context(ctx, args, output)
                    return output
                operator.keep(ctx, args, output)
                ctx.count = len(output)
                return tuple(output[i] for i in only)

            @staticmethod
            def backward(ctx: Any, *grads: Tensor | None) -> Gradients:
                if only is not None:
                    chosen = dict(zip(only, grads, strict=True))
                    grads = tuple(chosen.get(i) for i in range(ctx.count))
                if (
                    torch.is_grad_enabled()
                ):  # create_graph=True: the operator knows that it has no second derivative
                    return operator.gradients(ctx, grads, operator.backward_op)
                return operator.gradients(ctx, grads, operator.backward)

        return Eager

    def __call__(self, args: tuple[Any, ...], differentiable: bool) -> Any:
        """All outputs, by the shortest way."""
        if seen():
            return self.op(*args)
        if transformed():
            return self._transformable(*args)
        return self.function.apply(*args) if differentiable else self.forward(*args)

    def _transformable(self, *args: Any) -> Any:
        if args[-1] not in ("auto", "reference"):
            raise RuntimeError(
                f"backend {args[-1]!r} cannot run {self.name} under transforms of torch.func or forward-mode AD;"
                " 'auto' and 'reference' can"
            )
        return self.plain(*args[:-1])

    def _no_second_derivative(self, ctx: Any, *grads: Tensor | None) -> Gradients:
        raise RuntimeError(
            f"{self.name} has no second derivative; hierpool.reference.{self.name} is differentiable any number of"
            " times"
        )
