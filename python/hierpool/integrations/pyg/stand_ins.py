"""The replacements of PyTorch Geometric's poolers, with exactly its signatures.

They are separate objects, so that :func:`.patching.unpatch` restores only names that were PyTorch Geometric's, and not
names that a program imported from hierpool.
"""

from __future__ import annotations

from torch import Tensor

from hierpool import functional
from hierpool.integrations.pyg import cluster_pooling, edge_pooling, selecting
from hierpool.nn import dmon_pooling

DensePooled = tuple[Tensor, Tensor, Tensor, Tensor]


class Settings:
    """Settings of the active patch."""

    pyg_compat = False


def dense_diff_pool(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None = None, normalize: bool = True
) -> DensePooled:
    """:func:`hierpool.dense_diff_pool`."""
    return functional.dense_diff_pool(x, adj, s, mask, normalize)


def dense_mincut_pool(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None = None, temp: float = 1.0
) -> DensePooled:
    """:func:`hierpool.dense_mincut_pool`."""
    return functional.dense_mincut_pool(x, adj, s, mask, temp)


class DMoNPooling(dmon_pooling.DMoNPooling):
    """:class:`hierpool.DMoNPooling` with the ``pyg_compat`` of the active patch."""

    def __init__(self, channels: int | list[int], k: int, dropout: float = 0.0) -> None:
        super().__init__(channels, k, dropout, pyg_compat=Settings.pyg_compat)


class EdgePooling(edge_pooling.EdgePooling):
    """:class:`.edge_pooling.EdgePooling`."""


class ClusterPooling(cluster_pooling.ClusterPooling):
    """:class:`.cluster_pooling.ClusterPooling`."""


def topk(
    x: Tensor, ratio: float | int | None, batch: Tensor, min_score: float | None = None, tol: float = 1e-7
) -> Tensor:
    """:func:`.selecting.topk`."""
    return selecting.topk(x, ratio, batch, min_score, tol)


def filter_adj(
    edge_index: Tensor,
    edge_attr: Tensor | None,
    node_index: Tensor,
    cluster_index: Tensor | None = None,
    num_nodes: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """:func:`.selecting.filter_adj`."""
    return selecting.filter_adj(edge_index, edge_attr, node_index, cluster_index, num_nodes)


def graclus(edge_index: Tensor, weight: Tensor | None = None, num_nodes: int | None = None) -> Tensor:
    """:func:`.selecting.graclus`."""
    return selecting.graclus(edge_index, weight, num_nodes)


def pool_edge(
    cluster: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, reduce: str | None = "sum"
) -> tuple[Tensor, Tensor | None]:
    """:func:`.selecting.pool_edge`."""
    return selecting.pool_edge(cluster, edge_index, edge_attr, reduce)
