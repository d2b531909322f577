"""Arguments of several operators: what all graphs of a padded batch share, and graphs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph


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


def graph_of(
    x: Tensor,
    edge_index: Tensor | RaggedGraph | ShardedGraph,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    ptr: Tensor | None,
    batch_size: int | None,
    symmetric: bool | None,
    edge_attr: Tensor | None = None,
) -> RaggedGraph | ShardedGraph:
    """The graph that the arguments of a function in the style of PyTorch Geometric describe."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    sparse = isinstance(edge_index, Tensor) and edge_index.layout is not torch.strided
    if sparse or isinstance(edge_index, RaggedGraph | ShardedGraph):
        unused = {
            "edge_weight": edge_weight,
            "edge_attr": edge_attr,
            "batch": batch,
            "batch_size": batch_size,
        }
        unused |= {} if sparse else {"ptr": ptr, "symmetric": symmetric}
        for name, value in unused.items():
            if value is not None:
                kind = "sparse matrix" if sparse else type(edge_index).__name__
                raise ValueError(f"{name} must be None if edge_index is a {kind}, got {value!r:.40}")
    if isinstance(edge_index, RaggedGraph | ShardedGraph):
        return edge_index
    if sparse:
        return RaggedGraph.from_sparse(edge_index, ptr=ptr, symmetric=symmetric).within_a_call()
    given: dict[str, Any] = {"edge_weight": edge_weight, "edge_attr": edge_attr, "batch": batch, "ptr": ptr}
    graph = RaggedGraph.from_edge_index(
        edge_index, x.size(0), **given, num_graphs=batch_size, symmetric=symmetric
    )
    return graph.within_a_call()
