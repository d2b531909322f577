"""The functions by which torch-geometric-pool's sparse poolers select nodes and connect supernodes.

This module imports torch-geometric-pool. Only :func:`hierpool.integrations.tgp.patch` imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tgp import connect, imports
from tgp.connect import base_conn
from tgp.select import SelectOutput, edge_contraction_select, graclus_select, kmis_select, topk_select
from tgp.utils import ops
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.integrations.pyg import selecting
from hierpool.integrations.pyg.edge_pooling import contracted_edges
from hierpool.selection import mis


def replacements() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Modules or classes, attributes, and the functions that replace them."""
    return [
        (base_conn, "sparse_connect", sparse_connect),
        (connect, "sparse_connect", sparse_connect),
        (topk_select, "topk", selecting.topk),
        (kmis_select, "maximal_independent_set_cluster", maximal_independent_set_cluster),
        (edge_contraction_select, "maximal_matching", maximal_matching),
        (graclus_select.GraclusSelect, "forward", _graclus),
    ]


def sparse_connect(
    edge_index: Any,
    edge_weight: Tensor | None = None,
    node_index: Tensor | None = None,
    cluster_index: Tensor | None = None,
    num_nodes: int | None = None,
    num_supernodes: int | None = None,
    remove_self_loops: bool = True,
    reduce_op: str = "sum",
    edge_weight_norm: bool = False,
    batch_pooled: Tensor | None = None,
    degree_norm: bool = False,
) -> tuple[Any, Tensor | None]:
    """The edges between supernodes, in the numbering of ``cluster_index``, and their weights."""
    given = edge_index
    edge_index, edge_weight = ops.connectivity_to_edge_index(edge_index, edge_weight)
    nodes = selecting.num_nodes_of(edge_index, num_nodes)
    if node_index is not None and node_index.numel() < nodes:
        edge_index, edge_weight = selecting.filter_adj(
            edge_index, edge_weight, node_index, cluster_index, nodes
        )
    elif cluster_index is not None and cluster_index.numel() == nodes:
        edge_index, edge_weight = selecting.merged_edges(
            cluster_index, edge_index, edge_weight, reduce_op, drop_loops=False
        )
    else:
        given_sizes = [None if t is None else t.numel() for t in (node_index, cluster_index)]
        raise ValueError(
            f"node_index must have fewer than {nodes} nodes or cluster_index one cluster for each, got {given_sizes}"
        )
    edge_index, edge_weight = ops.postprocess_adj_pool_sparse(
        edge_index,
        edge_weight,
        num_nodes=num_supernodes,
        remove_self_loops=remove_self_loops,
        degree_norm=degree_norm,
        edge_weight_norm=edge_weight_norm,
        batch_pooled=batch_pooled,
    )
    if imports.is_sparsetensor(given):
        return ops.connectivity_to_sparsetensor(edge_index, edge_weight, num_supernodes), None
    if isinstance(given, Tensor) and given.is_sparse:
        return ops.connectivity_to_torch_coo(edge_index, edge_weight, num_supernodes), None
    return edge_index, edge_weight


def maximal_matching(edge_index: Any, num_nodes: int | None = None, perm: Tensor | None = None) -> Tensor:
    """Whether each edge is in the matching that takes edges in the order ``perm``, bool ``[E]``."""
    edge_index, _ = ops.connectivity_to_edge_index(edge_index)
    nodes = selecting.num_nodes_of(edge_index, num_nodes)
    place = _places(perm, edge_index.size(1), edge_index.device)
    chosen = contracted_edges(edge_index, -place.double(), place.new_zeros(nodes), nodes)
    return torch.zeros_like(place, dtype=torch.bool).index_fill_(0, chosen, True)


def maximal_independent_set_cluster(
    edge_index: Tensor, order_k: int = 1, perm: Tensor | None = None, num_nodes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Whether each node is in the set that takes nodes in the order ``perm``, and the cluster of each node."""
    nodes = selecting.num_nodes_of(edge_index, num_nodes)
    graph = RaggedGraph.from_edge_index(edge_index, nodes)
    head = mis(graph, -_places(perm, nodes, edge_index.device).double(), hops=order_k)
    cluster, is_head = selecting.clusters_of_heads(head)
    return is_head, cluster


def _graclus(
    self: Any,
    edge_index: Any,
    edge_weight: Tensor | None = None,
    num_nodes: int | None = None,
    **kwargs: Any,
) -> SelectOutput:
    edge_index, edge_weight = ops.connectivity_to_edge_index(edge_index, edge_weight)
    nodes = selecting.num_nodes_of(edge_index, num_nodes)
    weight = None if edge_weight is None else edge_weight.reshape(-1)
    cluster = selecting.graclus(edge_index, weight, nodes)
    heads, cluster = torch.unique(cluster, return_inverse=True)
    return SelectOutput(
        node_index=torch.arange(nodes, device=cluster.device),
        num_nodes=nodes,
        cluster_index=cluster,
        num_supernodes=heads.numel(),
        s_inv_op=self.s_inv_op,
    )


def _places(perm: Tensor | None, count: int, device: torch.device) -> Tensor:
    """The place of each element in an order, int64 ``[count]``."""
    places = torch.arange(count, device=device)
    return places if perm is None else torch.empty_like(places).index_copy_(0, perm, places)
