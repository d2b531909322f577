"""Graphs, padded or ragged, as the launchers take them."""

from __future__ import annotations

from torch import Tensor

from hierpool import contract
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.rows import Rows


def adjacency(adj: contract.Dense | contract.Csr) -> Dense | Csr:
    """The adjacency."""
    if isinstance(adj, contract.Dense):
        return Dense.of(adj.value)
    return Csr(adj.rowptr, adj.col, adj.value, adj.rowptr_t, adj.col_t, adj.value_t)


def rows_of(s: Tensor, rows: contract.Padded | contract.Ragged) -> Rows:
    """Which rows of ``s`` belong to which graph."""
    if isinstance(rows, contract.Ragged):
        return Rows.ragged(rows.ptr, s.size(0))
    return Rows.padded(s.size(0), s.size(1), *rows)
