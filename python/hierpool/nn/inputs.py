"""The forms in which a pooling layer takes a batch of graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.graph.convert import features_of_pyg
from hierpool.ops._checks import ADJ_DTYPES, FLOATS, check_mask, check_tensor, fitted_mask
from hierpool.ops._shared import as_one_batch, graph_of, is_one_batch
from hierpool.ops.linear_maps import linear_maps
from hierpool.reference.linear_maps import Map

Adjacency = Tensor | RaggedGraph | ShardedGraph
Logits = Tensor | Sequence[Map]
"""Logits, or the linear maps that compute them from the features."""


class Inputs(NamedTuple):
    """What the nodes of a batch are pooled from."""

    x: Tensor
    adj: Adjacency
    s: Logits
    mask: Tensor | None
    num_clusters: Tensor | int | None

    @property
    def graph(self) -> RaggedGraph | ShardedGraph | None:
        """The adjacency, unless it is dense."""
        return None if isinstance(self.adj, Tensor) else self.adj

    @property
    def logits(self) -> Tensor:
        """The logits, also of maps."""
        return self.s if isinstance(self.s, Tensor) else linear_maps(self.x, self.s, self.mask)


class Structure(NamedTuple):
    """What a batch has besides features and adjacency or ``edge_index``; see :meth:`SoftPooling.forward`."""

    edge_weight: Tensor | None
    mask: Tensor | None
    batch: Tensor | None
    ptr: Tensor | None
    batch_size: int | None
    edge_attr: Tensor | None = None


def batch_of(
    x: Any, adj: Any, given: Structure, *, symmetric: bool | None, transposed: bool, features: bool = False
) -> tuple[Tensor, Tensor | RaggedGraph | ShardedGraph, Tensor | None]:
    """Features, adjacency and mask of a padded batch, or features and graph of a ragged batch.

    Args:
        x, adj, given: the arguments of :meth:`SoftPooling.forward`.
        symmetric: whether every adjacency equals its transpose; ``None``: it is determined.
        transposed: use the transpose of ``edge_index``.
        features: take the features of edges of a ``Data`` or ``Batch``.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.
    """
    mask = given.mask
    if adj is None:
        if isinstance(x, Tensor):
            raise TypeError("adj must be given, unless x is a Data or Batch of PyTorch Geometric")
        adj, x = x, getattr(x, "x", None)
    elif not isinstance(adj, Tensor | RaggedGraph | ShardedGraph) and not hasattr(adj, "edge_index"):
        raise TypeError(
            "adj must be a tensor, a RaggedGraph, a ShardedGraph, or a Data or Batch of PyTorch Geometric,"
            f" got {type(adj).__name__}"
        )
    if not isinstance(adj, Tensor | RaggedGraph | ShardedGraph):
        use = features_of_pyg(adj) if features else None
        adj = RaggedGraph.from_pyg(adj, edge_attr=use, symmetric=symmetric)
    check_tensor("x", x, FLOATS)
    check_mask(mask)
    if isinstance(adj, Tensor) and (adj.is_nested or (adj.layout is not torch.strided and x.dim() == 3)):
        check_tensor("adj", adj, ADJ_DTYPES)
    if isinstance(adj, Tensor) and not _is_sparse(adj):
        return _padded(x, adj, given)
    if mask is not None:
        raise ValueError(f"mask must be None with a sparse adjacency, which has no padding, got {mask!r:.40}")
    if isinstance(adj, Tensor) and adj.layout is torch.strided and transposed:
        adj = adj.flip(0)
    if not isinstance(adj, Tensor) or adj.layout is not torch.strided:
        symmetric = None
    edge_weight, _, batch, ptr, batch_size, edge_attr = given
    return x, graph_of(x, adj, edge_weight, batch, ptr, batch_size, symmetric, edge_attr), None


def whole(adj: Tensor | RaggedGraph | ShardedGraph, what: str) -> Tensor | RaggedGraph:
    """The adjacency, for a loss that needs more than the record.

    Raises:
        TypeError: the graph is sharded.
    """
    if isinstance(adj, ShardedGraph):
        raise TypeError(f"adj must not be a ShardedGraph with {what}, which needs all nodes in one process")
    return adj


def _padded(x: Tensor, adj: Tensor, given: Structure) -> tuple[Tensor, Tensor, Tensor | None]:
    for name in ("edge_weight", "edge_attr", "batch", "ptr"):
        value = getattr(given, name)
        if value is not None:
            raise ValueError(f"{name} must be None if adj is dense, got {value!r:.40}")
    mask = given.mask
    if not is_one_batch(x, adj, mask):
        x, adj, _, mask = as_one_batch(x, adj, None, mask)
    if x.dim() != 3:
        raise ValueError(f"x must have shape [B, N, F] or [N, F], got {list(x.shape)}")
    return x, adj, fitted_mask(mask, x.shape[:2])


def _is_sparse(adj: Tensor) -> bool:
    """Whether a tensor is ``edge_index`` or a sparse matrix."""
    return adj.layout is not torch.strided or (
        adj.dim() == 2 and adj.size(0) == 2 and adj.dtype in (torch.int64, torch.int32)
    )
