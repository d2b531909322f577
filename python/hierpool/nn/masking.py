"""Set the padding of a batch to 0, and check its shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.ops._checks import valid_rows


def select_valid(
    x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None
) -> tuple[Tensor, Tensor | RaggedGraph, Tensor | None]:
    """Set the padding of a batch to exactly 0, also where it is NaN or inf.

    Args:
        x: node features ``[B, N, F]``, floating point; ``[N, F]`` with a ragged graph.
        adj: adjacency ``[B, N, N]``, any dtype, or a ragged graph.
        mask: valid nodes ``[B, N]``, non-zero means valid; ``None``: all are valid.

    Returns:
        ``x``, ``adj`` in the dtype of ``x``, and the mask as bool.

    Raises:
        ValueError: shapes do not match, or a mask is given with a ragged graph.
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
    """Check the graph against its features; return it with weights in the dtype of the features."""
    if mask is not None:
        raise ValueError("mask must not be given with a ragged graph, which has no padding")
    if x.dim() != 2 or x.size(0) != graph.num_nodes:
        raise ValueError(
            f"x must have shape [{graph.num_nodes}, features] (nodes of all graphs), got {list(x.shape)}"
        )
    return graph if graph.value is None else graph.to(dtype=x.dtype)
