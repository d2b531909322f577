"""Graphs, padded or ragged, as the kernels take them."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.adjacency import Csr, Dense
from hierpool_kernels.batch import Batch, near, numbers


def layout(
    s: Tensor,
    adj: Tensor | None,
    rowptr: Tensor | None,
    col: Tensor | None,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
) -> tuple[Dense | Csr, Batch]:
    """The adjacency, of numbers, and which rows are whose."""
    if rowptr is None:
        assert adj is not None
        return Dense(numbers(near(adj))), Batch.padded(s.size(0), s.size(1), mask, num_nodes)
    assert col is not None
    assert ptr is not None
    return Csr(rowptr, col, adj), Batch.ragged(ptr, s.size(0))
