"""The functions by which PyTorch Geometric's sparse poolers select nodes, filter edges and merge clusters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._extras import require
from hierpool._tracing import untraced
from hierpool.contract import exact_ratio
from hierpool.graph import RaggedGraph
from hierpool.nn.merging import heads_of_pairs
from hierpool.selection import match
from hierpool.selection._shared import backend_of

_ALL = 2**62
_exact = lru_cache(maxsize=64)(exact_ratio)


@untraced  # how many nodes are kept depends on values
def topk(
    x: Tensor, ratio: float | int | None, batch: Tensor, min_score: float | None = None, tol: float = 1e-7
) -> Tensor:
    """The nodes of each graph with the largest scores ``x [N]``, int64 ``[K]``."""
    if min_score is None and ratio is None:
        raise ValueError("ratio or min_score must be given, got None for both")
    score = x.detach().reshape(-1)
    score = score.to(torch.float64 if score.dtype == torch.float64 else torch.float32)
    if min_score is not None:
        graphs = int(batch.max()) + 1 if batch.numel() else 0
        best = score.new_full((graphs,), -torch.inf).scatter_reduce(0, batch, score, "amax") - tol
        return (score > best.clamp(max=min_score)[batch]).nonzero()[:, 0]
    assert ratio is not None
    over, under = (1, 1) if ratio >= 1 else _exact(float(ratio))
    kept, valid = backend_of(score).topk_in_batch(
        score, batch, over, under, int(ratio) if ratio >= 1 else _ALL
    )
    if not valid:
        raise ValueError(f"x must not contain NaN, but element {int(score.isnan().int().argmax())} is NaN")
    return kept


@untraced  # how many edges are kept depends on values
def filter_adj(
    edge_index: Tensor,
    edge_attr: Tensor | None,
    node_index: Tensor,
    cluster_index: Tensor | None = None,
    num_nodes: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The edges between the nodes ``node_index``, in their order, with new numbers of nodes."""
    nodes = num_nodes_of(edge_index, num_nodes)
    if cluster_index is None:
        cluster_index = torch.arange(node_index.numel(), device=node_index.device)
    number = node_index.new_full((nodes,), -1).index_copy_(0, node_index, cluster_index)
    module: Any = backends.module("graph_contract", edge_index.device.type)
    edges, kept, wrong = module.filter_edges(edge_index.to(torch.int64), number, edge_attr is not None)
    _check_ends(edge_index, wrong, nodes)
    return edges, None if edge_attr is None else edge_attr.index_select(0, kept)


@untraced  # as matching does
def graclus(edge_index: Tensor, weight: Tensor | None = None, num_nodes: int | None = None) -> Tensor:
    """The cluster of each node, int64 ``[N]``: the smaller node of matched pairs, and each other node itself."""
    nodes = num_nodes_of(edge_index, num_nodes)
    graph = RaggedGraph.from_edge_index(edge_index, nodes, edge_weight=weight)
    return heads_of_pairs(match(graph))


def pool_edge(
    cluster: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None, reduce: str | None = "sum"
) -> tuple[Tensor, Tensor | None]:
    """The different edges between clusters, sorted, and the reduced features of equal ones."""
    return merged_edges(cluster, edge_index, edge_attr, reduce, drop_loops=True)


@untraced  # how many edges differ depends on values
def merged_edges(
    cluster: Tensor, edge_index: Tensor, edge_attr: Tensor | None, reduce: str | None, drop_loops: bool
) -> tuple[Tensor, Tensor | None]:
    """:func:`pool_edge`, with or without the edges within clusters."""
    cluster = cluster.to(torch.int64)
    if cluster.numel() and int(cluster.min()) < 0:
        raise ValueError(f"cluster must not be negative, got {int(cluster.min())}")
    clusters = int(cluster.max()) + 1 if cluster.numel() else 0
    module: Any = backends.module("graph_contract", edge_index.device.type)
    merged, slot, wrong = module.merge_edges(
        edge_index.to(torch.int64), cluster, clusters, drop_loops, edge_attr is not None
    )
    _check_ends(edge_index, wrong, cluster.numel())
    if edge_attr is None:
        return merged, None
    if reduce in ("sum", "add"):
        place = torch.where(slot < 0, merged.size(1), slot)
        total = edge_attr.new_zeros(merged.size(1) + 1, *edge_attr.shape[1:])
        return merged, total.index_add(0, place, edge_attr)[:-1]
    kept = (slot >= 0).nonzero()[:, 0]
    scatter = require("torch_geometric.utils", "pyg").scatter
    attr = edge_attr.index_select(0, kept)
    return merged, scatter(attr, slot.index_select(0, kept), 0, merged.size(1), reduce)


def _check_ends(edge_index: Tensor, wrong: int, num_nodes: int) -> None:
    """Raise ``ValueError`` unless ``wrong`` is -1."""
    if wrong >= 0:
        ends = edge_index[:, wrong].tolist()
        raise ValueError(
            f"edge_index[:, {wrong}] is {ends}, but there are {num_nodes} nodes, numbered from 0"
        )


def clusters_of_heads(head: Tensor) -> tuple[Tensor, Tensor]:
    """The cluster of each node from its head, numbered in the order of heads, and whether each node is a head."""
    is_head = head == torch.arange(head.numel(), device=head.device)
    return (is_head.cumsum(0) - 1)[head], is_head


def num_nodes_of(edge_index: Tensor, num_nodes: int | None) -> int:
    """``num_nodes``, or as many as ``edge_index`` has."""
    if num_nodes is not None:
        return int(num_nodes)
    return int(edge_index.max()) + 1 if edge_index.numel() else 0
