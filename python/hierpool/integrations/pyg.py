"""PyTorch Geometric's dense pooling functions, with its signatures and values."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.soft_pool import pool_fields


def _promote(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    return value.unsqueeze(0) if value.dim() == 2 else value


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
    x, adj, s = _promote("x", x), _promote("adj", adj), _promote("s", s)
    if isinstance(mask, Tensor):
        if mask.numel() != s.size(0) * s.size(1):
            raise ValueError(
                f"mask must be viewable as [B, N] = [{s.size(0)}, {s.size(1)}], got shape {tuple(mask.shape)}"
            )
        mask = mask.reshape(s.size(0), s.size(1))
    if adj.dim() != 3:
        raise ValueError(f"adj must have shape [B, N, N] or [N, N], got {tuple(adj.shape)}")
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
    dtype = torch.promote_types(x.dtype, s.dtype)
    return out, out_adj.to(s.dtype), link_loss.to(dtype), ent_loss.to(dtype)
