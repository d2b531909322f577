"""Operators as compilers and tracers see them: registered with torch.library under ``hierpool::``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierpool.ops._schema import returns

_LIB = torch.library.Library("hierpool", "FRAGMENT")


class Traced:
    """The registered forward and backward of an :class:`hierpool.ops._operator.Operator`.

    Arguments are flat; :class:`hierpool.ops._schema.Arguments` builds the call of them.
    """

    if TYPE_CHECKING:  # members of the operator

        def __getattr__(self, name: str) -> Any: ...

    def _register(self) -> None:
        """Define ``hierpool::<name>`` and ``hierpool::<name>_backward`` for compilers and tracers."""
        qualified, backward_name = f"hierpool::{self.name}", f"{self.name}_backward"
        arguments = [
            *(f"Tensor? d_{name}" for name in self.Upstream._fields),
            *(f"Tensor saved_{name}" for name in self.Saved._fields),
            self._arguments.declaration(optional=True),
            *(f"bool need_{name}" for name in self.Leaves._fields),
        ]
        gradients = ", ".join(["Tensor"] * len(self.Leaves._fields))
        gradients = gradients if len(self.Leaves._fields) == 1 else f"({gradients})"
        _LIB.define(f"{self.name}({self._arguments.declaration()}) -> {returns(self.Out)}")
        _LIB.define(f"{backward_name}({', '.join(arguments)}) -> {gradients}")
        for key in ("CPU", "CUDA"):
            _LIB.impl(self.name, self._traced_forward, key)
            _LIB.impl(backward_name, self._traced_backward, key)
        self.op = getattr(torch.ops.hierpool, self.name)
        self.backward_op = getattr(torch.ops.hierpool, backward_name)
        torch.library.register_fake(qualified, self._fake_forward, lib=_LIB)
        torch.library.register_fake(f"{qualified}_backward", self._fake_backward, lib=_LIB)
        torch.library.register_autograd(qualified, self._gradients, setup_context=self._set_up, lib=_LIB)
        torch.library.register_autograd(f"{qualified}_backward", self._no_second_derivative, lib=_LIB)

    def _traced_forward(self, *flat: Any) -> Any:
        call = self._arguments.build(flat)
        self.check_values(call)
        backend = self.select(call)
        out = self.run_composite(call) if backend is None else backend.forward(call)
        return _returned([t.contiguous() for t in self.defined(call, self.Out._make(out))])

    def _fake_forward(self, *flat: Any) -> Any:
        return _returned(self.shapes(self._arguments.build(flat)))

    def _set_up(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        call, out = self._arguments.build(inputs), as_tuple(output)
        if getattr(call.options, "save", True) is False:
            raise RuntimeError(f"{self.name} was called with save=False and cannot be differentiated")
        if self.select(call) is not None and not self.reads_first(call):
            call = self._without_first(call)
        flat = self._arguments.flatten(call)
        tensors = [value if isinstance(value, Tensor) else None for value in flat]
        ctx.others = [None if isinstance(value, Tensor) else value for value in flat]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(out[place] for place in self._saved), *tensors)
        ctx.mark_non_differentiable(*(t for place, t in enumerate(out) if place not in self._results))

    def _gradients(self, ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved, tensors = ctx.saved_tensors[: len(self._saved)], ctx.saved_tensors[len(self._saved) :]
        flat = [other if t is None else t for t, other in zip(tensors, ctx.others, strict=True)]
        upstream = [grads[place] for place in self._results]
        needs = [ctx.needs_input_grad[place] for place in self._places]
        gradients: list[Tensor | None] = [None] * len(flat)
        if any(grad is not None for grad in upstream):
            found = as_tuple(self.backward_op(*upstream, *saved, *flat, *needs))
            for place, grad, need in zip(self._places, found, needs, strict=True):
                gradients[place] = grad if need else None
        return tuple(gradients)

    def _backward_arguments(self, flat: tuple[Any, ...]) -> tuple[Any, Any, Any, Any]:
        """Upstream, saved, call and needs."""
        rest = iter(flat)
        upstream = self.Upstream._make(islice(rest, len(self._results)))
        saved = self.Saved._make(islice(rest, len(self._saved)))
        call = self._arguments.build(list(islice(rest, len(self._arguments.list))))
        return upstream, saved, call, self.Leaves._make(rest)

    def _traced_backward(self, *flat: Any) -> Any:
        upstream, saved, call, needs = self._backward_arguments(flat)
        backend = self.select(call)
        if backend is None:
            with _recorded():
                found = self._through_composite(call, upstream, needs)
        else:
            found = self.backward(backend, call, saved, upstream, needs)
        likes = self.like_gradients(call, saved)
        return _returned(
            [
                grad.contiguous() if need else t
                for grad, t, need in zip(found, _none(likes), needs, strict=True)
            ]
        )

    def _fake_backward(self, *flat: Any) -> Any:
        _, saved, call, needs = self._backward_arguments(flat)
        likes = self.like_gradients(call, saved)
        return _returned(
            [
                like.new_empty(like.shape) if need else t
                for like, t, need in zip(likes, _none(likes), needs, strict=True)
            ]
        )

    def _no_second_derivative(self, ctx: Any, *grads: Tensor | None) -> Any:
        raise RuntimeError(
            f"{self.name} has no second derivative under a compiler or a dispatch mode; in eager mode it has"
        )


@contextmanager
def _recorded() -> Iterator[None]:
    """Enable autograd inside a registered operator, where PyTorch disables it."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in _AUTOGRAD:
        excluded = excluded.remove(key)
    with torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded):
        yield


_AUTOGRAD = [
    getattr(torch._C.DispatchKey, name)
    for name in ("AutogradFunctionality", "AutogradOther", "ADInplaceOrView")
]


def as_tuple(returned: Any) -> Sequence[Tensor]:
    return (returned,) if isinstance(returned, Tensor) else returned


def _returned(tensors: Iterable[Tensor]) -> Any:
    """The return value of a registered operator: a tensor, or a tuple of tensors."""
    found = tuple(tensors)
    return found[0] if len(found) == 1 else found


def _none(likes: Iterable[Tensor | None]) -> list[Tensor]:
    """Empty tensors in place of gradients that are not needed."""
    likes = list(likes)
    some = next(t for t in likes if t is not None)
    return [(some if t is None else t).new_empty(0) for t in likes]
