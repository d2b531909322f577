"""``hierpool::edge_distances`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference


def forward(
    x: Tensor,
    rowptr: Tensor,
    col: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    source: Tensor | None,
) -> Tensor:
    """The output of the operator."""
    return reference.edge_distances(rowptr, col, x)


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
    return reference.edge_distances_backward(grad, rowptr, col, x)
