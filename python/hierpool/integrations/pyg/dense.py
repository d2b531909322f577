"""PyTorch Geometric's dense pooling functions, with its signatures and values."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool import finish
from hierpool.nn.masking import as_batch, viewed_mask
from hierpool.ops.soft_pool import pool_fields


def _batch(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Arguments in the shapes of a batch."""
    x, adj, s = as_batch("x", x), as_batch("adj", adj), as_batch("s", s)
    if adj.dim() != 3:
        raise ValueError(f"adj must have shape [B, N, N] or [N, N], got {tuple(adj.shape)}")
    if s.dim() != 3:
        raise ValueError(f"s must have shape [B, N, K] or [N, K], got {tuple(s.shape)}")
    return x, adj, s, viewed_mask(mask, (s.size(0), s.size(1)))


def dense_diff_pool(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    normalize: bool = True,
    *,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""DiffPool with the signature and the values of ``torch_geometric.nn.dense_diff_pool``.

    .. math::
        X' = S^T X, \quad A' = S^T A S, \quad
        L_{LP} = \frac{\| A - S S^T \|_F}{B N^2}, \quad
        L_E = \frac{1}{B N} \sum_{i} H(s_i), \qquad S = m \odot \mathrm{softmax}(s)

    The norm is one over the whole batch and both denominators count padding, as PyG's do.

    Args:
        x: node features, ``[B, N, F]`` or ``[N, F]``.
        adj: adjacency, ``[B, N, N]`` or ``[N, N]``.
        s: assignment logits, ``[B, N, K]`` or ``[N, K]``.
        mask: valid nodes, any shape that can be viewed as ``[B, N]``; non-zero means valid.
        normalize: divide the link loss by ``adj.numel()``.
        symmetric: whether every ``adj`` equals its transpose; ``None`` finds out, exactly.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, link_loss, ent_loss)`` of shapes ``[B, K, F]``, ``[B, K, K]``, ``[]``, ``[]``, in the dtypes of
        ``x`` and ``s``. Unlike PyG: entries of ``adj`` in padded rows or columns are ignored rather than counted
        in the link loss, the entropy is finite in float16, and a link loss of 0 has gradient 0.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    x, adj, s, mask = _batch(x, adj, s, mask)
    out, out_adj, ent_loss, link_loss = pool_fields(
        ("x", "adj", "total_entropy", "link_norm"),
        x,
        adj,
        s,
        mask,
        symmetric=symmetric,
        mean=bool(normalize),
        backend=backend,
    )
    if not normalize:  # PyG's flag is for the link loss alone
        ent_loss = ent_loss / max(s.size(0) * s.size(1), 1)
    dtype = s.dtype
    if out_adj.dtype is dtype is x.dtype:  # a conversion that does nothing takes its time, too
        return out, out_adj, link_loss, ent_loss
    of_losses = torch.promote_types(x.dtype, dtype)
    return out, out_adj.to(dtype), link_loss.to(of_losses), ent_loss.to(of_losses)


def dense_mincut_pool(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    temp: float = 1.0,
    *,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""MinCut pooling with the signature and the values of ``torch_geometric.nn.dense_mincut_pool``.

    .. math::
        X' = S^T X, \quad A' = \hat D^{-1/2} \hat A \hat D^{-1/2}, \quad
        L_c = -\frac{1}{B} \sum_b \frac{\mathrm{tr}(S^T A S)}{\mathrm{tr}(S^T D S)}, \quad
        L_o = \frac{1}{B} \sum_b \Bigl\| \frac{S^T S}{\|S^T S\|_F} - \frac{I_K}{\sqrt K} \Bigr\|_F

    with :math:`S = m \odot \mathrm{softmax}(s / T)`, :math:`D` the row sums of :math:`A`, :math:`\hat A` the matrix
    :math:`S^T A S` without its diagonal and :math:`\hat D` its row sums. No matrix of nodes by nodes is made.

    Args:
        x: node features, ``[B, N, F]`` or ``[N, F]``.
        adj: adjacency, ``[B, N, N]`` or ``[N, N]``.
        s: assignment logits, ``[B, N, K]`` or ``[N, K]``.
        mask: valid nodes, any shape that can be viewed as ``[B, N]``; non-zero means valid.
        temp: :math:`T`, positive.
        symmetric: whether every ``adj`` equals its transpose; ``None`` finds out, exactly.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, mincut_loss, ortho_loss)`` of shapes ``[B, K, F]``, ``[B, K, K]``, ``[]``, ``[]``, in the dtypes of
        ``x`` and ``s``. Unlike PyG: a graph without edges adds 0 to the first loss and one without nodes 0 to both, a
        cluster of degree 0 has row and column 0 in ``adj``, all with gradients of 0, and entries of
        ``adj`` in padded rows or columns are ignored.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481).
    """
    x, adj, s, mask = _batch(x, adj, s, mask)
    pooled = finish.mincut(x, adj, s, mask, temperature=temp, symmetric=symmetric, backend=backend)
    return pooled.x, pooled.adj, *pooled.losses  # type: ignore[return-value]
