"""The cross-entropy link loss by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.backends.reference.graph_build import transpose
from hierpool.backends.triton._layout import adjacency, prepared, rows_of
from hierpool_kernels.core.adjacency import Csr
from hierpool_kernels.core.target import target_of
from hierpool_kernels.link_bce import launch_link_bce_bwd, launch_link_bce_fwd

if TYPE_CHECKING:
    from hierpool.ops.link_bce import Call, Leaves, Upstream

__all__ = ["backward", "forward", "prepared"]


def _with_transpose(edges: Csr) -> Csr:
    rowptr_t, col_t, source = transpose(edges.rowptr, edges.col, edges.rowptr.numel() - 1)
    value_t = None if edges.value is None else edges.value[source]
    return edges._replace(rowptr_t=rowptr_t, col_t=col_t, value_t=value_t)


def forward(call: Call) -> tuple[Tensor]:
    """The loss."""
    s, adj, rows, eps, (normalize, symmetric, _) = call
    target = target_of(s.device)
    return (
        launch_link_bce_fwd(s, adjacency(adj), rows_of(s, rows), eps.item(), normalize, symmetric, target),
    )


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor]:
    """Gradients of the assignment and of the entries."""
    s, adj, rows, eps, (normalize, symmetric, _) = call
    edges = adjacency(adj)
    if needs.s and not symmetric and isinstance(edges, Csr):
        edges = _with_transpose(edges)
    return launch_link_bce_bwd(
        upstream.loss,
        s,
        edges,
        rows_of(s, rows),
        eps.item(),
        normalize,
        symmetric,
        tuple(needs),
        target_of(s.device),
    )
