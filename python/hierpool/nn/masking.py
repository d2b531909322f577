"""Set the padding of a batch to 0, and check its shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.ops._checks import ADJ_DTYPES, FLOATS, check_mask, check_tensor, fitted_mask
from hierpool.ops._shared import as_one_batch, is_one_batch, one_matrix, pairs

_WEIGHTS = (*ADJ_DTYPES, torch.int16, torch.int32, torch.int64)  # converted to the dtype of x


def select_valid(
    x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None
) -> tuple[Tensor, Tensor | RaggedGraph, Tensor | None]:
    """Set the padding of a batch to exactly 0, also where it is NaN or inf.

    Args:
        x: node features ``[B, N, F]``, floating point; ``[N, F]`` with a ragged graph.
        adj: adjacency ``[B, N, N]``, any real dtype, or a ragged graph.
        mask: valid nodes ``[B, N]``, non-zero means valid; ``None``: all are valid.

    An argument without the dimension of graphs, or with one graph, is shared by all graphs.

    Returns:
        ``x [B, N, F]``, ``adj`` in the dtype of ``x``, and the mask as bool. An adjacency that all graphs share remains
        ``[1, N, N]``, and its entry i, j is set to 0 if no graph has the nodes i and j.

    Raises:
        TypeError: an argument is not a dense tensor of a supported dtype.
        ValueError: shapes do not match, or a mask is given with a ragged graph.
    """
    x, adj, valid = checked_batch(x, adj, mask)
    if valid is None or isinstance(adj, RaggedGraph):
        return x, adj, valid
    return torch.where(valid[:, :, None], x, 0), torch.where(pairs(valid, adj), adj, 0), valid


def checked_batch(
    x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None
) -> tuple[Tensor, Tensor | RaggedGraph, Tensor | None]:
    """What :func:`select_valid` does but for padding, which stays as it is."""
    check_tensor("x", x, FLOATS)
    if isinstance(adj, RaggedGraph):
        return x, _ragged(x, adj, mask), None
    check_tensor("adj", adj, _WEIGHTS)
    check_mask(mask)
    weights = adj
    if not is_one_batch(x, adj, mask):
        x, weights, _, mask = as_one_batch(x, adj, None, mask)
    if x.dim() != 3:
        raise ValueError(f"x must have shape [graphs, nodes, features], got {list(x.shape)}")
    graphs, nodes, _ = x.shape
    if weights.shape != (graphs, nodes, nodes):
        raise ValueError(f"adj must have shape {[graphs, nodes, nodes]} to match x, got {list(adj.shape)}")
    valid = fitted_mask(mask, (graphs, nodes))
    weights = one_matrix(weights).to(x.dtype)
    return x, weights, valid


def _ragged(x: Tensor, graph: RaggedGraph, mask: Tensor | None) -> RaggedGraph:
    """Check the graph against its features; return it with weights in the dtype of the features."""
    if mask is not None:
        raise ValueError("mask must not be given with a ragged graph, which has no padding")
    if x.dim() != 2 or x.size(0) != graph.num_nodes:
        raise ValueError(
            f"x must have shape [{graph.num_nodes}, features] (nodes of all graphs), got {list(x.shape)}"
        )
    return graph if graph.value is None else graph.to(dtype=x.dtype)
