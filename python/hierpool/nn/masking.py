"""Selecting the valid rows of a padded batch, and checking a ragged one."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph


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


def as_batch(name: str, value: object) -> Tensor:
    """A matrix as a batch of one, as PyTorch Geometric's dense layers take it.

    Raises:
        TypeError: it is no tensor; ``name`` is what the message calls it.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    return value.unsqueeze(0) if value.dim() == 2 else value


def viewed_mask(mask: Tensor | None, shape: tuple[int, int]) -> Tensor | None:
    """A mask of any shape with as many elements as ``[B, N]``, in this shape and as bool: PyTorch Geometric takes it.

    Raises:
        TypeError: it is no tensor.
        ValueError: it has more or fewer elements.
    """
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a torch.Tensor, got {type(mask).__name__}")
    if tuple(mask.shape) == shape:
        return valid_rows(mask, shape)
    if mask.numel() != shape[0] * shape[1]:
        raise ValueError(f"mask must be viewable as [B, N] = {list(shape)}, got shape {tuple(mask.shape)}")
    return valid_rows(mask.reshape(shape), shape)


def select_valid(
    x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None
) -> tuple[Tensor, Tensor | RaggedGraph, Tensor | None]:
    """A batch whose padding is exactly zero, whatever it held before (NaN and inf included).

    Args:
        x: node features ``[B, N, F]``, floating point; ``[N, F]`` with a ragged graph.
        adj: adjacency ``[B, N, N]``, any dtype, or a ragged graph.
        mask: valid nodes ``[B, N]`` (non-zero is valid), or ``None`` if all are.

    Returns:
        ``x``, ``adj`` in the dtype of ``x``, and the mask as bool.

    Raises:
        ValueError: shapes that disagree, or a mask beside a ragged graph.
    """
    if isinstance(adj, RaggedGraph):
        return x, _ragged(x, adj, mask), None
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


def _ragged(x: Tensor, graph: RaggedGraph, mask: Tensor | None) -> RaggedGraph:
    """The graph, checked against its features, with weights in their dtype."""
    if mask is not None:
        raise ValueError("mask must not be given with a ragged graph, which has no padding")
    if x.dim() != 2 or x.size(0) != graph.num_nodes:
        raise ValueError(
            f"x must have shape [{graph.num_nodes}, features] (nodes of all graphs), got {list(x.shape)}"
        )
    return graph if graph.value is None else graph.to(dtype=x.dtype)
