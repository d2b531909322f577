"""Pooling by a clustering that is computed, not learned."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hierpool.contract import exact_ratio
from hierpool.graph import Assignment, RaggedGraph
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.selection import multilevel_clusters
from hierpool.selection._shared import check_count, check_seed
from hierpool.selection.largest import check_ratio
from hierpool.selection.multilevel import check_objective


class DETPool(HardPooling, name="det"):
    r"""Merge the clusters of :func:`hierpool.multilevel_clusters`, as DiffPool-DET does.

    Features and edges within a cluster are summed. The clusters depend on the graph alone, so that there are no
    gradients to them.

    Args:
        ratio: number of clusters of each graph as a part of its nodes, rounded up. Not used if ``k`` is given.
        k: number of clusters of each graph, or its number of nodes if that is smaller.
        objective: ``"modularity"`` or ``"cut"``.
        seed: selects the order in which nodes are visited.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: the variant DiffPool-DET of Ying et al., NeurIPS 2018 (arXiv:1806.08804), with another clustering.
    """

    def __init__(
        self,
        ratio: float = 0.5,
        *,
        k: int | None = None,
        objective: str = "modularity",
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.k = None if k is None else check_count("k", k)
        self.ratio = ratio if self.k is not None else check_ratio(ratio, "; give k for a number of clusters")
        self.objective, self.seed = check_objective(objective), check_seed(seed)

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The clusters."""
        over, under = (1, 1) if self.k is not None else exact_ratio(self.ratio)
        part = -(-graph.ptr.diff() * over // under)
        count = part.clamp(min=1) if self.k is None else part.clamp(min=1, max=self.k)
        clusters = multilevel_clusters(graph, count, objective=self.objective, seed=self.seed)
        return Selected(Assignment.from_clusters(clusters, graph))

    def extra_repr(self) -> str:
        how = f"ratio={self.ratio}" if self.k is None else f"k={self.k}"
        return f"{how}, objective={self.objective!r}, {super().extra_repr()}"
