"""Linear maps one after another, as one map of the valid rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool import backends
from hierpool._tracing import seen
from hierpool.ops._operator import transformed, without_second
from hierpool.ops.fallback.linear_maps import Composed, Map


def pays(channels: Sequence[int]) -> bool:
    """Whether to multiply the maps between so many features with each other first is less work."""
    return channels[0] * channels[-1] <= sum(a * b for a, b in pairwise(channels))


def linear_maps(x: Tensor, maps: Sequence[Map], mask: Tensor | None = None) -> Tensor:
    r"""Linear maps one after another, multiplied with each other first.

    .. math:: Y = m \odot (X (W_n \cdots W_1)^T + c_n), \quad c_i = W_i c_{i-1} + b_i, \quad c_1 = b_1

    On the CPU padding costs nothing, and autograd sees one function, which has no second derivative. Elsewhere, where
    the number of valid rows is not known without waiting for the device, padding is computed from zeros.

    Args:
        x: :math:`X`, ``[.., F]``.
        maps: :math:`(W_i, b_i)`.
        mask: valid rows :math:`m`, bool, ``x.shape[:-1]``; whatever the others hold, no result and no gradient sees it.

    Raises:
        ValueError: ``x`` does not have :math:`F` features.
    """
    check_features(x, maps)
    if on_cpu(x) and not (seen() or transformed()):
        out: Tensor = _LinearMaps.apply(x, mask, *(tensor for one in maps for tensor in one))
        return out
    if mask is not None:
        x = torch.where(mask[..., None], x, 0)
    y = F.linear(x, *Composed.of(maps).whole)
    return y if mask is None else torch.where(mask[..., None], y, 0)


def check_features(x: Tensor, maps: Sequence[Map]) -> None:
    """Raise ``ValueError`` unless ``x`` has the features that the first map takes."""
    if x.size(-1) != maps[0][0].size(1):
        raise ValueError(
            f"x must have {maps[0][0].size(1)} features in its last dimension, got {list(x.shape)}"
        )


def on_cpu(x: Tensor) -> bool:
    """Whether the maps of ``x`` run on the CPU, in the dtype that it has."""
    return x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


class _LinearMaps(torch.autograd.Function):
    """:func:`linear_maps` on the CPU, on the valid rows alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, *tensors: Tensor) -> Tensor:
        ctx.filler = backends.select("linear_maps", "cpu").filler("linear_maps")
        rows = x.reshape(-1, x.size(-1))
        valid = None if mask is None else mask.reshape(-1)
        y: Tensor = ctx.filler.forward(rows, valid, tensors)
        ctx.save_for_backward(rows, valid, *tensors)
        ctx.shape = x.shape
        return y.view(*x.shape[:-1], y.size(1))

    @staticmethod
    @without_second("linear_maps")
    def backward(ctx: Any, dy: Tensor) -> Any:
        rows, valid, *tensors = ctx.saved_tensors
        need_x, need_maps = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:])
        dy = dy.reshape(-1, dy.size(-1))
        dx, grads = ctx.filler.backward(dy, rows, valid, tensors, need_x, need_maps)
        return (
            dx.view(ctx.shape) if need_x else None,
            None,
            *(grads if need_maps else [None] * len(tensors)),
        )
