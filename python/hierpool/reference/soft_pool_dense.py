"""Dense soft pooling in plain PyTorch: the formulas as they are written, in the order they are written."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class DenseForward(NamedTuple):
    """All outputs of the operator: the packed record and what its backward needs."""

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


class Saved(NamedTuple):
    """The outputs of the forward that the backward reads."""

    s: Tensor
    gram: Tensor
    link_norm: Tensor
    m: Tensor
    symmetric: Tensor


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any tensor is, else float32: what every sum over nodes is taken in."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def valid_rows(logits: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor | None:
    """The valid rows as bool ``[B, N]``, or ``None`` if all of them are."""
    if num_nodes is not None:
        return torch.arange(logits.size(1), device=logits.device) < num_nodes[:, None]
    return mask


def mean_counts(s: Tensor, mean: bool) -> tuple[int, int]:
    """What the total entropy and the link norm of a padded batch ``[B, N, K]`` are divided by."""
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
    *,
    given: bool = False,
    want_gram: bool = True,
    want_link: bool = True,
    want_entropy: bool = True,
    mean: bool = False,
) -> DenseForward:
    r"""Soft pooling of a padded batch, differentiable any number of times by autograd.

    :math:`S = m \odot \mathrm{softmax}(L / T)`, then the sums listed in :class:`hierpool.SoftPoolRecord`.
    Sums are taken in float32, or float64 if any input is; :math:`S` is rounded to the dtype of the logits once
    and that :math:`S` is used everywhere.

    Args:
        logits: :math:`L` ``[B, N, K]``, or :math:`S` itself if ``given``.
        x: :math:`X` ``[B, N, F]``.
        adj: :math:`A` ``[B, R, N, N]``, one matrix per edge type.
        mask: bool ``[B, N]``; selects rows of all inputs. Exclusive with ``num_nodes``.
        num_nodes: int64 ``[B]``: the first ``num_nodes[b]`` rows of graph ``b`` are valid.
        temperature: :math:`T`, 0-d.
        given: take ``logits`` as :math:`S`.
        want_gram: compute :math:`S^T S`.
        want_link: compute ``link_sq`` and ``link_norm`` (needs ``want_gram``).
        want_entropy: compute the entropies.
        mean: divide ``total_entropy`` by :math:`B N` and ``link_norm`` by :math:`B N^2`, padding counted.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    acc = accumulation_dtype(logits, x, adj)
    valid = valid_rows(logits, mask, num_nodes)
    s = assign(logits.to(acc), valid, temperature, given).to(logits.dtype)
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
    adj_sq = a.square().sum((-1, -2), dtype=torch.float64)
    if want_link:
        # A difference of large sums: combined in float64 whatever the inputs are.
        trace = (p[:, None] * m).sum((-1, -2), dtype=torch.float64)
        gram_sq = gram.square().sum((-1, -2), dtype=torch.float64)[:, None]
        link_sq = (adj_sq - 2 * trace + gram_sq).clamp(min=0)
    else:
        link_sq = torch.full_like(adj_sq, torch.nan)
    scalars = torch.cat(
        [rows[:, None], entropy[:, None], cut_degree, adj_sq.to(acc), degree.sum(-1), link_sq.to(acc)], 1
    )
    entropy_count, link_count = mean_counts(logits, mean)
    total_entropy = entropy.sum() / entropy_count
    link_norm = (safe_root(link_sq.sum(0)) / link_count).to(acc)
    symmetric = (a == a.transpose(-1, -2)).all(-1).all(-1)
    pooled = (p_t @ features).to(x.dtype)
    return DenseForward(s, pooled, adj_pooled, gram, vectors, scalars, total_entropy, link_norm, m, symmetric)


def assign(logits: Tensor, valid: Tensor | None, temperature: Tensor | None, given: bool) -> Tensor:
    """S on valid rows, zero elsewhere."""
    if not given:
        if valid is not None:  # NaN or inf in padding must not reach the gradient of softmax
            logits = torch.where(valid[..., None], logits, logits.new_zeros(()))
        logits = logits if temperature is None else logits / temperature.to(logits.dtype)
        logits = logits.softmax(-1)
    return logits if valid is None else torch.where(valid[..., None], logits, logits.new_zeros(()))


def row_entropy(p: Tensor) -> Tensor:
    """Entropy of each row; 0 log 0 is 0 and has gradient 0."""
    return -(p * torch.where(p > 0, p, p.new_ones(())).log()).sum(-1)


