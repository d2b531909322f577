"""Poolers that merge nodes by the structure of the graph: Graclus and k-MIS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hierpool.contract import Csr, accumulation_dtype
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.nn.projection import is_projected, pooled_by_projection
from hierpool.ops import spmm
from hierpool.reference.scored_pool import Scored, scores_of
from hierpool.reference.scored_pool import Selected as ByScores
from hierpool.selection import _shared, match, mis
from hierpool.selection._shared import check_count, check_seed
from hierpool.selection.independent import pool_of_mis

_SCORERS = ("linear", "degree", "random", "constant", "canonical")
_HEURISTICS = ("greedy", "w-greedy", None)


class GraclusPool(HardPooling, name="graclus"):
    r"""Merge pairs of nodes that are joined by heavy edges.

    Edges are visited in descending order of their scores, and the nodes of an edge are merged if neither is merged yet;
    others stay as they are. The score is the weight :math:`a_{ij}`, or with ``normalized_cut``
    :math:`a_{ij} (1/d_i + 1/d_j)` with the row sums :math:`d`, where :math:`1/0` is taken as 0.

    Args:
        score: ``"weight"`` or ``"normalized_cut"``.
        seed: selects the order among equal scores.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: Dhillon, Guan, Kulis, PAMI 29, 2007; Defferrard, Bresson, Vandergheynst, NeurIPS 2016 (arXiv:1606.09375).
    """

    def __init__(self, *, score: str = "weight", seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        if score not in ("weight", "normalized_cut"):
            raise ValueError(f"score must be 'weight' or 'normalized_cut', got {score!r}")
        self.score, self.seed = score, check_seed(seed)

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """Matched pairs."""
        value = graph.value
        if value is not None and not bool((value >= 0).all()):
            raise ValueError("adj must have weights that are not negative")
        score = None
        if self.score == "normalized_cut":
            degree = graph.in_graph_order(graph.degree.detach())
            degree = degree.to(accumulation_dtype(degree))
            share = torch.where(degree > 0, 1 / degree, 0)
            score = share[graph.row] + share[graph.col]
            score = score if value is None else score * value.detach()
        mate = match(graph, score, seed=self.seed)
        return Selected(Assignment._from_heads(mate, graph, of_pairs=True), score)


class KMISPool(HardPooling, name="kmis"):
    r"""Keep a maximal set of nodes that are farther than ``hops`` edges apart, and merge all others into them.

    Nodes with a large score are preferred. With ``heuristic="greedy"`` the score is divided by the number of walks of
    at most ``hops`` edges that end at the node, with ``"w-greedy"`` by the sum of scores along them, which makes the
    set large. Every node belongs to the first member of the set within ``hops`` edges; its weight is its score.

    Args:
        in_channels: number of features; needed with ``scorer="linear"`` only.
        hops: :math:`k`.
        scorer: ``"linear"``: the sigmoid of a linear map; ``"degree"``, ``"random"``, ``"constant"``; ``"canonical"``:
            first nodes first, with weight 1; or a module called as ``scorer(x, graph)`` that returns ``[N, 1]``.
        heuristic: ``"greedy"``, ``"w-greedy"`` or ``None``.
        seed: selects the order among equal scores.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: Bacciu, Conte, Landolfi, AAAI 2023 (arXiv:2208.03523).
    """

    def __init__(
        self,
        in_channels: int | None = None,
        *,
        hops: int = 1,
        scorer: str | nn.Module = "linear",
        heuristic: str | None = "greedy",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        hops, seed = check_count("hops", hops), check_seed(seed)
        if heuristic not in _HEURISTICS:
            raise ValueError(f"heuristic must be 'greedy', 'w-greedy' or None, got {heuristic!r}")
        if not isinstance(scorer, nn.Module) and scorer not in _SCORERS:
            raise ValueError(
                f"scorer must be one of {', '.join(map(repr, _SCORERS))} or a module, got {scorer!r}"
            )
        self.lin = None
        if scorer == "linear":
            if in_channels is None:
                raise ValueError("in_channels must be given with scorer='linear', got None")
            self.in_channels = check_size("in_channels", in_channels)
            self.lin = nn.Linear(in_channels, 1)
        self.hops, self.scorer, self.heuristic, self.seed = hops, scorer, heuristic, seed

    def reset_parameters(self) -> None:
        """Draw new weights for the scores."""
        reset = getattr(self.lin or self.scorer, "reset_parameters", None)
        if reset is not None:
            reset()

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor | None:
        """The score of each node, ``[N]``; ``None``: first nodes first."""
        n = graph.num_nodes
        if self.lin is not None:
            return self.lin(x)[:, 0].sigmoid()
        if isinstance(self.scorer, nn.Module):
            score: Tensor = self.scorer(x, graph)
            if score.shape != (n, 1):
                raise ValueError(f"scorer must return {[n, 1]} (nodes, 1), but returned {list(score.shape)}")
            return score[:, 0]
        dtype = accumulation_dtype(x)  # float16 and bfloat16 cannot tell large degrees apart
        if self.scorer == "degree":
            return graph.degree.to(dtype)
        if self.scorer == "canonical":
            return None
        return torch.rand(n, dtype=dtype, device=x.device) if self.scorer == "random" else x.new_ones(n)

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The members of the set and the nodes that belong to them."""
        score = self.scores(x, graph)
        members = self._members(score, graph)
        return Selected(members if score is None else members._weighted_by_node(score), score)

    def _select_and_pool(self, x: Tensor, graph: RaggedGraph) -> tuple[Selected, Tensor, RaggedGraph]:
        if self.lin is None or not is_projected(self, KMISPool, x, self.lin.weight):
            return super()._select_and_pool(x, graph)
        nodes = Scored(x, self.lin.weight, self.lin.bias, "sigmoid")
        links = _shared.links(graph, graph.is_symmetric)
        return pooled_by_projection(self, nodes, graph, links, self._pool_of_members, False)

    def _pool_of_members(self, rows: Scored, graph: RaggedGraph, *call: Any) -> ByScores:
        """:func:`pool_of_mis` by the scores of the rows of the matrix."""
        greedy, priority = self.heuristic == "greedy" and self.hops == 1, None
        if not greedy and self.heuristic is not None:
            with torch.no_grad():
                score = scores_of(*rows[:5])
            priority = graph.in_graph_order(self._priority(graph.in_callers_order(score), graph))
        how: dict[str, Any] = {"priority": priority, "greedy": greedy, "hops": self.hops, "seed": self.seed}
        return pool_of_mis(rows, graph, *call, **how)

    def _members(self, score: Tensor | None, graph: RaggedGraph) -> Assignment:
        """The members of the set and the nodes that belong to them, without weights."""
        if score is None:
            of_node = graph.graph_of_node()
            priority = graph.in_callers_order(
                graph.ptr[of_node] - torch.arange(graph.num_nodes, device=of_node.device)
            )
        else:
            priority = self._priority(score.detach(), graph)
        return Assignment._from_heads(mis(graph, priority, hops=self.hops, seed=self.seed), graph)

    def _priority(self, score: Tensor, graph: RaggedGraph) -> Tensor:
        if self.heuristic is None:
            return score
        score = graph.in_graph_order(score.to(accumulation_dtype(score)))
        turned = (None, None) if graph.is_symmetric else graph.reversed_entries()[:2]
        matrix = Csr(None, graph.rowptr, graph.col, *turned)
        walks, hops = score, self.hops
        if self.heuristic == "greedy":  # of one hop: the entries that end in the node
            walks, hops = matrix.factor(True)[0].diff().to(score.dtype) + 1, hops - 1
        for _ in range(hops):
            (steps,) = spmm.OPERATOR(spmm.Call(walks[:, None], matrix, spmm.Options(True, "auto")))
            walks = walks + steps[:, 0]
        if self.heuristic == "w-greedy":  # scores may be 0
            walks = torch.where(walks == 0, 1, walks)
        return graph.in_callers_order(score / walks)

    def extra_repr(self) -> str:
        return f"hops={self.hops}, heuristic={self.heuristic!r}, {super().extra_repr()}"


def heads_of_pairs(mate: Tensor) -> Tensor:
    """The smaller node of each pair, and each node without a mate (-1) itself, int64 ``[N]``."""
    nodes = torch.arange(mate.numel(), device=mate.device)
    return torch.where(mate < 0, nodes, torch.minimum(mate, nodes))
