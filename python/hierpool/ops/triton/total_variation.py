"""``hierpool::total_variation`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool.ops.triton._layout import layout
from hierpool_kernels.adjacency import Csr
from hierpool_kernels.target import target_of
from hierpool_kernels.total_variation import launch_total_variation_bwd, launch_total_variation_fwd


def forward(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The outputs of the operator."""
    edges, batch = layout(s, adj, rowptr, col, ptr, mask, num_nodes)
    return launch_total_variation_fwd(s, edges, batch, target_of(s.device))


def backward(
    dvariation: Tensor,
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to ``s`` and ``adj``; of size 0 where they are not needed."""
    edges, batch = layout(s, adj, rowptr, col, ptr, mask, num_nodes)
    if isinstance(edges, Csr):
        edges = edges._replace(rowptr_t=rowptr_t, col_t=col_t, value_t=value_t)
    return launch_total_variation_bwd(dvariation, s, edges, batch, needs, target_of(s.device))
