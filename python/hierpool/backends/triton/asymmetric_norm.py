"""The asymmetric norm by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.backends.triton._layout import prepared, rows_of
from hierpool_kernels.asymmetric_norm import launch_asymmetric_norm_bwd, launch_asymmetric_norm_fwd
from hierpool_kernels.core.target import target_of

if TYPE_CHECKING:
    from hierpool.ops.asymmetric_norm import Call, Leaves, Saved, Upstream

__all__ = ["backward", "forward", "prepared"]


def forward(call: Call) -> tuple[Tensor, ...]:
    """See :class:`hierpool.ops.asymmetric_norm.Out`."""
    s, rows, num_clusters, _ = call
    return launch_asymmetric_norm_fwd(s, rows_of(s, rows, num_clusters), target_of(s.device))


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the assignment."""
    s, rows, num_clusters, _ = call
    where = rows_of(s, rows, num_clusters)
    return (launch_asymmetric_norm_bwd(upstream.norm, s, *saved, where, target_of(s.device)),)
