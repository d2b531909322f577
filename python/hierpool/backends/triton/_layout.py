"""Graphs, padded or ragged, as the launchers take them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hierpool import contract
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.plan import wide_mask
from hierpool_kernels.core.rows import Rows, ends_of
from hierpool_kernels.core.target import target_of


def adjacency(adj: contract.Dense | contract.Csr) -> Dense | Csr:
    """The adjacency."""
    if isinstance(adj, contract.Dense):
        return Dense.of(adj.value)
    return Csr(adj.rowptr, adj.col, adj.value, adj.rowptr_t, adj.col_t, adj.value_t)


def rows_of(
    s: Tensor,
    rows: contract.Padded | contract.Ragged,
    num_clusters: Tensor | None = None,
    products: bool = False,
) -> Rows:
    """Which rows of ``s`` belong to which graph, and how many of its columns; kernels may have ``products``."""
    clusters = None if num_clusters is None else num_clusters.contiguous()
    if isinstance(rows, contract.Ragged):
        return Rows.ragged(rows.ptr, s.size(0), clusters)
    return Rows.padded(s.size(0), s.size(1), *rows, clusters, products and wide_mask(target_of(s.device)))


def prepared(call: Any) -> Any:
    """``call`` with the ends of the graphs of a mask as their numbers of nodes."""
    rows = call.rows
    if isinstance(rows, contract.Ragged) or rows.mask is None:
        return call
    return call._replace(rows=contract.Padded(rows.mask, ends_of(rows.mask)))
