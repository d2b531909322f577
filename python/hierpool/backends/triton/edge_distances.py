"""Distances at edges by the Triton kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from hierpool.contract import accumulation_dtype
from hierpool_kernels.core.adjacency import Csr
from hierpool_kernels.core.target import target_of
from hierpool_kernels.edge_distances import launch_edge_distances, launch_signed_sums

if TYPE_CHECKING:
    from hierpool.ops.edge_distances import Call, Leaves, Upstream


def forward(call: Call) -> tuple[Tensor]:
    """The distances."""
    x, adj = call.x, call.adj
    acc = accumulation_dtype(x)
    return (launch_edge_distances(adj.rowptr, adj.col, x, acc, x.dtype, target_of(x.device)),)


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor]:
    """The gradient of the features."""
    x, adj = call.x, call.adj
    assert call.source is not None
    grad = upstream.distance.contiguous()
    edges = Csr(adj.rowptr, adj.col, grad, adj.rowptr_t, adj.col_t, grad[call.source])
    return (launch_signed_sums(edges, x, accumulation_dtype(x), target_of(x.device)),)
