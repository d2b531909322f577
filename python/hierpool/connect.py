"""What is done to a pooled adjacency before the next layer sees it: small tensor code on ``[B, K, K]``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SparsePooled(NamedTuple):
    """The coarsened graphs as the next sparse layer takes them: cluster ``k`` of graph ``b`` is node ``b K + k``."""

    x: Tensor  # [B K, F]
    edge_index: Tensor  # int64 [2, B K^2], or fewer with `drop`, sorted by row, then by column
    edge_weight: Tensor  # one per column of edge_index, in the dtype of adj
    batch: Tensor  # int64 [B K]: graph of each cluster
    mask: Tensor  # bool [B K]: whether anything is assigned to the cluster


def postprocess_adj(
    adj: Tensor,
    *,
    remove_self_loops: bool = False,
    degree_norm: bool = False,
    edge_weight_norm: bool = False,
    transposed: bool = False,
) -> Tensor:
    r"""A pooled adjacency :math:`A'` without its diagonal, normalised by degrees, or scaled.

    Args:
        adj: :math:`A'`, ``[.., K, K]``; it is not changed.
        remove_self_loops: set the diagonal to 0, before all else.
        degree_norm: :math:`D^{-1/2} A' D^{-1/2}` with the row sums of what remains in :math:`D`. The row and the column
            of a cluster whose row sum is not positive are 0, and so is their gradient.
        edge_weight_norm: then divide each graph's entries by the largest of their absolute values, if it is not 0.
        transposed: ``adj`` is the transpose of :math:`A'`, so that column sums are meant.

    Returns:
        ``[.., K, K]``, the dtype of ``adj``.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481), equation 8, of the first two.
    """
    if remove_self_loops:
        diagonal = torch.eye(adj.size(-1), dtype=torch.bool, device=adj.device)
        adj = adj.masked_fill(diagonal, 0)
    if degree_norm:
        degree = adj.sum(-2 if transposed else -1)
        some = degree > 0
        scale = torch.where(some, torch.where(some, degree, 1).rsqrt(), 0)
        adj = adj * scale[..., :, None] * scale[..., None, :]
    if edge_weight_norm and adj.numel():
        largest = adj.abs().amax((-2, -1), keepdim=True)
        adj = adj / torch.where(largest == 0, 1, largest)
    return adj


def sparse_pooled(x: Tensor, adj: Tensor, mask: Tensor, drop: float | None) -> SparsePooled:
    """Pooled graphs ``x [B, K, F]``, ``adj [B, K, K]``, ``mask [B, K]`` as nodes and edges.

    Entries of absolute value at most ``drop`` are left out, which waits for the device; ``None``: none is.
    """
    b, k = mask.shape
    node = torch.arange(b * k, device=x.device).view(b, k)
    ends = torch.stack([node[:, :, None].expand(b, k, k), node[:, None, :].expand(b, k, k)])
    edge_index, edge_weight = ends.reshape(2, -1), adj.reshape(-1)
    if drop is not None:
        kept = edge_weight.abs() > drop
        edge_index, edge_weight = edge_index[:, kept], edge_weight[kept]
    graph = torch.arange(b, device=x.device)[:, None].expand(b, k).reshape(-1)
    return SparsePooled(x.flatten(0, 1), edge_index, edge_weight, graph, mask.flatten())
