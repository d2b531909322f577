"""Total variation and edge distances in plain PyTorch, with temporaries of N x N or E x K elements."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, ranges_of
from hierpool.reference.soft_pool_dense import valid_rows


def total_variation(
    s: Tensor, adj: Tensor, mask: Tensor | None = None, num_nodes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """:func:`hierpool.total_variation` of a padded batch, differentiable any number of times by autograd.

    Args:
        s: :math:`S` ``[B, N, K]``.
        adj: :math:`A` ``[B, N, N]``.
        mask: bool ``[B, N]``. Exclusive with ``num_nodes``.
        num_nodes: int64 ``[B]``.
    """
    rows, a, _ = _padded(s, adj, mask, num_nodes)
    distances = _distances(rows)
    nonzero = a != 0
    # Where A is 0, terms are 0 also for infinite distances, and finite distances remain as derivatives.
    terms = torch.where(nonzero | distances.isfinite(), a * distances, 0)
    return terms.sum((1, 2), dtype=torch.float64).to(terms.dtype), nonzero.sum((1, 2)).to(terms.dtype)


def total_variation_csr(
    s: Tensor, rowptr: Tensor, col: Tensor, value: Tensor | None, ptr: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for a ragged batch: ``s`` ``[N, K]``, entries ``value`` ``[E]`` (``None``: 1), graphs from ``ptr``."""
    acc = accumulation_dtype(s, value)
    row = ranges_of(rowptr, col.numel())
    terms = _ends_apart(s.to(acc), row, col).abs().sum(1)
    nonzero = torch.ones(col.numel(), dtype=torch.bool, device=s.device)
    if value is not None:
        nonzero = value != 0
        terms = torch.where(nonzero | terms.isfinite(), value.to(acc) * terms, 0)
    graph = ranges_of(ptr, s.size(0))[row.long()]
    zeros = torch.zeros(ptr.numel() - 1, dtype=torch.float64, device=s.device)
    variation, entries = (zeros.index_add(0, graph, t.double()) for t in (terms, nonzero))
    return variation.to(acc), entries.to(acc)


def edge_distances(rowptr: Tensor, col: Tensor, x: Tensor) -> Tensor:
    """The distances of :func:`hierpool.edge_distances`, differentiable any number of times by autograd.

    Args:
        rowptr: first entry of each row of :math:`A`, ``[N + 1]``.
        col: column of each entry, ``[E]``.
        x: :math:`X`, ``[N, F]``.
    """
    apart = _ends_apart(x.to(accumulation_dtype(x)), ranges_of(rowptr, col.numel()), col)
    return apart.abs().sum(1).to(x.dtype)


def _padded(
    s: Tensor, adj: Tensor, mask: Tensor | None, num_nodes: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """S ``[B, N, K]`` and A ``[B, N, N]``, 0 in padding, and which pairs of nodes are valid."""
    acc = accumulation_dtype(s, adj)
    valid = valid_rows(s, mask, num_nodes)
    if valid is None:
        valid = torch.ones(s.shape[:2], dtype=torch.bool, device=s.device)
    both = valid[:, :, None] & valid[:, None, :]
    return torch.where(valid[..., None], s.to(acc), 0), torch.where(both, adj.to(acc), 0), both


def _distances(rows: Tensor) -> Tensor:
    """The L1 distances of all pairs of rows, ``[B, N, N]``. A loop over clusters avoids a ``[B, N, N, K]`` tensor."""
    total = rows.new_zeros(*rows.shape[:2], rows.size(1))
    for k in rows.unbind(2):
        total = total + (k[:, :, None] - k[:, None, :]).abs()
    return total


def _ends_apart(x: Tensor, row: Tensor, col: Tensor) -> Tensor:
    """x_i - x_j at every entry, ``[E, F]``."""
    return x[row.long()] - x[col.long()]
