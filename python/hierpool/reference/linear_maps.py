"""A sequence of linear maps in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Map = tuple[Tensor, Tensor]
"""Weight ``[G, F]`` and bias ``[G]`` of a map from F features to G."""


def as_maps(tensors: Sequence[Tensor]) -> list[Map]:
    """Maps from weight, bias, weight, bias, ..."""
    return list(zip(tensors[::2], tensors[1::2], strict=True))


def products(maps: Sequence[Map]) -> list[Map]:
    """The first map, the first two as one map, and so on to all of them."""
    found = [maps[0]]
    for weight, bias in maps[1:]:
        before, offset = found[-1]
        found.append((weight @ before, torch.addmv(bias, weight, offset)))
    return found


def linear_maps(x: Tensor, maps: Sequence[Map], mask: Tensor | None = None) -> Tensor:
    """See :func:`hierpool.ops.linear_maps.linear_maps`. Padding is set to 0 and computed as well."""
    if mask is not None:
        x = torch.where(mask[..., None], x, 0)
    y = F.linear(x, *products(maps)[-1])
    return y if mask is None else torch.where(mask[..., None], y, 0)
