"""Maximum over the rows of each group."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    groups: int
    backend: str


class Call(NamedTuple):
    """The arguments."""

    x: Tensor  # [N, F]
    group: Tensor  # int64 [N]
    options: Options


class Out(NamedTuple):
    """The result."""

    y: Tensor  # [groups, F]


class Upstream(NamedTuple):
    """Its gradient."""

    y: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    y: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any


class SegmentMax(Operator, opaque=False):
    """The operator of maxima over groups."""

    def composite(self, call: Call) -> Out:
        x, group, options = call
        lowest = x.new_full((options.groups, x.size(1)), -torch.inf)
        # torch has a fast path for an expanded index.
        return Out(lowest.scatter_reduce(0, group[:, None].expand_as(x), x, "amax"))


OPERATOR = SegmentMax()


def segment_max(x: Tensor, group: Tensor, groups: int) -> Tensor:
    """Elementwise maximum over the rows of each group. Rows that share a maximum share its gradient equally.

    Args:
        x: ``[N, F]``.
        group: group of each row, int64 ``[N]``.
        groups: number of groups.

    Returns:
        ``[groups, F]``; -inf for an empty group.
    """
    return OPERATOR(Call(x, group, Options(groups, "auto")))[0]
