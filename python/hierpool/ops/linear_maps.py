"""A sequence of linear maps, applied to the valid rows as one map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from torch import Tensor

from hierpool.ops._operator import Operator
from hierpool.reference.linear_maps import Map, as_maps
from hierpool.reference.linear_maps import linear_maps as composed


class Options(NamedTuple):
    """Arguments that are not tensors."""

    backend: str


class Call(NamedTuple):
    """The arguments."""

    x: Tensor  # [.., F]
    mask: Tensor | None  # bool [..]
    maps: tuple[Tensor, ...]  # weight, bias, weight, bias, ...
    options: Options


class Out(NamedTuple):
    """The result."""

    y: Tensor  # [.., G]


class Upstream(NamedTuple):
    """Its gradient."""

    y: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    maps: tuple[Any, ...]


class LinearMaps(Operator, opaque=False):
    """The operator of linear maps."""

    def composite(self, call: Call) -> Out:
        return Out(composed(call.x, as_maps(call.maps), call.mask))


OPERATOR = LinearMaps()


def saves_work(channels: Sequence[int]) -> bool:
    """Whether it is less work to multiply the maps with each other first."""
    return channels[0] * channels[-1] <= sum(a * b for a, b in pairwise(channels))


def linear_maps(x: Tensor, maps: Sequence[Map], mask: Tensor | None = None) -> Tensor:
    r"""Apply a sequence of linear maps, which are multiplied with each other first.

    .. math:: Y = m \odot (X (W_n \cdots W_1)^T + c_n), \quad c_i = W_i c_{i-1} + b_i, \quad c_1 = b_1

    The C++ kernels compute only valid rows. On other devices, the number of valid rows cannot be read without
    synchronisation, so padding is set to 0 and computed as well.

    Args:
        x: :math:`X`, ``[.., F]``.
        maps: :math:`(W_i, b_i)`.
        mask: valid rows :math:`m`, bool, ``x.shape[:-1]``. Results and gradients do not depend on the other rows.

    Raises:
        ValueError: ``x`` does not have :math:`F` features.
    """
    check_features(x, maps)
    tensors = tuple([tensor for one in maps for tensor in one])
    return OPERATOR(Call(x, mask, tensors, Options("auto")))[0]


def check_features(x: Tensor, maps: Sequence[Map]) -> None:
    """Raise ``ValueError`` unless ``x`` has the number of features of the first map."""
    if x.size(-1) != maps[0][0].size(1):
        raise ValueError(
            f"x must have {maps[0][0].size(1)} features in its last dimension, got {list(x.shape)}"
        )
