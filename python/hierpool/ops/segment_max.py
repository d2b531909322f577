"""Maximum over the rows of each group, such as the nodes of each graph."""

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

    x: Tensor  # [N, F], or [groups, n, F] without group
    group: Tensor | None  # int64 [N]
    mask: Tensor | None  # bool [groups, n], without group only: rows that count
    options: Options


class Out(NamedTuple):
    """The result."""

    y: Tensor  # [groups, F]; 0 for a group without rows


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
        x, group, mask, options = call
        # The gradient reads results of scatter_reduce and amax: callers, who may change theirs in place, get copies.
        if group is not None:
            # The gradient counts what the result began as, although it is not included, unless it is NaN.
            y = x.new_full((options.groups, x.size(1)), torch.nan)
            # torch has a fast path for an expanded index.
            y = y.scatter_reduce(0, group[:, None].expand_as(x), x, "amax", include_self=False)
            some = torch.zeros_like(y[:, :1], dtype=torch.bool).index_fill(0, group, True)
            return Out(torch.where(some, y, 0))
        if x.size(1) == 0:
            return Out(x.sum(1))
        if mask is None:
            return Out(x.amax(1).clone())
        largest = torch.where(mask[..., None], x, -torch.inf).amax(1)
        return Out(torch.where(mask.any(1, keepdim=True), largest, 0))


OPERATOR = SegmentMax()


def segment_max(x: Tensor, group: Tensor | None, groups: int, mask: Tensor | None = None) -> Tensor:
    """Elementwise maximum over the rows of each group. Rows that share a maximum share its gradient equally.

    Args:
        x: ``[N, F]``; without ``group``, the rows of each group in turn, ``[groups, n, F]``.
        group: group of each row, int64 ``[N]``.
        groups: number of groups.
        mask: rows that count, bool ``[groups, n]``, only without ``group``; ``None``: all. Others are not read.

    Returns:
        ``[groups, F]``; 0 for a group without rows.
    """
    return OPERATOR(Call(x, group, mask, Options(groups, "auto")))[0]
