"""Linear maps of valid rows, by the C++ kernels or, if they are large, by torch's BLAS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import DTYPES, all_contiguous, contiguous, rows
from hierpool.contract import reshaped
from hierpool.reference.linear_maps import Map, as_maps, products

if TYPE_CHECKING:
    from hierpool.ops.linear_maps import Call, Leaves, Upstream

# From this number of multiply-adds on, packing the valid rows for torch's BLAS is faster (MKL on Zen 3).
_LARGE = 1 << 23


def is_small(x: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether the C++ kernels take these features, weights and biases."""
    dtype = x.dtype
    if dtype not in DTYPES:
        return False
    for t in tensors:
        if t.dtype is not dtype:
            return False
    return x.numel() * len(tensors[-1]) < _LARGE


def forward(call: Call) -> tuple[Tensor]:
    """The result."""
    x, mask, tensors = _flat(call)
    if is_small(x, tensors):
        y = torch.ops.hierpool_native.linear_maps.default(rows(x), contiguous(mask), all_contiguous(tensors))
    else:
        weight, bias = products(as_maps(tensors))[-1]
        valid = _places(mask)
        y = _scattered(torch.addmm(bias, _gathered(x, valid), weight.t()), valid, len(x))
    return (reshaped(y, *call.x.shape[:-1], y.size(1)),)


def backward(
    call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves
) -> tuple[Tensor | None, Sequence[Tensor | None]]:
    """Gradients of features, weights and biases."""
    x, mask, tensors = _flat(call)
    dy = upstream.y.flatten(0, -2)
    need_maps = any(needs.maps)
    if is_small(x, tensors):
        arguments = (rows(dy), rows(x), contiguous(mask), all_contiguous(tensors), needs.x, need_maps)
        dx, grads = torch.ops.hierpool_native.linear_maps_backward.default(*arguments)
    else:
        maps = as_maps(tensors)
        composed = products(maps)
        valid = _places(mask)
        dy = _gathered(dy, valid)
        dx = _scattered(dy @ composed[-1][0], valid, len(x)) if needs.x else None
        grads = _gradients(maps, composed, dy.t() @ _gathered(x, valid), dy.sum(0)) if need_maps else []
    return dx.view(call.x.shape) if needs.x else None, tuple(grads) if need_maps else (None,) * len(tensors)


def _gradients(maps: list[Map], composed: list[Map], dweight: Tensor, dbias: Tensor) -> list[Tensor]:
    """The gradients of weight, bias, weight, ..., from those of the product of all maps."""
    grads: list[Tensor] = []
    for (weight, _), (before, offset) in zip(maps[:0:-1], composed[-2::-1], strict=True):
        grads[:0] = [torch.addmm(torch.outer(dbias, offset), dweight, before.t()), dbias]
        dweight, dbias = weight.t() @ dweight, weight.t() @ dbias
    return [dweight, dbias, *grads]


def _flat(call: Call) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    mask = None if call.mask is None else call.mask.flatten()
    return call.x.flatten(0, -2), mask, call.maps


def _places(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.nonzero().squeeze(1)


def _gathered(rows: Tensor, places: Tensor | None) -> Tensor:
    return rows if places is None else rows.index_select(0, places)


def _scattered(rows: Tensor, places: Tensor | None, count: int) -> Tensor:
    return rows if places is None else rows.new_zeros(count, rows.size(1)).index_copy_(0, places, rows)
