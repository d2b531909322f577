"""The cross-entropy link loss by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.backends.triton._layout import adjacency, prepared, rows_of
from hierpool_kernels.core.target import target_of
from hierpool_kernels.link_bce import launch_link_bce_bwd, launch_link_bce_fwd

if TYPE_CHECKING:
    from hierpool.ops.link_bce import Call, Leaves, Upstream

__all__ = ["backward", "forward", "prepared"]


def forward(call: Call) -> tuple[Tensor]:
    """The loss."""
    s, adj, rows, eps, (normalize, symmetric, _) = call
    target = target_of(s.device)
    return (
        launch_link_bce_fwd(
            s, adjacency(adj), rows_of(s, rows, products=True), eps.item(), normalize, symmetric, target
        ),
    )


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor]:
    """Gradients of the assignment and of the entries."""
    s, adj, rows, eps, (normalize, symmetric, _) = call
    return launch_link_bce_bwd(
        upstream.loss,
        s,
        adjacency(adj),
        rows_of(s, rows, products=True),
        eps.item(),
        normalize,
        symmetric,
        tuple(needs),
        target_of(s.device),
    )
