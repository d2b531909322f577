"""One vector per graph from the vectors of its nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.nn.masking import valid_rows

READOUTS = ("max", "mean", "sum")


def readout(x: Tensor, mask: Tensor | None = None, kind: str = "max") -> Tensor:
    """Reduce node features over the valid nodes of each graph.

    Args:
        x: ``[B, N, F]``.
        mask: valid nodes ``[B, N]`` (non-zero is valid); ``None``: all are. Padding, NaN included, is not read.
        kind: ``"max"``, ``"mean"`` or ``"sum"``.

    Returns:
        ``[B, F]``; 0 for a graph without valid nodes.

    Raises:
        ValueError: unknown ``kind``, or a mask of another shape.
    """
    if kind not in READOUTS:
        raise ValueError(f"kind must be one of {READOUTS}, got {kind!r}")
    if x.size(1) == 0:
        return x.new_zeros(x.size(0), x.size(2))
    valid = valid_rows(mask, (x.size(0), x.size(1)))
    if valid is None:
        return x.amax(1) if kind == "max" else x.mean(1) if kind == "mean" else x.sum(1)
    if kind == "max":
        largest = torch.where(valid[..., None], x, -torch.inf).amax(1)
        return torch.where(valid.any(1, keepdim=True), largest, 0)
    total = torch.where(valid[..., None], x, 0).sum(1)
    return total if kind == "sum" else total / valid.sum(1, keepdim=True).clamp(min=1)
