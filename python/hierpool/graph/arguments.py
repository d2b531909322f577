"""Graphs given as the arguments of a function."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph.ragged import RaggedGraph


def graph_of(
    x: Tensor,
    edge_index: Tensor | RaggedGraph,
    edge_weight: Tensor | None,
    batch: Tensor | None,
    ptr: Tensor | None,
    batch_size: int | None,
    symmetric: bool | None,
) -> RaggedGraph:
    """The graph that the arguments of a function in the style of PyTorch Geometric describe."""
    sparse = isinstance(edge_index, Tensor) and edge_index.layout is not torch.strided
    if sparse or isinstance(edge_index, RaggedGraph):
        alone = {"edge_weight": edge_weight, "batch": batch, "batch_size": batch_size}
        alone |= {} if sparse else {"ptr": ptr, "symmetric": symmetric}
        for name, value in alone.items():
            if value is not None:
                kind = "sparse matrix" if sparse else "RaggedGraph"
                raise ValueError(f"{name} must be None if edge_index is a {kind}, got {value!r:.40}")
    if isinstance(edge_index, RaggedGraph):
        return edge_index
    if sparse:
        return RaggedGraph.from_sparse(edge_index, ptr=ptr, symmetric=symmetric)
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    return RaggedGraph.from_edge_index(
        edge_index,
        x.size(0),
        edge_weight=edge_weight,
        batch=batch,
        ptr=ptr,
        num_graphs=batch_size,
        symmetric=symmetric,
    )
