"""Dense soft pooling in plain PyTorch, written like the formulas."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, existing_clusters


class SumOptions(NamedTuple):
    """Options of the functions for dense and for sparse adjacencies.

    Attributes:
        given: take the logits as :math:`S`.
        want_gram: compute :math:`S^T S`.
        want_link: compute ``link_sq`` and ``link_norm`` (needs ``want_gram``).
        want_entropy: compute the entropies.
        mean: divide ``total_entropy`` by :math:`B N` and ``link_norm`` by :math:`B N^2`, where :math:`N` is the
            number of rows of a padded graph, or the number of nodes of the largest graph of a ragged batch.
    """

    given: bool = False
    want_gram: bool = True
    want_link: bool = True
    want_entropy: bool = True
    mean: bool = False


class DenseForward(NamedTuple):
    """The packed record, A S, and whether each A is symmetric."""

    s: Tensor  # [B, N, K]
    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, R, K, K]
    gram: Tensor  # [B, K, K], or [B, 0, 0] if not wanted
    vectors: Tensor  # [B, 1 + R, K]
    scalars: Tensor  # [B, 2 + 4R]
    total_entropy: Tensor  # []
    link_norm: Tensor  # [R]
    m: Tensor  # [B, R, N, K]  A S
    symmetric: Tensor  # [B, R]  bool


def valid_rows(logits: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor | None:
    """The valid rows as bool ``[B, N]``, or ``None`` if all are valid; those of the mask if there is one."""
    if mask is None and num_nodes is not None:
        return torch.arange(logits.size(1), device=logits.device) < num_nodes[:, None]
    return mask


def mean_counts(s: Tensor, mean: bool) -> tuple[int, int]:
    """The divisors of the total entropy and the link norm of a padded batch ``[B, N, K]``."""
    rows = max(s.size(0) * s.size(1), 1) if mean else 1
    return rows, rows * max(s.size(1), 1) if mean else 1


def _select(adj: Tensor, valid: Tensor | None, dtype: torch.dtype) -> Tensor:
    """A on valid rows and columns, zero elsewhere, ``[B, R, N, N]``."""
    adj = adj.to(dtype)
    if valid is None:
        return adj
    both = valid[:, None, :, None] & valid[:, None, None, :]
    return torch.where(both, adj, adj.new_zeros(()))


def soft_pool_dense(
    logits: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    temperature: Tensor | None = None,
    num_clusters: Tensor | None = None,
    **options: bool,
) -> DenseForward:
    r"""Soft pooling of a padded batch, differentiable any number of times by autograd.

    It computes :math:`S = m \odot \mathrm{softmax}(L / T)` and the sums of :class:`hierpool.SoftPoolRecord`. Sums are
    taken in float32, or in float64 if an input is float64. :math:`S` is rounded to the dtype of the logits, and the
    rounded :math:`S` is used in all sums.

    Args:
        logits: :math:`L` ``[B, N, K]``, or :math:`S` itself with ``given=True``.
        x: :math:`X` ``[B, N, F]``.
        adj: :math:`A` ``[B, R, N, N]``, one matrix per edge type.
        mask: bool ``[B, N]``; selects rows of all inputs. Exclusive with ``num_nodes``.
        num_nodes: int64 ``[B]``: the first ``num_nodes[b]`` rows of graph ``b`` are valid.
        temperature: :math:`T`, 0-d.
        num_clusters: int64 ``[B]``: the first ``num_clusters[b]`` columns are the clusters of graph ``b``.
        options: fields of :class:`SumOptions`.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    given, want_gram, want_link, want_entropy, mean = SumOptions(**options)
    acc = accumulation_dtype(logits, x, adj)
    valid = valid_rows(logits, mask, num_nodes)
    exists = None if num_clusters is None else existing_clusters(num_clusters, logits.size(-1))[:, None]
    s = assign(logits.to(acc), valid, exists, temperature, given).to(logits.dtype)
    p = s.to(acc)
    a = _select(adj, valid, acc)
    features = x.to(acc)
    if valid is not None:
        features = torch.where(valid[..., None], features, features.new_zeros(()))

    p_t = p.transpose(1, 2)
    m = a @ p[:, None]  # [B, R, N, K]
    degree = a.sum(-1)  # [B, R, N]
    adj_pooled = p_t[:, None] @ m
    gram = p_t @ p if want_gram else p.new_empty(p.size(0), 0, 0)
    volume = torch.einsum("bnk,brn->brk", p, degree)
    vectors = torch.cat([p.sum(1, keepdim=True), volume], 1)

    rows = p.new_full((p.size(0),), p.size(1)) if valid is None else valid.sum(-1).to(acc)
    entropy = row_entropy(p).sum(-1) if want_entropy else torch.full_like(rows, torch.nan)
    cut_degree = (degree * p.square().sum(-1)[:, None]).sum(-1)
    # In float64, which has room for the squares of weights.
    adj_sq = a.double().square().sum((-1, -2))
    if want_link:
        link_sq = (a - (p @ p_t)[:, None]).double().square().sum((-1, -2))
    else:
        link_sq = torch.full_like(adj_sq, torch.nan)
    adj_norm, link = (safe_root(square).to(acc) for square in (adj_sq, link_sq))
    scalars = torch.cat([rows[:, None], entropy[:, None], cut_degree, adj_norm, degree.sum(-1), link], 1)
    entropy_count, link_count = mean_counts(logits, mean)
    total_entropy = entropy.sum() / entropy_count
    link_norm = (safe_root(link_sq.sum(0)) / link_count).to(acc)
    symmetric = (a == a.transpose(-1, -2)).all(-1).all(-1)
    pooled = (p_t @ features).to(x.dtype)
    return DenseForward(s, pooled, adj_pooled, gram, vectors, scalars, total_entropy, link_norm, m, symmetric)


def assign(
    logits: Tensor, valid: Tensor | None, exists: Tensor | None, temperature: Tensor | None, given: bool
) -> Tensor:
    """S on ``valid`` rows and, of each row, in the columns that ``exists``; zero elsewhere."""
    inside = None if valid is None else valid[..., None]
    if exists is not None:
        inside = exists if inside is None else exists & inside
    if not given:
        if inside is not None:  # NaN or inf in padding must not reach the gradient of softmax
            logits = torch.where(inside, logits, logits.new_zeros(()))
        logits = logits if temperature is None else logits / temperature.to(logits.dtype)
        if exists is not None:
            logits = torch.where(exists, logits, logits.new_full((), -torch.inf))
        logits = logits.softmax(-1)
    return logits if inside is None else torch.where(inside, logits, logits.new_zeros(()))


def row_entropy(p: Tensor) -> Tensor:
    """Entropy of each row; 0 log 0 is 0 and has gradient 0."""
    return -(p * torch.where(p > 0, p, p.new_ones(())).log()).sum(-1)


def safe_root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0; NaN stays NaN."""
    zero = square == 0
    return torch.where(zero, square.new_zeros(()), torch.where(zero, square.new_ones(()), square).sqrt())
