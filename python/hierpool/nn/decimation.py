"""The pooler that keeps one part of a large cut."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hierpool._tracing import untraced
from hierpool.graph import Assignment, RaggedGraph
from hierpool.nn.hard_pooling import HardPooling, Selected, kept_rows
from hierpool.ops._contraction import not_triton
from hierpool.ops.kron import kron
from hierpool.selection import spectral_sign
from hierpool.selection._shared import check_number, check_seed


class NDPPool(HardPooling, name="ndp"):
    r"""Keep about half of the nodes, few of which are neighbours, and join those that were joined by paths over others.

    .. math:: X' = X_{+}, \qquad L' = L_{++} - L_{+-} L_{--}^{-1} L_{-+}, \qquad A' = \operatorname{diag}(L') - L'

    :func:`hierpool.selection.spectral_sign` selects the nodes that are kept (+), by the signs of the eigenvector of the
    largest eigenvalue of the normalised Laplacian of each connected component; nodes without neighbours are kept.
    :func:`hierpool.kron` makes the graph, of which entries with at most the weight ``threshold`` are left out. As in
    torch-geometric-pool, the next level pools the graph without them, while the original code leaves them out of the
    results only: there ``threshold=0`` of all levels but the last is the same. The layer has no parameters, and no
    gradient flows to the weights of the graph. Features of edges are refused: of paths over others there are none.

    Args:
        threshold: see above.
        seed: selects the start of the search for the eigenvector.
        options: ``lift`` and ``backend``, see :class:`hierpool.nn.HardPooling`. Others have no
            effect: supernodes are single nodes, and there are no self-loops.

    Source: Bianchi, Grattarola, Livi, Alippi, TNNLS 2020 (arXiv:1910.11436).
    """

    pools_edge_attr = False

    def __init__(self, *, threshold: float = 0.01, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        threshold = check_number("threshold", threshold)
        if threshold < 0:
            raise ValueError(f"threshold must not be negative, got {threshold}")
        self.threshold, self.seed = threshold, check_seed(seed)

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The nodes that are kept."""
        kept = spectral_sign(graph, seed=self.seed).nonzero()[:, 0]
        return Selected(Assignment.from_kept(kept, graph))

    @untraced
    def pool(self, x: Tensor, graph: RaggedGraph, selected: Selected) -> tuple[Tensor, RaggedGraph]:
        """Features of the nodes that are kept, and the Kron reduction."""
        assignment = selected.assignment
        coarse = kron(graph, assignment, threshold=self.threshold, backend=not_triton(self.backend))
        return kept_rows(x, assignment), coarse

    def extra_repr(self) -> str:
        return f"threshold={self.threshold}, backend={self.backend!r}"
