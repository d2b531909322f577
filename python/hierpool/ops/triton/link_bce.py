"""``hierpool::link_bce`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool.ops.fallback.csr import transpose
from hierpool.ops.triton._layout import layout
from hierpool_kernels.adjacency import Csr
from hierpool_kernels.link_bce import launch_link_bce_bwd, launch_link_bce_fwd
from hierpool_kernels.target import target_of


def _with_transpose(edges: Csr) -> Csr:
    rowptr_t, col_t, source = transpose(edges.rowptr, edges.col)
    value_t = None if edges.value is None else edges.value[source]
    return edges._replace(rowptr_t=rowptr_t, col_t=col_t, value_t=value_t)


def forward(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    eps: float,
    normalize: str | None,
    symmetric: bool,
) -> Tensor:
    """The loss."""
    edges, batch = layout(s, adj, rowptr, col, ptr, mask, num_nodes)
    return launch_link_bce_fwd(s, edges, batch, eps, normalize, symmetric, target_of(s.device))


def backward(
    dloss: Tensor,
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    eps: float,
    normalize: str | None,
    symmetric: bool,
    needs: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    """Gradients to ``s`` and ``adj``; of size 0 where they are not needed."""
    edges, batch = layout(s, adj, rowptr, col, ptr, mask, num_nodes)
    if needs[0] and not symmetric and isinstance(edges, Csr):
        edges = _with_transpose(edges)
    return launch_link_bce_bwd(dloss, s, edges, batch, eps, normalize, symmetric, needs, target_of(s.device))
