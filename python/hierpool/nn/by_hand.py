"""Pieces of layers whose gradients are written out.

Each equals a short composition of torch's functions, ``plain``, and costs a half to a fifth of it on batches of small
graphs, where the arithmetic of a layer is done before autograd has recorded its ten steps. Compilers, which fuse the
composition themselves, and transforms take the composition; so does a second derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool import backends
from hierpool._tracing import seen
from hierpool.ops._operator import transformed


def _composes(device_type: str) -> bool:
    """Whether somebody is at work who takes torch's own functions only."""
    return seen() or transformed() or torch.is_autocast_enabled(device_type)


def _again(
    plain: Callable[..., Any], inputs: tuple[Any, ...], needed: tuple[bool, ...], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients, by the composition, so that they can be differentiated once more."""
    chosen = [value for value, need in zip(inputs, needed, strict=True) if need]
    outputs = plain(*inputs)
    found = iter(torch.autograd.grad(outputs, chosen, grads, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


# ------------------------------------------------------------------------------------------------------ GraphSAGE layer


def combine(
    heard: Tensor,
    x: Tensor | None,
    relation: Tensor | None,
    root: Tensor | None,
    bias: Tensor | None,
    widths: tuple[int, ...],
    normalize: bool,
    relu: bool,
) -> tuple[Tensor, ...]:
    r"""What a GraphSAGE layer does with the sum over neighbours: :math:`Y = H W_1^T + X W_2^T + b`, and what follows.

    Args:
        heard: :math:`H`, ``[..., F]``, or :math:`H W_1^T` if that has been multiplied already.
        x: :math:`X`, ``[..., F]``, if there is ``root``.
        relation: :math:`W_1`, ``[G, F]``, or ``None``.
        root: :math:`W_2`, ``[G, F]``, or ``None``.
        bias: :math:`b`, ``[G]``, or ``None``.
        widths: columns of the layers that stand side by side; their sum is ``G``.
        normalize: divide the rows of every part by their lengths, or by 1e-12 if they are shorter.
        relu: set what is negative to 0.

    Returns:
        The parts, ``[..., width]`` each.
    """
    arguments = (heard, x, relation, root, bias, widths, normalize, relu)
    if _composes(heard.device.type):
        return _combine_plain(*arguments)
    shape = heard.shape[:-1]
    if len(shape) == 1:
        parts: tuple[Tensor, ...] = _Combine.apply(*arguments)
        return parts
    x = None if x is None else x.flatten(0, -2)
    parts = _Combine.apply(heard.flatten(0, -2), x, *arguments[2:])
    return tuple(part.view(*shape, -1) for part in parts)


def _combine_plain(
    heard: Tensor,
    x: Tensor | None,
    relation: Tensor | None,
    root: Tensor | None,
    bias: Tensor | None,
    widths: tuple[int, ...],
    normalize: bool,
    relu: bool,
) -> tuple[Tensor, ...]:
    y = heard if relation is None else F.linear(heard, relation)
    if root is not None:
        assert x is not None
        y = y + F.linear(x, root, bias)
    elif bias is not None:
        y = y + bias
    parts = y.split(widths, -1)
    if normalize:
        parts = tuple(F.normalize(part, dim=-1, eps=1e-12) for part in parts)
    return tuple(part.relu() for part in parts) if relu else tuple(parts)


class _Combine(torch.autograd.Function):
    """On rows, ``[R, F]``."""

    @staticmethod
    def forward(
        ctx: Any,
        heard: Tensor,
        x: Tensor | None,
        relation: Tensor | None,
        root: Tensor | None,
        bias: Tensor | None,
        widths: tuple[int, ...],
        normalize: bool,
        relu: bool,
    ) -> tuple[Tensor, ...]:
        if relation is None:
            y = heard.clone() if bias is None else heard + bias
        elif bias is None:
            y = heard @ relation.t()
        else:
            y = torch.addmm(bias, heard, relation.t())
        if root is not None:
            assert x is not None
            y.addmm_(x, root.t())
        filler = backends.select("unit_rows", y.device.type).filler("unit_rows")
        outs, lengths = [], []
        for part in y.split(widths, 1):
            if normalize:
                out, length = filler.forward(part, relu)
                lengths.append(length)
            else:
                out = part.relu() if relu else part.clone()
            outs.append(out)
        ctx.save_for_backward(heard, x, relation, root, bias, y, *lengths)
        ctx.widths, ctx.relu, ctx.filler = widths, relu, filler
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        heard, x, relation, root, bias, y, *lengths = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():
            inputs = (heard, x, relation, root, bias, ctx.widths, bool(lengths), ctx.relu)
            return _again(_combine_plain, inputs, needs, grads)
        dy = torch.empty_like(y)
        parts = zip(y.split(ctx.widths, 1), dy.split(ctx.widths, 1), grads, strict=True)
        for i, (rows, into, grad) in enumerate(parts):
            if lengths:
                ctx.filler.backward(grad, rows, lengths[i], ctx.relu, into)
            else:
                into.copy_(torch.ops.aten.threshold_backward(grad, rows, 0) if ctx.relu else grad)
        dheard = dy if relation is None else dy @ relation if needs[0] else None
        return (
            dheard,
            dy @ root if needs[1] else None,
            _transposed_product(dy, heard) if needs[2] else None,
            _transposed_product(dy, x) if needs[3] else None,
            dy.sum(0) if needs[4] else None,
            *(None,) * 3,
        )


def _transposed_product(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`A^T B`, by the product whose rows are whole vectors if there is one: BLAS takes half the time for it."""
    if b.size(1) % 16 and not a.size(1) % 16:
        return (b.t() @ a).t()
    return a.t() @ b


# -------------------------------------------------------------------------------------------------- maxima over groups


def segment_max(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """The largest of the rows of ``x [N, F]`` in each group, ``[groups, F]``; -inf in an empty one.

    ``group`` is int64 ``[N]``. Where several rows are the largest, they share the gradient.
    """
    if _composes(x.device.type):
        return _segment_max_plain(x, group, groups)
    y: Tensor = _SegmentMax.apply(x, group, groups)
    return y


def _segment_max_plain(x: Tensor, group: Tensor, groups: int) -> Tensor:
    lowest = x.new_full((groups, x.size(1)), -torch.inf)
    # An index that is expanded, not copied, takes torch's fast path.
    return lowest.scatter_reduce(0, group[:, None].expand_as(x), x, "amax")


class _SegmentMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Tensor, groups: int) -> Tensor:
        y = _segment_max_plain(x, group, groups)
        ctx.save_for_backward(x, group, y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        x, group, y = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _again(_segment_max_plain, (x, group, y.size(0)), (True, False, False), (grad,))  # type: ignore[return-value]
        largest = torch.eq(x, y.index_select(0, group), out=torch.empty_like(x))  # 1 where it is
        count = torch.zeros_like(grad).index_add_(0, group, largest)
        return largest.mul_((grad / count).index_select(0, group)), None, None
