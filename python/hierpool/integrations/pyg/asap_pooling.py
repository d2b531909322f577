"""The forward pass of PyTorch Geometric's ``ASAPooling`` on the product of sparse matrices of hierpool."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool._extras import require
from hierpool._tracing import untraced
from hierpool.contract import softmax_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.ops.sparse_pool import sparse_pool
from hierpool.ops.spmm import spmm

_ANY = 2**62  # entries of a product; PyTorch Geometric has no bound


@untraced  # how many nodes are kept depends on values
def forward(
    layer: Any, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None, batch: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Features, edges, their weights, the batch vector of the kept clusters, and their nodes.

    Args:
        layer: the layer.
        x, edge_index, edge_weight, batch: its arguments.
    """
    utils = require("torch_geometric.utils", "pyg")
    nodes = x.size(0)
    edge_index, edge_weight = utils.add_remaining_self_loops(
        edge_index, edge_weight, fill_value=1.0, num_nodes=nodes
    )
    batch = edge_index.new_zeros(nodes) if batch is None else batch
    x = x[:, None] if x.dim() == 1 else x
    z = x
    if layer.gnn_intra_cluster is not None:
        z = layer.gnn_intra_cluster(x=x, edge_index=edge_index, edge_weight=edge_weight)
    share = _shares(layer, z, edge_index)
    # Edges that are there twice are summed, in S as in A.
    both = RaggedGraph.from_edge_index(
        edge_index, nodes, edge_weight=edge_weight, edge_attr=share[:, None], symmetric=None
    )
    assert both.edge_attr is not None
    adj, s = both.with_edge_attr(None), both.edge_attr[:, 0]
    x = spmm(adj.with_value(s, symmetric=False), x, transpose=True)
    fitness = layer.gnn_score(x, edge_index).sigmoid().view(-1)
    kept = layer.select(fitness, batch).node_index
    x = x[kept] * fitness[kept].view(-1, 1)
    adj = adj if edge_weight is not None else adj.with_value(None)
    loops: Any = "keep" if layer.add_self_loops else "drop"
    coarse = sparse_pool(None, adj, _columns(adj, s, kept), loops=loops, max_entries=_ANY).graph
    edge_index, weight = coarse.to_edge_index()
    weight = None if edge_weight is None else weight
    if layer.add_self_loops:
        edge_index, weight = utils.add_remaining_self_loops(edge_index, weight, num_nodes=kept.numel())
    return x, edge_index, weight, batch[kept], kept


def _shares(layer: Any, z: Tensor, edge_index: Tensor) -> Tensor:
    """S of each edge, ``[E]``."""
    source, target = edge_index
    scatter = require("torch_geometric.utils", "pyg").scatter
    largest = scatter(z.index_select(0, source), target, 0, z.size(0), "max")
    of_query, of_node = layer.att.weight[0].chunk(2)
    # Two numbers for each node instead of 2 F for each edge.
    ends = (layer.lin(largest) @ of_query).index_select(0, target) + (z @ of_node).index_select(0, source)
    share = F.leaky_relu(ends + layer.att.bias, layer.negative_slope)
    share = softmax_by_index(share, target, z.size(0))
    return F.dropout(share, p=layer.dropout, training=layer.training)


def _columns(adj: RaggedGraph, s: Tensor, kept: Tensor) -> Assignment:
    """The columns of S of the nodes that are kept, in their order."""
    place = torch.full((adj.num_nodes,), -1, dtype=torch.int64, device=kept.device)
    place[kept] = torch.arange(kept.numel(), device=kept.device)
    cluster = place[adj.col.long()]
    entry = (cluster >= 0).nonzero()[:, 0]
    node, weight = adj.row.index_select(0, entry).long(), s.index_select(0, entry)
    return Assignment.from_coo(node, cluster[entry], adj, weight, kept.numel())
