"""Selecting the valid rows of a padded batch."""

from __future__ import annotations

import torch
from torch import Tensor


def valid_rows(mask: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    """The mask as bool ``[B, N]``.

    Raises:
        ValueError: the mask is not of the given shape.
    """
    if mask is None:
        return None
    if mask.shape != shape:
        raise ValueError(f"mask must have shape {list(shape)} (graphs, nodes), got {list(mask.shape)}")
    return mask if mask.dtype == torch.bool else mask != 0


def select_valid(x: Tensor, adj: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """A batch whose padding is exactly zero, whatever it held before (NaN and inf included).

    Args:
        x: node features ``[B, N, F]``, floating point.
        adj: adjacency ``[B, N, N]``, any dtype.
        mask: valid nodes ``[B, N]`` (non-zero is valid), or ``None`` if all are.

    Returns:
        ``x``, ``adj`` in the dtype of ``x``, and the mask as bool.

    Raises:
        ValueError: shapes that disagree.
    """
    if x.dim() != 3:
        raise ValueError(f"x must have shape [graphs, nodes, features], got {list(x.shape)}")
    graphs, nodes = x.shape[:2]
    if adj.shape != (graphs, nodes, nodes):
        raise ValueError(f"adj must have shape {[graphs, nodes, nodes]} to match x, got {list(adj.shape)}")
    valid = valid_rows(mask, (graphs, nodes))
    adj = adj.to(x.dtype)
    if valid is None:
        return x, adj, None
    return (
        torch.where(valid[:, :, None], x, 0),
        torch.where(valid[:, :, None] & valid[:, None, :], adj, 0),
        valid,
    )
