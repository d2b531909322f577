"""The binary cross-entropy link loss in plain PyTorch, with N x N matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, ranges_of
from hierpool.reference.soft_pool_dense import valid_rows


class _Pairs(NamedTuple):
    """The pairs of nodes: [B, N, N] for a padded batch, or [1, N, N] for all nodes of a ragged batch."""

    s: Tensor  # [.., N, K], 0 in padding
    adj: Tensor  # [.., N, N]
    valid: Tensor  # [.., N, N], bool: both nodes are valid and belong to the same graph
    sizes: Tensor  # [B]: number of valid nodes
    padded: Tensor | int  # number of nodes of a padded graph


def link_bce(
    s: Tensor,
    adj: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    *,
    eps: float | Tensor = 1e-7,
    normalize: str | None = "valid",
) -> Tensor:
    """The loss of :func:`hierpool.link_bce` for a padded batch, differentiable any number of times by autograd.

    Args:
        s: :math:`S` ``[B, N, K]``.
        adj: :math:`A` ``[B, N, N]``.
        mask: bool ``[B, N]``. Exclusive with ``num_nodes``.
        num_nodes: int64 ``[B]``.
        eps: added inside the logarithms.
        normalize: ``"valid"``, ``"numel"`` or ``None``.
    """
    return _loss(_padded(s, adj, mask, num_nodes), eps, normalize)


def link_bce_csr(
    s: Tensor,
    rowptr: Tensor,
    col: Tensor,
    value: Tensor | None,
    ptr: Tensor,
    *,
    eps: float | Tensor = 1e-7,
    normalize: str | None = "valid",
) -> Tensor:
    """The same for a ragged batch: ``s`` ``[N, K]``, entries ``value`` ``[E]`` (``None``: 1), graphs from ``ptr``."""
    return _loss(_ragged(s, rowptr, col, value, ptr), eps, normalize)


def _padded(s: Tensor, adj: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> _Pairs:
    acc = accumulation_dtype(s, adj)
    b, n, _ = s.shape
    valid = valid_rows(s, mask, num_nodes)
    if valid is None:
        valid = torch.ones(b, n, dtype=torch.bool, device=s.device)
    both = valid[:, :, None] & valid[:, None, :]
    zero = torch.zeros((), dtype=acc, device=s.device)
    rows = torch.where(valid[..., None], s.to(acc), zero)
    return _Pairs(rows, torch.where(both, adj.to(acc), zero), both, valid.sum(1), n)


def _ragged(s: Tensor, rowptr: Tensor, col: Tensor, value: Tensor | None, ptr: Tensor) -> _Pairs:
    acc = accumulation_dtype(s, value)
    n, sizes = s.size(0), ptr.diff()
    entries = torch.ones(col.numel(), dtype=acc, device=s.device) if value is None else value.to(acc)
    place = ranges_of(rowptr, col.numel()).to(torch.int64) * n + col
    adj = torch.zeros(n * n, dtype=acc, device=s.device).index_add(0, place, entries).view(1, n, n)
    graph = ranges_of(ptr, n)
    same = (graph[:, None] == graph[None, :])[None]
    return _Pairs(s.to(acc)[None], adj, same, sizes, sizes.max() if sizes.numel() else 0)


def _divisor(pairs: _Pairs, normalize: str | None) -> Tensor:
    """The divisor of the sum, but 1 instead of 0, where the sum is 0."""
    if normalize is None:
        return torch.ones((), dtype=torch.float64, device=pairs.s.device)
    if normalize == "valid":
        count = pairs.sizes.double().square().sum()
    else:
        count = torch.as_tensor(pairs.padded, device=pairs.s.device).double().square() * pairs.sizes.numel()
    return torch.where(count > 0, count, 1)


def _loss(pairs: _Pairs, eps: float | Tensor, normalize: str | None) -> Tensor:
    q = torch.minimum(p := pairs.s @ pairs.s.mT, p.new_ones(()))
    terms = -pairs.adj * (q + eps).log() - (1 - pairs.adj) * (1 - q + eps).log()
    terms = torch.where(pairs.valid, terms, terms.new_zeros(()))
    return (terms.sum(dtype=torch.float64) / _divisor(pairs, normalize)).to(terms.dtype)
