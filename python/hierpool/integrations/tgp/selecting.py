"""The functions by which torch-geometric-pool's sparse poolers select nodes and connect supernodes.

This module imports torch-geometric-pool. Only :func:`hierpool.integrations.tgp.patch` imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tgp import connect, imports
from tgp.connect import base_conn, kron_conn
from tgp.select import (
    SelectOutput,
    base_select,
    edge_contraction_select,
    graclus_select,
    kmis_select,
    ndp_select,
    topk_select,
)
from tgp.utils import ops
from torch import Tensor

from hierpool.graph import Assignment, RaggedGraph
from hierpool.integrations.pyg import selecting
from hierpool.integrations.pyg.edge_pooling import contracted_edges
from hierpool.ops.kron import kron
from hierpool.selection import mis, propagate, spectral_sign


def replacements() -> list[tuple[Any, str, Callable[..., Any]]]:
    """Modules or classes, attributes, and the functions that replace them."""
    return [
        (base_conn, "sparse_connect", sparse_connect),
        (connect, "sparse_connect", sparse_connect),
        (topk_select, "topk", selecting.topk),
        (kmis_select, "maximal_independent_set_cluster", maximal_independent_set_cluster),
        (edge_contraction_select, "maximal_matching", maximal_matching),
        (graclus_select.GraclusSelect, "forward", _graclus),
        (ndp_select.NDPSelect, "forward", _ndp_select),
        (kron_conn.KronConnect, "forward", _kron_connect),
        (base_select, "get_assignments", get_assignments),
        (ops, "get_assignments", get_assignments),
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
    return _in_form_of(given, edge_index, edge_weight, num_supernodes)


def _in_form_of(
    given: Any, edge_index: Tensor, edge_weight: Tensor | None, num_nodes: int | None
) -> tuple[Any, Tensor | None]:
    """The edges in the form in which an adjacency was given."""
    if imports.is_sparsetensor(given):
        return ops.connectivity_to_sparsetensor(edge_index, edge_weight, num_nodes), None
    if isinstance(given, Tensor) and given.is_sparse:
        return ops.connectivity_to_torch_coo(edge_index, edge_weight, num_nodes), None
    return edge_index, edge_weight


def get_assignments(
    kept_node_indices: Any,
    edge_index: Tensor | None = None,
    max_iter: int = 5,
    batch: Tensor | None = None,
    num_nodes: int | None = None,
) -> Tensor:
    """Each node and its supernode, int64 ``[2, N]``: the one of ``kept_node_indices`` that is spread to it."""
    if edge_index is not None:
        edge_index, _ = ops.connectivity_to_edge_index(edge_index)
    elif max_iter > 0:
        raise ValueError("edge_index must be provided when max_iter > 0")
    if num_nodes is None and batch is None and edge_index is None:
        raise ValueError("num_nodes, batch or edge_index must be given")
    kept = torch.as_tensor(kept_node_indices, dtype=torch.int64).reshape(-1)
    if edge_index is None or max_iter <= 0:
        edge_index = kept.new_zeros(2, 0)
    if num_nodes is None:
        num_nodes = selecting.num_nodes_of(edge_index, None) if batch is None else batch.numel()
    graph = RaggedGraph.from_edge_index(edge_index, num_nodes, batch=batch)
    chosen = Assignment.from_kept(kept, graph)
    own = chosen.clusters().cluster.long()
    first = chosen.cluster_ptr[:-1]
    label = graph.in_callers_order(torch.where(own < 0, -1, own - first[graph.graph_of_node()]))
    found = propagate(graph, label, hops=max(max_iter, 1))
    of_graph = first if batch is None else first[batch]
    node = chosen.clusters().node.long()[found + of_graph]  # the supernodes in the order of the matrix
    node = node if graph.order is None else graph.order[node]
    _, cluster = node.unique(return_inverse=True)
    return torch.stack([torch.arange(num_nodes, device=cluster.device), cluster])


def _ndp_select(
    self: Any,
    edge_index: Any,
    edge_weight: Tensor | None = None,
    *,
    batch: Tensor | None = None,
    num_nodes: int | None = None,
    **kwargs: Any,
) -> SelectOutput:
    graph = _graph_of(edge_index, edge_weight, num_nodes if batch is None else batch.numel(), batch)
    kept = spectral_sign(graph).nonzero()[:, 0]
    return SelectOutput(
        node_index=kept,
        num_nodes=graph.num_nodes,
        cluster_index=torch.arange(kept.numel(), device=kept.device),
        num_supernodes=kept.numel(),
        s_inv_op=self.s_inv_op,
    )


def _kron_connect(
    self: Any, edge_index: Any, so: SelectOutput, edge_weight: Tensor | None = None, **kwargs: Any
) -> tuple[Any, Tensor | None]:
    graph = _graph_of(edge_index, edge_weight, so.num_nodes)
    coarse = kron(
        graph, Assignment.from_kept(_supernodes_of(so), graph), threshold=max(self.sparse_threshold, 0)
    )
    return _in_form_of(edge_index, *coarse.to_edge_index(), so.num_supernodes)


def _supernodes_of(so: SelectOutput) -> Tensor:
    """The node that each supernode is."""
    if so.node_index.numel() == so.num_supernodes:
        return torch.empty_like(so.node_index).index_copy_(0, so.cluster_index, so.node_index)
    mis_nodes = getattr(so, "mis", None)
    if mis_nodes is None:
        raise ValueError(
            f"so must have a node for each of {so.num_supernodes} supernodes, got {so.node_index.numel()}"
        )
    return torch.as_tensor(mis_nodes)


def _graph_of(
    edge_index: Any, edge_weight: Tensor | None, num_nodes: int | None, batch: Tensor | None = None
) -> RaggedGraph:
    """The graph without autograd, which neither selection nor elimination has."""
    edge_index, edge_weight = ops.connectivity_to_edge_index(edge_index, edge_weight)
    nodes = selecting.num_nodes_of(edge_index, num_nodes)
    weight = None if edge_weight is None else edge_weight.detach().reshape(-1)
    return RaggedGraph.from_edge_index(edge_index, nodes, edge_weight=weight, batch=batch)


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
