"""What the operators of soft pooling share, however the adjacency is stored.

Arguments of an operator are ``(logits, x, edges, *structure, temperature, given, symmetric, want_gram, want_link,
want_entropy, mean, save, backend)``: ``edges`` may need a gradient, ``structure`` says where they are. Outputs are
the eight packed fields of the record, then what is saved. Arguments of its backward are the gradients of these fields,
then ``(s, gram, link_norm, *saved, x, edges, *structure, temperature, given, symmetric, mean, need_logits, need_x,
need_edges, backend)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import seen
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator, transformed
from hierpool.record import SoftPoolRecord

_FIELDS = 8  # of the record
# Places among the arguments of an operator.
TEMPERATURE, _GIVEN, SYMMETRIC, _WANT_GRAM, _MEAN, _SAVE = -9, -8, -7, -6, -3, -2
_OUTPUTS = (
    "Tensor s, Tensor x_pooled, Tensor adj_pooled, Tensor gram, Tensor vectors, Tensor scalars, Tensor total_entropy,"
    " Tensor link_norm"
)
_GRADIENTS = (
    "Tensor? ds, Tensor? dx, Tensor? dadj, Tensor? dgram, Tensor? dvectors, Tensor? dscalars, Tensor? dtotal_entropy,"
    " Tensor? dlink_norm"
)


class SoftPoolOperator(Operator):
    """Subclasses add ``forward_fake``."""

    def __init__(self, name: str, edges: str, symmetric: str, saved: str) -> None:
        self.name = name
        self.schema = (
            f"(Tensor logits, Tensor x, {edges}, Tensor? temperature, bool given, {symmetric} symmetric,"
            " bool want_gram, bool want_link, bool want_entropy, bool mean, bool save, str backend)"
            f" -> ({_OUTPUTS}, {saved})"
        )
        self.backward_schema = (
            f"({_GRADIENTS}, Tensor s, Tensor gram, Tensor link_norm, {saved}, Tensor x, {edges}, Tensor? temperature,"
            f" bool given, {symmetric} symmetric, bool mean, bool need_logits, bool need_x, bool need_edges,"
            " str backend) -> (Tensor, Tensor, Tensor)"
        )
        self._functions: dict[tuple[str, ...], type[torch.autograd.Function]] = {}
        self.saved = saved.count("Tensor")
        self._x = _FIELDS + 3 + self.saved  # place of x among the backward's arguments

    def check_values(self, *args: Any) -> None:
        """Check values that are cheap to read."""
        _checks.check_values(0, None, args[TEMPERATURE])

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        self.check_values(*args)
        output: tuple[Tensor, ...] = self.filler(args).forward(*args[:-1])
        return output

    def backward(self, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
        *rest, need_logits, need_x, need_edges, _ = args[_FIELDS:]
        grads: tuple[Tensor, Tensor, Tensor] = self.filler(args).backward(
            args[:_FIELDS], *rest, (need_logits, need_x, need_edges)
        )
        return grads

    def backward_fake(self, *args: Any) -> tuple[Tensor, ...]:
        s, x, edges = args[_FIELDS], args[self._x], args[self._x + 1]
        return tuple(
            (s if t is None else t).new_empty(t.shape if needed else (0,))
            for t, needed in zip((s, x, edges), args[-4:-1], strict=True)
        )

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        logits, x, edges = inputs[:3]
        structure, temperature = inputs[3:TEMPERATURE], inputs[TEMPERATURE]
        s, gram, link_norm, *saved = output[0], output[3], *output[_FIELDS - 1 :]
        learned = temperature is not None and temperature.requires_grad
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(
            s, gram, link_norm, *saved, x, edges, *structure, temperature, logits if learned else None
        )
        ctx.options = (inputs[_GIVEN], inputs[SYMMETRIC], inputs[_MEAN])
        ctx.backend, ctx.arguments = inputs[-1], len(inputs)

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        if not inputs[_SAVE]:
            raise RuntimeError(f"{self.name} was called with save=False and cannot be differentiated")
        self.keep(ctx, inputs, output)
        ctx.mark_non_differentiable(*output[_FIELDS:])

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        *saved, temperature, logits = ctx.saved_tensors
        need_logits, need_x, need_edges = ctx.needs_input_grad[:3]
        count = ctx.arguments
        need_temperature = ctx.needs_input_grad[count + TEMPERATURE]
        dlogits, dx, dedges = backward(
            *grads[:_FIELDS],
            *saved,
            temperature,
            *ctx.options,
            need_logits or need_temperature,
            need_x,
            need_edges,
            ctx.backend,
        )
        return (
            dlogits if need_logits else None,
            dx if need_x else None,
            dedges if need_edges else None,
            *(None,) * (count + TEMPERATURE - 3),
            temperature_gradient(dlogits, logits, temperature) if need_temperature else None,
            *(None,) * (-1 - TEMPERATURE),
        )

    @staticmethod
    def saves(args: tuple[Any, ...]) -> bool:
        """Whether somebody may ask for gradients."""
        return bool(args[_SAVE])

    def record(self, args: tuple[Any, ...]) -> SoftPoolRecord:
        """All fields."""
        out = self(args, args[_SAVE])
        return SoftPoolRecord(out[0], out[1], out[2], out[3] if args[_WANT_GRAM] else None, *out[4:_FIELDS])

    def fields(self, args: tuple[Any, ...], names: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Some fields of the record, in the order of the record."""
        if not args[_SAVE] or seen() or transformed():
            out = self(args, args[_SAVE])
            return tuple(out[SoftPoolRecord._fields.index(name)] for name in names)
        function = self._functions.get(names)
        if function is None:
            function = self.make_function(tuple(map(SoftPoolRecord._fields.index, names)))
            self._functions[names] = function
        output: tuple[Tensor, ...] = function.apply(*args)
        return output


def temperature_gradient(dlogits: Tensor, logits: Tensor, temperature: Tensor) -> Tensor:
    """The gradient of the temperature that divides the logits."""
    # Logits in padding may be NaN, where dlogits is 0.
    product = torch.where(dlogits != 0, dlogits * logits, 0)
    return -product.sum(dtype=torch.float64).to(temperature.dtype) / temperature


def options(
    s: Tensor,
    differentiable: tuple[Tensor | None, ...],
    assignment: str,
    temperature: float | Tensor,
    symmetric: bool | None,
    link_loss: str | None,
    entropy: bool,
    gram: bool | None,
    mean: bool,
    backend: str,
) -> tuple[Any, ...]:
    """The arguments of an operator from ``temperature`` on, checked."""
    given = _checks.check_choice("assignment", assignment, ("softmax", "given")) == 1
    want_link = _checks.check_choice("link_loss", link_loss, (None, "frobenius")) == 1
    if backend != "auto":
        backends.check_name(backend)
    if symmetric is not None:
        _checks.check_flag("symmetric", symmetric)
    if gram is not None:
        _checks.check_flag("gram", gram)
    if not isinstance(entropy, bool):
        raise TypeError(f"entropy must be True or False, got {entropy!r}")
    if gram is None:
        gram = want_link
    elif want_link and not gram:
        raise ValueError(
            "gram=False leaves out what link_loss='frobenius' needs; pass link_loss=None as well"
        )
    scale = _checks.temperature_tensor(temperature, given, s)
    save = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (*differentiable, scale)
    )
    return scale, given, symmetric, gram, want_link, entropy, mean, save, backend
