"""The layer of PyTorch Geometric that contracts edges, without its loop over edges in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool._tracing import untraced
from hierpool.contract import BuildOptions, softmax_by_index
from hierpool.graph import RaggedGraph, build, checks
from hierpool.integrations.pyg.selecting import merged_edges
from hierpool.ops._checks import FLOATS, check_tensor
from hierpool.selection import match

EdgeScore = Callable[[Tensor, Tensor, int], Tensor]


class UnpoolInfo(NamedTuple):
    """What :meth:`EdgePooling.unpool` needs."""

    edge_index: Tensor  # [2, E]
    cluster: Tensor  # [N]
    batch: Tensor  # [N]
    new_edge_score: Tensor  # [K]


class EdgePooling(nn.Module):
    """``torch_geometric.nn.EdgePooling``: contract the edges with the largest scores, no two of which share a node.

    Results are those of PyTorch Geometric where scores differ: clusters in the order of their scores, then the other
    nodes. Among edges with equal scores, the order is that of :func:`hierpool.selection.match`.

    Args:
        in_channels: number of features.
        edge_score_method: function of raw scores ``[E]``, ``edge_index`` and the number of nodes; ``None``:
            :meth:`compute_edge_score_softmax`.
        dropout: dropout probability of raw scores.
        add_to_edge_score: added to the scores.

    Source: Diehl, arXiv:1905.10990.
    """

    def __init__(
        self,
        in_channels: int,
        edge_score_method: EdgeScore | None = None,
        dropout: float = 0.0,
        add_to_edge_score: float = 0.5,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.compute_edge_score = edge_score_method or self.compute_edge_score_softmax
        self.add_to_edge_score = add_to_edge_score
        self.dropout = dropout
        self.lin = nn.Linear(2 * in_channels, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.lin.reset_parameters()

    @staticmethod
    def compute_edge_score_softmax(raw_edge_score: Tensor, edge_index: Tensor, num_nodes: int) -> Tensor:
        """The softmax over the edges with the same target."""
        return softmax_by_index(raw_edge_score, edge_index[1], num_nodes)

    @staticmethod
    def compute_edge_score_tanh(
        raw_edge_score: Tensor, edge_index: Tensor | None = None, num_nodes: int | None = None
    ) -> Tensor:
        """The hyperbolic tangent."""
        return raw_edge_score.tanh()

    @staticmethod
    def compute_edge_score_sigmoid(
        raw_edge_score: Tensor, edge_index: Tensor | None = None, num_nodes: int | None = None
    ) -> Tensor:
        """The sigmoid."""
        return raw_edge_score.sigmoid()

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, UnpoolInfo]:
        """Pool a batch of graphs.

        Args:
            x: ``[N, F]``.
            edge_index: int64 ``[2, E]``.
            batch: graph of each node, int64 ``[N]``.

        Returns:
            Features, edges and graphs of the clusters, and what :meth:`unpool` needs.
        """
        check_rows(x, self.in_channels)
        raw = F.dropout(scores_of_ends(self.lin, x, edge_index), self.dropout, self.training)
        score = self.compute_edge_score(raw, edge_index, x.size(0)) + self.add_to_edge_score
        chosen = contracted_edges(edge_index, score.detach(), batch, x.size(0))
        cluster, count = _clusters(edge_index[:, chosen], x.size(0))
        rest = x.new_ones(count - chosen.numel(), dtype=score.dtype)
        new_score = torch.cat([score[chosen], rest])
        pooled = x.new_zeros(count, x.size(1)).index_add(0, cluster, x) * new_score[:, None]
        edges, _ = merged_edges(cluster, edge_index, None, None, drop_loops=False)
        new_batch = torch.empty_like(batch[:count]).index_copy(0, cluster, batch)
        return pooled, edges, new_batch, UnpoolInfo(edge_index, cluster, batch, new_score)

    def unpool(self, x: Tensor, unpool_info: UnpoolInfo) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the nodes from those of their clusters, ``[K, F]``, with the edges and graphs before pooling."""
        nodes = (x / unpool_info.new_edge_score[:, None])[unpool_info.cluster]
        return nodes, unpool_info.edge_index, unpool_info.batch

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.in_channels})"


def check_rows(x: Tensor, in_channels: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``x`` is floating ``[N, in_channels]``."""
    check_tensor("x", x, FLOATS)
    if x.dim() != 2 or x.size(1) != in_channels:
        raise ValueError(f"x must have shape [N, {in_channels}], got {list(x.shape)}")


def scores_of_ends(lin: nn.Linear, x: Tensor, edge_index: Tensor) -> Tensor:
    """The linear map of the features of both ends of each edge, ``[E]``."""
    source, target = lin.weight[0].chunk(2)
    # Two numbers for each node instead of 2 F for each edge.
    return (x @ source)[edge_index[0]] + (x @ target)[edge_index[1]] + lin.bias


@untraced  # which edges these are depends on values
def contracted_edges(edge_index: Tensor, score: Tensor, batch: Tensor, num_nodes: int) -> Tensor:
    """The edges that are contracted, by descending score."""
    edges, _ = checks.check_edges(edge_index, num_nodes, None, batch, None, None)
    built = build.build(edges, BuildOptions(want_entry_of_edge=True, symmetric=False))
    of_entries = score
    if built.entry_of_edge is not None:
        lowest = score.new_full((built.col.numel(),), -torch.inf)
        of_entries = lowest.scatter_reduce(0, built.entry_of_edge.long(), score, "amax")
    graph = RaggedGraph(built.rowptr, built.col, None, built.ptr, built.order, False)
    mate = match(graph, of_entries, loops=True)
    source, target = edge_index
    joins = (mate[source] == target).nonzero()[:, 0]
    joins = joins[score[joins].argsort(descending=True, stable=True)]
    # Of the edges that join the same two nodes, the first.
    place = torch.arange(joins.numel(), device=score.device)
    lower = torch.minimum(source, target)[joins]
    first = torch.full((num_nodes,), joins.numel(), device=score.device).scatter_reduce(
        0, lower, place, "amin"
    )
    return joins[first[lower] == place]


def _clusters(ends: Tensor, num_nodes: int) -> tuple[Tensor, int]:
    """The cluster of each node, and their number: the pairs ``ends [2, P]`` in their order, then the other nodes."""
    pairs = ends.size(1)
    numbers = torch.arange(pairs, device=ends.device)
    cluster = torch.full((num_nodes,), -1, device=ends.device)
    cluster[ends[0]] = numbers
    cluster[ends[1]] = numbers
    alone = (cluster < 0).nonzero()[:, 0]
    cluster[alone] = pairs + torch.arange(alone.numel(), device=ends.device)
    return cluster, pairs + alone.numel()
