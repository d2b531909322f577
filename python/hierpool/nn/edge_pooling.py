"""The pooler that contracts the best edges."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.contract import softmax_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.nn.projection import is_projected
from hierpool.ops import edge_pool
from hierpool.ops._contraction import not_triton
from hierpool.selection import match
from hierpool.selection._shared import check_seed, links
from hierpool.selection.matching import pool_of_pairs

_SCORES = ("softmax", "tanh", "sigmoid")


class EdgePool(HardPooling, name="ec"):
    r"""Contract the edges with the best scores, of which no two share a node.

    .. math::
        e_{ij} = \sigma(w^T [x_i, x_j] + b) + c, \qquad x'_k = \max(e_{ij}, e_{ji}) (x_i + x_j)

    for the matched nodes i and j of supernode k; other nodes stay as they are. Supernodes are in the order of their
    first nodes. Nodes are matched by :func:`hierpool.selection.match` with the scores of all entries, so that the
    result does not depend on the order of edges.

    Args:
        in_channels: number of features.
        edge_score: :math:`\sigma`: ``"softmax"`` over the entries with the same target, ``"tanh"`` or ``"sigmoid"``.
        dropout: dropout probability of the scores before :math:`\sigma`.
        add_to_edge_score: :math:`c`.
        seed: selects the order among equal scores.
        options: see :class:`hierpool.nn.HardPooling`; ``remove_self_loops`` is ``False`` by default, as in PyTorch
            Geometric.

    Source: Diehl, arXiv:1905.10990; Diehl et al., "Towards Graph Pooling by Edge Contraction", 2019.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        edge_score: str = "softmax",
        dropout: float = 0.0,
        add_to_edge_score: float = 0.5,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**{"remove_self_loops": False, **options})
        if edge_score not in _SCORES:
            raise ValueError(f"edge_score must be one of {', '.join(map(repr, _SCORES))}, got {edge_score!r}")
        self.in_channels = check_size("in_channels", in_channels)
        self.lin = nn.Linear(2 * in_channels, 1)
        self.edge_score, self.dropout, self.add_to_edge_score = edge_score, dropout, add_to_edge_score
        self.seed = check_seed(seed)

    def reset_parameters(self) -> None:
        """Draw new weights for the scores."""
        self.lin.reset_parameters()

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """:math:`e` of each entry, ``[E]``."""
        raw = F.dropout(scores_of_ends(self.lin, x, graph), self.dropout, self.training)
        if self.edge_score == "softmax":
            score = softmax_by_index(raw, graph.col, graph.num_nodes)
        else:
            score = raw.tanh() if self.edge_score == "tanh" else raw.sigmoid()
        return score + self.add_to_edge_score

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """Matched pairs, with the scores of their edges as weights."""
        score = self.scores(x, graph)
        mate = match(graph, score, loops=True, seed=self.seed)
        weight = graph.in_callers_order(_scores_of_pairs(score, mate, graph))
        return Selected(Assignment._from_heads(mate, graph, of_pairs=True)._weighted_by_node(weight), score)

    def _select_and_pool(self, x: Tensor, graph: RaggedGraph) -> tuple[Selected, Tensor, RaggedGraph]:
        drops = self.training and self.dropout > 0
        if drops or not is_projected(self, EdgePool, x, self.lin.weight):
            return super()._select_and_pool(x, graph)
        rows, weight, bias = graph.in_graph_order(x), self.lin.weight, self.lin.bias
        matrix, shift = (graph.rowptr, graph.col), self.add_to_edge_score
        how = edge_pool.Options(self.edge_score, shift, not_triton(self.backend))
        known = edge_pool.known_scores(rows, weight, bias, *matrix, how)
        select = partial(pool_of_pairs, rows, known, shift, graph.ptr, self.seed)
        found, assignment, coarse = self._selected_graph(graph, links(graph, False), select, False)
        assert found.of_entry is not None
        assert found.mate is not None
        _, first, node = assignment.clusters()
        call = edge_pool.Call(rows, weight, bias, known, *matrix, found.mate, first, node, how)
        out = None if found.y is None else edge_pool.Out(found.y, found.of_entry, found.score)
        features, score, factor = edge_pool.OPERATOR(call, known=out)
        weighted = assignment._weighted_by_node(graph.in_callers_order(factor))
        return Selected(weighted, score), features, coarse


def scores_of_ends(lin: nn.Linear, x: Tensor, graph: RaggedGraph) -> Tensor:
    """The linear map of :math:`[x_i, x_j]` of each entry, ``[E]``."""
    source, target = lin.weight[0].chunk(2)
    # Two numbers for each node instead of 2 F for each entry.
    ends = graph.in_graph_order(torch.stack([x @ source, x @ target], 1))
    row, col = graph.row.long(), graph.col.long()
    return ends[:, 0].index_select(0, row) + ends[:, 1].index_select(0, col) + lin.bias


def _scores_of_pairs(score: Tensor, mate: Tensor, graph: RaggedGraph) -> Tensor:
    """The larger score of the two entries of the pair of each node, 1 without a pair; in the order of the matrix."""
    own = _in_matrix(mate, graph)
    row, col = graph.row, graph.col
    chosen = (own[row] == col).nonzero()[:, 0]
    values = score.index_select(0, chosen)
    ends = torch.cat([row[chosen], col[chosen]]).long()
    best = score.new_full((graph.num_nodes,), -torch.inf).scatter_reduce(0, ends, values.repeat(2), "amax")
    return torch.where(own >= 0, best, 1)


def _in_matrix(mate: Tensor, graph: RaggedGraph) -> Tensor:
    """The mate of each node, from the caller's numbers to those of the matrix."""
    if graph.order is None:
        return mate
    mate = graph.in_graph_order(mate)
    return graph.order.argsort()[mate.clamp(min=0)].where(mate >= 0, -1)
