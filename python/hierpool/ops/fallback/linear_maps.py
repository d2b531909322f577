"""Linear maps of valid rows by plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

# Weight [G, F] and bias [G] of a map from F features to G.
Map = tuple[Tensor, Tensor]


class Composed(NamedTuple):
    """Maps one after another, and the first, the first two as one, and so on to all of them."""

    maps: Sequence[Map]
    products: Sequence[Map]

    @classmethod
    def of(cls, maps: Sequence[Map]) -> Composed:
        """The maps, multiplied."""
        products = [maps[0]]
        for weight, bias in maps[1:]:
            before, offset = products[-1]
            products.append((weight @ before, torch.addmv(bias, weight, offset)))
        return cls(maps, products)

    @property
    def whole(self) -> Map:
        """All maps as one."""
        return self.products[-1]

    def gradients(self, last: Map) -> list[Tensor]:
        """Those of all weights and biases, in turn, from those of the whole."""
        dweight, dbias = last
        grads: list[Tensor] = []
        for (weight, _), (before, offset) in zip(self.maps[:0:-1], self.products[-2::-1], strict=True):
            grads[:0] = [torch.addmm(torch.outer(dbias, offset), dweight, before.t()), dbias]
            dweight, dbias = weight.t() @ dweight, weight.t() @ dbias
        return [dweight, dbias, *grads]


def pairs(tensors: Sequence[Tensor]) -> list[Map]:
    """Weights and biases in turn as maps."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def forward(x: Tensor, mask: Tensor | None, tensors: Sequence[Tensor]) -> Tensor:
    """:math:`Y = m (X W^T + c)`, with the maps as one, whatever is in the rows that are not valid.

    Args:
        x: ``[R, F]``.
        mask: bool ``[R]``; ``None``: all rows are valid.
        tensors: weights and biases in turn.

    Returns:
        ``[R, G]``.
    """
    weight, bias = Composed.of(pairs(tensors)).whole
    valid = _valid(mask)
    return _placed(torch.addmm(bias, _chosen(x, valid), weight.t()), valid, len(x))


def backward(
    dy: Tensor, x: Tensor, mask: Tensor | None, tensors: Sequence[Tensor], need_x: bool, need_maps: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """The gradient to ``x``, of size 0 if it is not needed, and those to ``tensors``, if they are."""
    maps = Composed.of(pairs(tensors))
    valid = _valid(mask)
    dy = _chosen(dy, valid)
    dx = _placed(dy @ maps.whole[0], valid, len(x)) if need_x else dy.new_empty(0)
    return dx, maps.gradients((dy.t() @ _chosen(x, valid), dy.sum(0))) if need_maps else []


def _valid(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.nonzero().squeeze(1)


def _chosen(rows: Tensor, valid: Tensor | None) -> Tensor:
    return rows if valid is None else rows.index_select(0, valid)


def _placed(rows: Tensor, valid: Tensor | None, count: int) -> Tensor:
    return rows if valid is None else rows.new_zeros(count, rows.size(1)).index_copy_(0, valid, rows)
