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

# Weight [G, F] and bias [G] of a map from F features to G.
Map = tuple[Tensor, Tensor]


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
    if x.size(-1) != maps[0][0].size(1):
        raise ValueError(
            f"x must have {maps[0][0].size(1)} features in its last dimension, got {list(x.shape)}"
        )
    cpu = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if cpu and not (seen() or transformed()):
        out: Tensor = _LinearMaps.apply(x, mask, *(tensor for one in maps for tensor in one))
        return out
    if mask is not None:
        x = torch.where(mask[..., None], x, 0)
    y = F.linear(x, *_products(maps)[-1])
    return y if mask is None else torch.where(mask[..., None], y, 0)


def _products(maps: Sequence[Map]) -> list[Map]:
    """The first map, the first two as one, and so on to all of them."""
    products = [maps[0]]
    for weight, bias in maps[1:]:
        before, offset = products[-1]
        products.append((weight @ before, torch.addmv(bias, weight, offset)))
    return products


def _product_gradients(maps: Sequence[Map], products: Sequence[Map], last: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of all weights and biases, in order, from those of the last product."""
    dweight, dbias = last
    grads: list[Tensor] = []
    for (weight, _), (before, offset) in zip(maps[:0:-1], products[-2::-1], strict=True):
        grads[:0] = [torch.addmm(torch.outer(dbias, offset), dweight, before.t()), dbias]
        dweight, dbias = weight.t() @ dweight, weight.t() @ dbias
    return [dweight, dbias, *grads]


class _LinearMaps(torch.autograd.Function):
    """:func:`linear_maps` on the CPU, on the valid rows alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor | None, *tensors: Tensor) -> Tensor:
        products = _products(list(zip(tensors[::2], tensors[1::2], strict=True)))
        ctx.filler = backends.select("linear_rows", "cpu").filler("linear_rows")
        rows = x.reshape(-1, x.size(-1))
        valid = None if mask is None else mask.reshape(-1)
        y: Tensor = ctx.filler.forward(rows, valid, *products[-1])
        ctx.save_for_backward(rows, valid, *tensors, *(tensor for one in products[1:] for tensor in one))
        ctx.shape, ctx.count = x.shape, len(tensors)
        return y.view(*x.shape[:-1], y.size(1))

    @staticmethod
    @without_second
    def backward(ctx: Any, dy: Tensor) -> Any:
        rows, valid, *saved = ctx.saved_tensors
        tensors, composed = saved[: ctx.count], saved[ctx.count :]
        maps = list(zip(tensors[::2], tensors[1::2], strict=True))
        products = [maps[0], *zip(composed[::2], composed[1::2], strict=True)]
        need_x, need_weights = ctx.needs_input_grad[0], any(ctx.needs_input_grad[2:])
        dy = dy.reshape(-1, dy.size(-1))
        dx, *last = ctx.filler.backward(dy, rows, valid, products[-1][0], need_x, need_weights)
        grads = _product_gradients(maps, products, last) if need_weights else (None,) * ctx.count
        return (dx.view(ctx.shape) if need_x else None, None, *grads)
