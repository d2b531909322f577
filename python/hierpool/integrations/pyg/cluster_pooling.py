"""The layer of PyTorch Geometric that merges components of edges, without its dense matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool._tracing import untraced
from hierpool.graph import RaggedGraph
from hierpool.integrations.pyg.edge_pooling import check_rows, scores_of_ends
from hierpool.integrations.pyg.selecting import clusters_of_heads, pool_edge
from hierpool.ops.spmm import spmm
from hierpool.selection import components

_METHODS = ("tanh", "sigmoid", "log_softmax")


class UnpoolInfo(NamedTuple):
    """What belonged to the graph before it was pooled."""

    edge_index: Tensor  # [2, E], without self-loops
    cluster: Tensor  # [N]
    batch: Tensor  # [N]


class ClusterPooling(nn.Module):
    """``torch_geometric.nn.ClusterPooling``: merge the components of the edges with scores above a threshold.

    Args:
        in_channels: number of features.
        edge_score_method: ``"tanh"``, ``"sigmoid"`` or ``"log_softmax"``.
        dropout: dropout probability of the scores.
        threshold: ``None``: 0.5 with ``"sigmoid"``, else 0.

    Source: Snelleman, Renting, Hoos, van Rijn, "Edge-Based Graph Component Pooling", 2024 (arXiv:2409.11856).
    """

    def __init__(
        self,
        in_channels: int,
        edge_score_method: str = "tanh",
        dropout: float = 0.0,
        threshold: float | None = None,
    ) -> None:
        super().__init__()
        if edge_score_method not in _METHODS:
            names = ", ".join(map(repr, _METHODS))
            raise ValueError(f"edge_score_method must be one of {names}, got {edge_score_method!r}")
        if threshold is None:
            threshold = 0.5 if edge_score_method == "sigmoid" else 0.0
        self.in_channels = in_channels
        self.edge_score_method = edge_score_method
        self.dropout = dropout
        self.threshold = threshold
        self.lin = nn.Linear(2 * in_channels, 1)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.lin.reset_parameters()

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, UnpoolInfo]:
        """Pool a batch of graphs.

        Args:
            x: ``[N, F]``.
            edge_index: int64 ``[2, E]``.
            batch: graph of each node, int64 ``[N]``.

        Returns:
            Features, edges and graphs of the clusters, and what belonged to the graph before.
        """
        check_rows(x, self.in_channels)
        edge_index = edge_index[:, edge_index[0] != edge_index[1]]
        score = self._scores(x, edge_index)
        joined = edge_index[:, score > self.threshold]
        cluster, count = _components(joined, x.size(0))
        alone = torch.ones_like(cluster, dtype=torch.bool).index_fill(0, joined.reshape(-1), False)
        rows = torch.where(alone[:, None], x, 0) + _sums(edge_index, score, x)
        pooled = x.new_zeros(count, x.size(1)).index_add(0, cluster, rows)
        new_batch = torch.empty_like(batch[:count]).index_copy(0, cluster, batch)
        edges, _ = pool_edge(cluster, edge_index)
        return pooled, edges, new_batch, UnpoolInfo(edge_index, cluster, batch)

    def _scores(self, x: Tensor, edge_index: Tensor) -> Tensor:
        raw = F.dropout(scores_of_ends(self.lin, x, edge_index), self.dropout, self.training)
        if self.edge_score_method == "log_softmax":
            return F.log_softmax(raw, 0)
        return raw.tanh() if self.edge_score_method == "tanh" else raw.sigmoid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels})"


@untraced  # how many components there are depends on values
def _components(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, int]:
    """The component of each node, numbered by first nodes, and their number."""
    cluster, is_head = clusters_of_heads(components(RaggedGraph.from_edge_index(edge_index, num_nodes)))
    return cluster, int(is_head.sum())


@untraced  # a traced graph has an entry for each of several equal edges
def _sums(edge_index: Tensor, score: Tensor, x: Tensor) -> Tensor:
    """The features of the sources of the edges that end in each node, times their scores."""
    graph = RaggedGraph.from_edge_index(edge_index, x.size(0), edge_weight=score, symmetric=False)
    return spmm(graph, x, transpose=True)