def safe_root(square: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0; NaN stays NaN."""
    zero = square == 0
    return torch.where(zero, square.new_zeros(()), torch.where(zero, square.new_ones(()), square).sqrt())


def soft_pool_dense_backward(
    grads: tuple[Tensor | None, ...],
    forward: DenseForward | Saved,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    *,
    given: bool,
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    r"""Gradients to logits (or S), X and A, by the closed formulas rather than by autograd.

    .. math::
        dS = dS_{out} + X\,dx^T + \sum_r (M_r\,dadj_r^T + M'_r\,dadj_r) + S (dgram + dgram^T) + 1\,dsize^T
             + \sum_r \bigl( d_r\,dvolume_r^T + 2\,dcut_r\,(d_r \odot S) + dlink_r (4 S\,gram - 2 M_r - 2 M'_r) \bigr)
             - dentropy (1 + \log S)

    with :math:`M = A S`, :math:`M' = A^T S`; :math:`dL = \frac1T P \odot (dS - \mathrm{rowsum}(P \odot dS))` on
    valid rows and 0 elsewhere; :math:`dX = S\,dx`.

    Args:
        grads: upstream gradients of ``(s, x, adj, gram, vectors, scalars, total_entropy, link_norm)``, ``None``
            where not given.
        forward: the outputs of :func:`soft_pool_dense`.
        needs: which of ``(logits, x, adj)`` need a gradient.
    """
    ds_out, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm = grads
    acc = forward.m.dtype
    channels = adj.size(1)
    p = forward.s.to(acc)
    valid = valid_rows(p, mask, num_nodes)
    a = _select(adj, valid, acc)
    features = x.to(acc)
    if valid is not None:
        features = torch.where(valid[..., None], features, features.new_zeros(()))
    zeros = p.new_zeros
    dx = zeros(p.size(0), p.size(2), x.size(2)) if dx is None else dx.to(acc)
    dadj = zeros(p.size(0), channels, p.size(2), p.size(2)) if dadj is None else dadj.to(acc)
    dscalars = zeros(p.size(0), 2 + 4 * channels) if dscalars is None else dscalars
    dtotal_entropy = zeros(()) if dtotal_entropy is None else dtotal_entropy
    dlink_norm = zeros(channels) if dlink_norm is None else dlink_norm
    dvectors = zeros(p.size(0), 1 + channels, p.size(2)) if dvectors is None else dvectors
    dcut, dadj_sq, dtotal, dlink = dscalars[:, 2:].unflatten(1, (4, channels)).unbind(1)  # [B, R]
    # d sqrt(u) = du / (2 sqrt(u)), and 0 where the norm is 0 (or was not computed)
    entropy_count, link_count = mean_counts(p, mean)
    norm = forward.link_norm * link_count
    dlink = dlink + torch.where(norm > 0, dlink_norm / (2 * link_count * norm), zeros(()))
    dlink = torch.where(norm.isnan(), zeros(()), dlink)
    dentropy = dscalars[:, 1] + dtotal_entropy / entropy_count
    degree = a.sum(-1)
    eye = torch.eye(p.size(2), dtype=acc, device=p.device)
    core = dadj - 2 * dlink[..., None, None] * eye  # [B, R, K, K]

    dlogits = dfeatures = dadjacency = None
    if needs[0]:
        ds = features @ dx.transpose(1, 2) + dvectors[:, :1]
        ds = ds + (forward.m @ core.transpose(-1, -2) + (a.transpose(-1, -2) @ p[:, None]) @ core).sum(1)
        if forward.gram.size(1):
            ds = ds + 4 * p @ (dlink.sum(1)[:, None, None] * forward.gram)
        if dgram is not None:
            ds = ds + p @ (dgram + dgram.transpose(1, 2))
        ds = ds + torch.einsum("brn,brk->bnk", degree, dvectors[:, 1:])
        ds = ds + 2 * torch.einsum("br,brn->bn", dcut, degree)[..., None] * p
        ds = ds - dentropy[:, None, None] * torch.where(p > 0, 1 + p.log(), zeros(()))
        ds = ds if ds_out is None else ds + ds_out
        if not given:
            ds = p * (ds - (p * ds).sum(-1, keepdim=True))
            ds = ds if temperature is None else ds / temperature.to(acc)
        dlogits = (ds if valid is None else torch.where(valid[..., None], ds, zeros(()))).to(forward.s.dtype)
    if needs[1]:
        dfeatures = (p @ dx).to(x.dtype)
    if needs[2]:
        row = torch.einsum("bnk,brk->brn", p, dvectors[:, 1:]) + dtotal[..., None]
        row = row + dcut[..., None] * p.square().sum(-1)[:, None]
        da = p[:, None] @ core @ p[:, None].transpose(-1, -2) + row[..., None]
        da = da + 2 * (dadj_sq + dlink)[..., None, None] * a
        dadjacency = _select(da, valid, acc).to(adj.dtype)
    return dlogits, dfeatures, dadjacency
