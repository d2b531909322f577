"""Graphs of the arguments of functions in the style of PyTorch Geometric."""

from __future__ import annotations

from typing import Any

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
    edge_attr: Tensor | None = None,
) -> RaggedGraph:
    """The graph that the arguments of a function in the style of PyTorch Geometric describe."""
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a torch.Tensor, got {type(x).__name__}")
    sparse = isinstance(edge_index, Tensor) and edge_index.layout is not torch.strided
    if sparse or isinstance(edge_index, RaggedGraph):
        unused = {
            "edge_weight": edge_weight,
            "edge_attr": edge_attr,
            "batch": batch,
            "batch_size": batch_size,
        }
        unused |= {} if sparse else {"ptr": ptr, "symmetric": symmetric}
        for name, value in unused.items():
            if value is not None:
                kind = "sparse matrix" if sparse else "RaggedGraph"
                raise ValueError(f"{name} must be None if edge_index is a {kind}, got {value!r:.40}")
    if isinstance(edge_index, RaggedGraph):
        return edge_index
    if sparse:
        return RaggedGraph.from_sparse(edge_index, ptr=ptr, symmetric=symmetric).within_a_call()
    given: dict[str, Any] = {"edge_weight": edge_weight, "edge_attr": edge_attr, "batch": batch, "ptr": ptr}
    graph = RaggedGraph.from_edge_index(
        edge_index, x.size(0), **given, num_graphs=batch_size, symmetric=symmetric
    )
    return graph.within_a_call()
