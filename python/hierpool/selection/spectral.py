"""Halves of graphs by the largest eigenvector of the Laplacian."""

from __future__ import annotations

from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.graph.undirected import undirected
from hierpool.selection import _shared


def spectral_sign(graph: RaggedGraph, *, seed: int = 0, backend: str = "auto") -> Tensor:
    r"""Divide the nodes so that many edges join the two parts, and say which nodes are in the part that is kept.

    In each connected component, the parts are those of the signs of the eigenvector of the largest eigenvalue of
    :math:`I - D^{-1/2} A D^{-1/2}`, and the part with its largest element is kept. If they cut less than half of the
    weight, nodes change sides while that cuts more, after which at least half is cut. Every component keeps a node, and
    loses one if it has two or more. The eigenvector is found by at most 64 steps of Lanczos' method. It starts from a
    hash of ``seed`` and of the indices of the nodes in their graph, which also breaks ties: where the eigenvalue is a
    multiple one, the result is that of a projection of this vector.

    Args:
        graph: weights must not be negative. Of the two directions of an edge, the larger weight counts. Self-loops are
            ignored.
        seed: selects the start.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        bool ``[N]``, in the caller's order of nodes.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, or ``seed`` is no int.
        ValueError: a weight is negative, infinite or NaN.

    Source: Bianchi, Grattarola, Livi, Alippi, "Hierarchical Representation Learning in Graph Neural Networks with Node
    Decimation Pooling", TNNLS 2020 (arXiv:1910.11436).
    """
    _shared.check_graph(graph)
    seed = _shared.check_seed(seed)
    matrix = undirected(graph)
    module = _shared.backend_of(graph.rowptr, backend)
    return graph.in_callers_order(
        module.spectral_sign(matrix.rowptr, matrix.col, matrix.value, matrix.ptr, seed)
    )
