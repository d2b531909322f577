"""``hierpool::edge_distances`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.adjacency import Csr
from hierpool_kernels.batch import accumulation_dtype
from hierpool_kernels.target import target_of
from hierpool_kernels.total_variation import launch_edge_distances, launch_signed_sums


def forward(
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    source: Tensor | None,
) -> Tensor:
    """The output of the operator."""
    return launch_edge_distances(rowptr, col, x, accumulation_dtype(x), x.dtype, target_of(x.device))


def backward(
    grad: Tensor,
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    source: Tensor | None,
) -> Tensor:
    """The gradient to x."""
    assert source is not None
    grad = grad.contiguous()
    edges = Csr(rowptr, col, grad, rowptr_t, col_t, grad[source])
    return launch_signed_sums(edges, x, accumulation_dtype(x), target_of(x.device))
