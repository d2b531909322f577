"""The pooler that contracts all edges with a large score."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.contract import log_softmax_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.edge_pooling import scores_of_ends
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.ops.spmm import spmm
from hierpool.selection import components
from hierpool.selection._shared import check_number

_SCORES = ("tanh", "sigmoid", "log_softmax")


class ClusterPool(HardPooling, name="cluster"):
    r"""Merge the nodes that are joined by edges with large scores, whole connected components at a time.

    .. math::
        e_{ij} = \sigma(w^T [x_i, x_j] + b), \qquad
        x'_k = \sum_{j:\, c_j = k} \Bigl( [\text{j is alone}]\, x_j + \sum_i e_{ij} x_i \Bigr)

    The supernodes are the connected components of the edges with :math:`e_{ij} > \mathrm{threshold}`, in the order of
    their first nodes. The inner sum is over all edges that end in j, contracted or not. Self-loops have no part in it.

    Args:
        in_channels: number of features.
        edge_score: :math:`\sigma`: ``"tanh"``, ``"sigmoid"``, or ``"log_softmax"`` over the entries of each graph;
            PyTorch Geometric takes it over those of the batch.
        dropout: dropout probability of the scores before :math:`\sigma`.
        threshold: ``None``: 0.5 with ``"sigmoid"``, else 0.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: Snelleman, Renting, Hoos, van Rijn, "Edge-Based Graph Component Pooling", 2024 (arXiv:2409.11856).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        edge_score: str = "tanh",
        dropout: float = 0.0,
        threshold: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if edge_score not in _SCORES:
            raise ValueError(f"edge_score must be one of {', '.join(map(repr, _SCORES))}, got {edge_score!r}")
        if threshold is None:
            threshold = 0.5 if edge_score == "sigmoid" else 0.0
        self.in_channels = check_size("in_channels", in_channels)
        self.lin = nn.Linear(2 * in_channels, 1)
        self.edge_score, self.dropout = edge_score, dropout
        self.threshold = check_number("threshold", threshold)

    def reset_parameters(self) -> None:
        """Draw new weights for the scores."""
        self.lin.reset_parameters()

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """:math:`e` of each entry, ``[E]``; 0 of self-loops."""
        raw = F.dropout(scores_of_ends(self.lin, x, graph), self.dropout, self.training)
        joins = graph.row != graph.col
        if self.edge_score == "log_softmax":
            of_entry = graph.graph_of_node()[graph.row]
            raw = log_softmax_by_index(raw.masked_fill(~joins, -torch.inf), of_entry, graph.num_graphs)
        else:
            raw = raw.tanh() if self.edge_score == "tanh" else raw.sigmoid()
        return torch.where(joins, raw, 0)

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The connected components."""
        score = self.scores(x, graph)
        head = components(graph, (score > self.threshold) & (graph.row != graph.col))
        return Selected(Assignment._from_heads(head, graph), score)

    def pool(self, x: Tensor, graph: RaggedGraph, selected: Selected) -> tuple[Tensor, RaggedGraph]:
        """The sums over nodes of their neighbours' features by the scores."""
        score = self.scores(x, graph) if selected.score is None else selected.score
        cluster, first, _ = selected.assignment.clusters()
        alone = graph.in_callers_order((first.diff()[cluster] == 1) & (cluster >= 0))
        sums = spmm(graph.with_value(score, symmetric=False), x, transpose=True)
        return super().pool(torch.where(alone[:, None], x, 0) + sums, graph, selected)

    def extra_repr(self) -> str:
        return f"edge_score={self.edge_score!r}, threshold={self.threshold}, {super().extra_repr()}"
