"""The total variation by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.backends.triton._layout import adjacency, prepared, rows_of
from hierpool_kernels.core.target import target_of
from hierpool_kernels.total_variation import launch_total_variation_bwd, launch_total_variation_fwd

if TYPE_CHECKING:
    from hierpool.ops.total_variation import Call, Leaves, Upstream

__all__ = ["backward", "forward", "prepared"]


def forward(call: Call) -> tuple[Tensor, Tensor]:
    """The variation and the number of entries of each graph."""
    s, adj, rows, _ = call
    return launch_total_variation_fwd(s, adjacency(adj), rows_of(s, rows), target_of(s.device))


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor]:
    """Gradients of the assignment and of the entries."""
    s, adj, rows, _ = call
    target = target_of(s.device)
    return launch_total_variation_bwd(
        upstream.variation, s, adjacency(adj), rows_of(s, rows), tuple(needs), target
    )
