"""Reduce the features of nodes to one vector per graph."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype
from hierpool.graph import RaggedGraph
from hierpool.ops._checks import FLOATS, check_tensor, valid_rows
from hierpool.ops.segment_max import segment_max

READOUTS = ("max", "mean", "sum")


def readout(
    x: Tensor, mask: Tensor | None = None, kind: str = "max", *, graph: RaggedGraph | None = None
) -> Tensor:
    """Reduce node features over the valid nodes of each graph.

    Args:
        x: ``[B, N, F]``, or ``[N, F]`` with ``graph``.
        mask: valid nodes ``[B, N]``, non-zero means valid; ``None``: all are valid. Padding is ignored, also if NaN.
        kind: ``"max"``, ``"mean"`` or ``"sum"``. Nodes that share a maximum share its gradient equally.
        graph: the ragged batch of the nodes.

    Returns:
        ``[B, F]``; 0 for a graph without valid nodes.

    Raises:
        ValueError: ``kind`` is unknown, ``x`` or ``mask`` has a wrong shape, or a mask is given with ``graph``.
    """
    if kind not in READOUTS:
        raise ValueError(f"kind must be one of {READOUTS}, got {kind!r}")
    check_tensor("x", x, FLOATS)
    if graph is not None:
        return _ragged_readout(x, mask, kind, graph)
    if x.dim() != 3:
        raise ValueError(f"x must have shape [graphs, nodes, features], got {list(x.shape)}")
    if x.size(1) == 0:
        return x.new_zeros(x.size(0), x.size(2))
    valid = valid_rows(mask, (x.size(0), x.size(1)))
    if kind == "max":
        return segment_max(x, None, x.size(0), valid)
    if valid is None:
        return x.mean(1) if kind == "mean" else x.sum(1)
    total = torch.where(valid[..., None], x, 0).sum(1, dtype=accumulation_dtype(x))
    return _reduced(total, valid.sum(1, keepdim=True), kind, x.dtype)


def _ragged_readout(x: Tensor, mask: Tensor | None, kind: str, graph: RaggedGraph) -> Tensor:
    if mask is not None:
        raise ValueError("mask must not be given with a ragged graph, which has no padding")
    if x.dim() != 2 or x.size(0) != graph.num_nodes:
        raise ValueError(
            f"x must have shape [{graph.num_nodes}, features] (nodes of all graphs), got {list(x.shape)}"
        )
    if kind == "max":
        return segment_max(x, graph.batch, graph.num_graphs)
    dtype = accumulation_dtype(x)
    total = x.new_zeros(graph.num_graphs, x.size(1), dtype=dtype).index_add(0, graph.batch, x.to(dtype))
    return _reduced(total, graph.ptr.diff()[:, None], kind, x.dtype)


def _reduced(total: Tensor, sizes: Tensor, kind: str, dtype: torch.dtype) -> Tensor:
    """The sums or means; only then rounded, as a sum may exceed the range of float16 where the mean does not."""
    return (total if kind == "sum" else total / sizes.clamp(min=1)).to(dtype)
