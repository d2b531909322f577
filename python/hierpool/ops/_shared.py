"""Arguments that all graphs of a padded batch share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def is_one_batch(rows: Tensor, adj: Tensor, mask: Tensor | None) -> bool:
    """Whether :func:`as_one_batch` would change nothing, which takes less time to find out than to do."""
    shape = rows.shape
    return (
        len(shape) == 3 <= adj.dim() and shape[0] == adj.size(0) and (mask is None or mask.shape == shape[:2])
    )


def as_one_batch(
    x: Tensor | None, adj: Tensor | None, s: Tensor | None, mask: Tensor | None
) -> tuple[Any, Any, Any, Any]:
    """Features, adjacency, assignment and mask of one padded batch.

    An argument without a dimension of graphs, or with one graph, belongs to all graphs. It is expanded, not copied.
    Arguments that do not fit are returned as they are, for the checks that follow.
    """
    parts = [
        t.unsqueeze(0) if t is not None and t.dim() == dims else t
        for t, dims in ((x, 2), (adj, 2), (s, 2), (mask, 1))
    ]
    several = [t.size(0) for t in parts if t is not None and t.dim() > 1 and t.size(0) != 1]
    if several:
        parts = [_of_graphs(t, several[0]) for t in parts]
    x, adj, s, mask = parts
    return x, adj, s, mask


def _of_graphs(t: Tensor | None, graphs: int) -> Tensor | None:
    """``t`` expanded, if it has one graph."""
    if t is None or t.dim() < 2 or t.size(0) != 1:
        return t
    return t.expand(graphs, *[-1] * (t.dim() - 1))


def one_matrix(adj: Tensor) -> Tensor:
    """``adj [B, N, N]`` as ``[1, N, N]``, if it is one matrix for all graphs."""
    return adj[:1] if adj.stride(0) == 0 and adj.size(0) > 1 else adj


def pairs(valid: Tensor, adj: Tensor) -> Tensor:
    """The pairs of valid nodes ``[B, N, N]``, or, if ``adj`` is ``[1, N, N]``, those of any graph."""
    if adj.shape[0] == valid.shape[0]:
        return valid[:, :, None] & valid[:, None, :]
    counts = valid.to(torch.float32)
    return (counts.mT @ counts > 0)[None]
