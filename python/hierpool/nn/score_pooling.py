"""Poolers that keep the nodes with the best scores: Top-K and SAGPool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hierpool.contract import Links, softmax_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.nn.projection import is_projected, pooled_by_projection
from hierpool.nn.sage import SAGEConv
from hierpool.reference.scored_pool import ACTIVATIONS, Scored
from hierpool.selection import topk
from hierpool.selection._shared import check_count, check_number
from hierpool.selection.largest import check_ratio, pool_of_topk


class ScorePooling(HardPooling):
    r"""Keep the nodes of each graph with the best scores, and the edges among them.

    .. math:: X' = \mathrm{multiplier} \cdot (y \odot X)_{\mathrm{kept}}, \qquad A' = A_{\mathrm{kept}, \mathrm{kept}}

    :math:`y = \sigma(\mathrm{score})`; with ``min_score``, :math:`y` is the softmax over each graph. A subclass defines
    :meth:`scores`.

    Args:
        ratio: part of the nodes of each graph to keep, rounded up. Not used if ``k`` or ``min_score`` is given.
        k: number of nodes of each graph to keep.
        min_score: keep the nodes with :math:`y` above this bound, and at least the best node of each graph.
        multiplier: factor of the features.
        nonlinearity: :math:`\sigma`: ``"tanh"``, ``"sigmoid"``, or a function.
        options: ``lift`` and ``backend``, see :class:`hierpool.nn.HardPooling`, and ``remove_self_loops``, which is
            ``False`` by default.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        k: int | None = None,
        min_score: float | None = None,
        multiplier: float = 1.0,
        nonlinearity: str | Callable[[Tensor], Tensor] = "tanh",
        **options: Any,
    ) -> None:
        super().__init__(**{"remove_self_loops": False, **options})
        if k is not None and min_score is not None:
            raise ValueError(
                f"at most one of k and min_score must be given, got k={k} and min_score={min_score}"
            )
        if k is not None:
            k = check_count("k", k)
        elif min_score is not None:
            min_score = check_number("min_score", min_score)
        else:
            ratio = check_ratio(ratio, "; give k for a number of nodes")
        if isinstance(nonlinearity, str) and nonlinearity not in ACTIVATIONS:
            names = ", ".join(map(repr, ACTIVATIONS))
            raise ValueError(f"nonlinearity must be {names} or a function, got {nonlinearity!r}")
        self.ratio, self.k, self.min_score = ratio, k, min_score
        self.multiplier = multiplier
        self.nonlinearity = nonlinearity

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """The score of each node, ``[N]``, before the activation."""
        raise NotImplementedError

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The best nodes, with their scores as weights."""
        score = self.scores(x, graph)
        if self.min_score is None:
            act = self.nonlinearity
            score = ACTIVATIONS[act](score) if isinstance(act, str) else act(score)
        else:
            score = softmax_by_index(score, graph.batch, graph.num_graphs)
        kept = self._kept(score, graph)
        weight = score if self.multiplier == 1 else score * self.multiplier
        return Selected(kept._weighted_by_node(weight), score)

    def _kept(self, score: Tensor, graph: RaggedGraph) -> Assignment:
        """The best nodes, without weights."""
        given = {"k": self.k, "min_score": self.min_score}
        if given == {"k": None, "min_score": None}:
            given["ratio"] = self.ratio
        return Assignment.from_kept(topk(score, graph, **given).nodes, graph)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        how = {"k": self.k, "min_score": self.min_score}
        given = [f"{name}={value}" for name, value in how.items() if value is not None] or [
            f"ratio={self.ratio}"
        ]
        return f"{', '.join(given)}, {super().extra_repr()}"


class TopKPool(ScorePooling, name="topk"):
    r"""Keep the best nodes by a learned projection.

    .. math:: \mathrm{score} = X w / \|w\|

    With ``min_score``, it is :math:`X w`.

    Args:
        in_channels: number of features.
        ratio, options: see :class:`hierpool.nn.ScorePooling`.

    Source: Gao and Ji, "Graph U-Nets", ICML 2019 (arXiv:1905.05178); Cangea et al., arXiv:1811.01287.
    """

    def __init__(self, in_channels: int, ratio: float = 0.5, **options: Any) -> None:
        super().__init__(ratio, **options)
        self.in_channels = check_size("in_channels", in_channels)
        self.weight = nn.Parameter(torch.empty(1, in_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw a new weight, uniform within :math:`1 / \\sqrt{\\mathrm{in\\_channels}}`."""
        bound = max(self.weight.size(1), 1) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """The projection of the features."""
        weight = self.weight[0]
        return (
            x @ weight
            if self.min_score is not None
            else x @ weight / weight.norm().clamp(min=torch.finfo(weight.dtype).tiny)
        )

    def _select_and_pool(self, x: Tensor, graph: RaggedGraph) -> tuple[Selected, Tensor, RaggedGraph]:
        act = self.nonlinearity
        if (
            self.min_score is not None
            or not isinstance(act, str)
            or not is_projected(self, TopKPool, x, self.weight)
        ):
            return super()._select_and_pool(x, graph)
        nodes = Scored(x, self.weight, None, act, True, self.multiplier)
        links, select = Links(graph.rowptr, graph.col), partial(pool_of_topk, ratio=self.ratio, k=self.k)
        return pooled_by_projection(self, nodes, graph, links, select, True)


class SAGPool(ScorePooling, name="sag"):
    r"""Keep the best nodes by a graph convolution, which sees their neighbours.

    Args:
        in_channels: number of features.
        ratio, options: see :class:`hierpool.nn.ScorePooling`.
        scorer: module called as ``scorer(x, graph)`` that returns ``[N, 1]``. ``None``:
            ``SAGEConv(in_channels, 1, aggregation="sum")``, which is PyTorch Geometric's ``GraphConv``.

    Source: Lee, Lee, Kang, "Self-Attention Graph Pooling", ICML 2019 (arXiv:1904.08082).
    """

    def __init__(
        self, in_channels: int, ratio: float = 0.5, *, scorer: nn.Module | None = None, **options: Any
    ) -> None:
        super().__init__(ratio, **options)
        self.in_channels = check_size("in_channels", in_channels)
        self.scorer = SAGEConv(in_channels, 1, aggregation="sum") if scorer is None else scorer

    def reset_parameters(self) -> None:
        """Draw new weights for the scorer."""
        reset = getattr(self.scorer, "reset_parameters", None)
        if reset is not None:
            reset()

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """The output of the scorer."""
        score: Tensor = self.scorer(x, graph)
        if score.shape != (x.size(0), 1):
            raise ValueError(
                f"scorer must return {[x.size(0), 1]} (nodes, 1), but returned {list(score.shape)}"
            )
        return score[:, 0]
