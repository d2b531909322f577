"""Post-processing of a pooled adjacency ``[B, K, K]``, and its conversion to nodes and edges."""

from __future__ import annotations

from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.contract import existing_clusters


class SparsePooled(NamedTuple):
    """The coarsened graphs as input of a sparse layer.

    Cluster ``k`` of graph ``b`` is node ``b K + k``. With ``num_clusters``, the nodes are the clusters that exist, in
    this order, and M is their number instead of ``B K``.
    """

    x: Tensor  # [M, F]
    edge_index: Tensor  # int64 [2, E], sorted by row, then by column; without `drop` all pairs of a graph
    edge_weight: Tensor  # [E], the dtype of adj
    batch: Tensor  # int64 [M]: graph of each cluster
    mask: Tensor  # bool [M]: whether the cluster has nodes


def check_drop(drop: Any, sparse_output: bool) -> None:
    """Raise an error unless ``drop`` is a number that is not negative, or ``None`` without a sparse output."""
    if drop is None:
        return
    if not sparse_output:
        raise ValueError(f"drop must be None unless sparse_output=True, got {drop}")
    if torch.compiler.is_compiling():  # a comparison would compile once more
        return
    if isinstance(drop, bool) or not isinstance(drop, Real):
        raise TypeError(f"drop must be a number or None, got {type(drop).__name__}")
    if not float(drop) >= 0:  # nothing is larger than NaN
        raise ValueError(f"drop must be a number that is not negative, got {drop}")


def postprocess_adj(
    adj: Tensor,
    *,
    remove_self_loops: bool = False,
    degree_norm: bool = False,
    edge_weight_norm: bool = False,
    transposed: bool = False,
) -> Tensor:
    r"""Remove self-loops from a pooled adjacency :math:`A'`, normalise it by degrees, and scale it.

    Args:
        adj: :math:`A'`, ``[.., K, K]``; it is not modified.
        remove_self_loops: first set the diagonal to 0.
        degree_norm: then take :math:`D^{-1/2} A' D^{-1/2}`; :math:`D` is the diagonal matrix of row sums. Rows and
            columns of clusters whose row sum is not positive are 0, with gradient 0.
        edge_weight_norm: then divide each graph's entries by their largest absolute value, unless it is 0.
        transposed: ``adj`` is the transpose of :math:`A'`: use column sums.

    Returns:
        ``[.., K, K]``, the dtype of ``adj``.

    Source: equation 8 of Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481), for the first two steps.
    """
    if remove_self_loops:
        diagonal = torch.eye(adj.size(-1), dtype=torch.bool, device=adj.device)
        adj = adj.masked_fill(diagonal, 0)
    if degree_norm:
        degree = adj.sum(-2 if transposed else -1)
        positive = degree > 0
        # Not rsqrt, whose derivative has the cube of the result: it overflows for weights of 1e-26.
        scale = torch.where(positive, torch.where(positive, degree, 1).sqrt().reciprocal(), 0)
        adj = adj * scale[..., :, None] * scale[..., None, :]
    if edge_weight_norm and adj.numel():
        largest = adj.abs().amax((-2, -1), keepdim=True)
        adj = adj / torch.where(largest == 0, 1, largest)
    return adj


def sparse_pooled(
    x: Tensor, adj: Tensor, mask: Tensor, drop: float | None, num_clusters: int | Tensor | None = None
) -> SparsePooled:
    """Convert pooled graphs ``x [B, K, F]``, ``adj [B, K, K]``, ``mask [B, K]`` to nodes and edges.

    Entries of absolute value at most ``drop`` are dropped, and clusters from ``num_clusters [B]`` on, which
    synchronises; ``None``: all are kept.
    """
    b, k = mask.shape
    if isinstance(num_clusters, Tensor):
        return _existing_pooled(x, adj, mask, drop, existing_clusters(num_clusters.expand(b), k))
    if num_clusters is not None:
        k = num_clusters
        x, adj, mask = x[:, :k], adj[:, :k, :k], mask[:, :k]
    node = torch.arange(b * k, device=x.device).view(b, k)
    ends = torch.stack([node[:, :, None].expand(b, k, k), node[:, None, :].expand(b, k, k)])
    edge_index, edge_weight = ends.reshape(2, -1), adj.reshape(-1)
    if drop is not None:
        kept = edge_weight.abs() > drop
        edge_index, edge_weight = edge_index[:, kept], edge_weight[kept]
    graph = torch.arange(b, device=x.device)[:, None].expand(b, k).reshape(-1)
    return SparsePooled(x.flatten(0, 1), edge_index, edge_weight, graph, mask.flatten())


def _existing_pooled(
    x: Tensor, adj: Tensor, mask: Tensor, drop: float | None, exists: Tensor
) -> SparsePooled:
    """:func:`sparse_pooled` of the clusters in ``exists``, bool ``[B, K]``."""
    node = (exists.flatten().cumsum(0) - 1).view_as(exists)
    kept = exists[:, :, None] & exists[:, None, :]
    if drop is not None:
        kept = kept & (adj.abs() > drop)
    graph, row, column = kept.nonzero(as_tuple=True)
    edge_index = torch.stack([node[graph, row], node[graph, column]])
    return SparsePooled(x[exists], edge_index, adj[kept], exists.nonzero()[:, 0], mask[exists])
