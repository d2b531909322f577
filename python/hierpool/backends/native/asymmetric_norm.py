"""The asymmetric norm by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import contiguous, rows
from hierpool.contract import Padded

if TYPE_CHECKING:
    from hierpool.ops.asymmetric_norm import Call, Leaves, Saved, Upstream


def _structure(call: Call) -> tuple[Tensor | None, ...]:
    counts = contiguous(call.num_clusters)
    if isinstance(call.rows, Padded):
        return (None, *map(contiguous, call.rows), counts)
    return (*call.rows, None, None, counts)


def forward(call: Call) -> tuple[Tensor, ...]:
    """See :class:`hierpool.ops.asymmetric_norm.Out`."""
    out: tuple[Tensor, ...] = torch.ops.hierpool_native.asymmetric_norm_forward.default(
        rows(call.s), *_structure(call)
    )
    return out


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the assignment."""
    ds = torch.ops.hierpool_native.asymmetric_norm_backward.default(
        upstream.norm.contiguous(), rows(call.s), *saved, *_structure(call)
    )
    return (ds,)
