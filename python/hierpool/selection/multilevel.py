"""Clusters of large modularity or small cut, by moves of nodes on a hierarchy of coarser graphs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from hierpool.contract import ClusteringGoal, Csr
from hierpool.graph import RaggedGraph
from hierpool.selection import _shared

_OBJECTIVES = ("modularity", "cut")
_IMBALANCE = 0.03


def multilevel_clusters(
    graph: RaggedGraph,
    num_clusters: int | Tensor | None = None,
    *,
    objective: str = "modularity",
    resolution: float = 1.0,
    max_imbalance: float | None = None,
    start: Tensor | None = None,
    cycles: int = 2,
    seed: int = 0,
    backend: str = "auto",
) -> Tensor:
    r"""Cluster the nodes of each graph so that few or light edges join different clusters.

    ``objective="modularity"`` maximises

    .. math:: Q = \sum_c \Big( \frac{w_c}{W} - \gamma \frac{v_c^2}{W^2} \Big)

    where :math:`W` is the weight of all entries of the adjacency matrix, :math:`w_c` that of entries inside cluster
    :math:`c`, :math:`v_c` that of entries whose row is in :math:`c`, and :math:`\gamma` is ``resolution``.
    ``objective="cut"`` minimises the weight of edges between clusters of at most
    :math:`\lfloor (1 + \varepsilon) n / K \rfloor`, but at least :math:`\lceil n / K \rceil` nodes, where
    :math:`\varepsilon` is ``max_imbalance``.

    A cycle merges nodes with their best neighbours level by level, as long as that improves the objective, and merges
    the best pairs of the coarsest clusters if there are still too many. Then single nodes move to better clusters on
    every level, from the coarsest to the finest. Further cycles merge only nodes of the same cluster, and so do not
    lose what was reached. One cycle takes about :math:`O(E \log N)`.

    With :meth:`hierpool.nn.SelectOutput.from_clusters` the clusters are the fixed assignment of DiffPool-DET. The
    moves are made one after the other: in C++ on the CPU, which uses threads for different graphs and for coarser
    graphs, or else in Python, which takes minutes for a million entries. A graph on another device is copied to the
    CPU. The result does not depend on threads, on the rest of the batch or on the order of edges.

    Args:
        graph: weights must not be negative; for a directed graph, :math:`A + A^T` is used.
        num_clusters: :math:`K`, of all graphs, or int64 ``[B]``; a graph with fewer nodes has one cluster per node.
            ``None``: as many as are best for the modularity.
        objective: ``"modularity"`` or ``"cut"``.
        resolution: :math:`\gamma`; a larger one makes smaller clusters.
        max_imbalance: :math:`\varepsilon`; ``None``: 0.03 for the cut, and no bound for the modularity.
        start: a clustering to improve, integers from 0 below :math:`K` of the graph, ``[N]``, in the caller's order.
            Its clusters are not emptied, and more are made up to :math:`K` where that helps; with
            ``num_clusters=None``, any number of clusters may result for the modularity, and as many as are given for
            the cut.
        cycles: number of cycles, at least 1; more are slower and better.
        seed: selects the order in which nodes are visited.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        int64 ``[N]``: cluster of each node in its own graph, from 0 in the order of first nodes, in the caller's order.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument is out of range, a weight is negative or not finite, ``num_clusters`` is missing, or
            ``start`` does not fit.

    Source: Rotta, Noack, "Multilevel local search algorithms for modularity clustering", Journal of Experimental
    Algorithmics 16, 2011; Traag, Waltman, van Eck, "From Louvain to Leiden", Scientific Reports 9, 2019, for visiting
    only nodes whose neighbours have moved; Karypis, Kumar, "A fast and high quality multilevel scheme for partitioning
    irregular graphs", SIAM J. Sci. Comput. 20, 1998, for the cut.
    """
    _shared.check_graph(graph)
    cut = check_objective(objective) == "cut"
    resolution = _not_negative("resolution", resolution)
    cycles, seed = _shared.check_count("cycles", cycles), _shared.check_seed(seed)
    sizes = graph.ptr.diff().cpu()
    counts = _counts(num_clusters, sizes)
    first, given = (None, None) if start is None else _start(start, graph, counts)
    if counts is None and cut:
        if given is None:
            raise ValueError("num_clusters must be given with objective='cut'")
        counts = given.clamp(min=1)
    if max_imbalance is None and cut:
        max_imbalance = _IMBALANCE
    largest = sizes
    if max_imbalance is not None:
        if counts is None:
            raise ValueError("num_clusters must be given with max_imbalance")
        share = (1 + _not_negative("max_imbalance", max_imbalance)) * sizes.double() / counts
        largest = torch.maximum(-(-sizes // counts), share.clamp(max=2.0**62).long())
    goal = ClusteringGoal(cut, resolution, sizes if counts is None else counts, counts is not None, largest)
    matrix, ptr = _matrix(graph), graph.ptr.cpu()
    module = _shared.backend_of(ptr, backend)
    found: Tensor = module.multilevel_clusters(matrix, ptr, goal, first, cycles, seed)
    return graph.in_callers_order(found.to(graph.device))


def check_objective(objective: Any) -> str:
    """``objective`` if it is the name of one."""
    if objective not in _OBJECTIVES:
        raise ValueError(f"objective must be 'modularity' or 'cut', got {objective!r}")
    return str(objective)


def _not_negative(name: str, value: Any) -> float:
    number = _shared.check_number(name, value)
    if not 0 <= number < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return number


def _counts(num_clusters: Any, sizes: Tensor) -> Tensor | None:
    """The number of clusters of each graph, int64 ``[B]``."""
    if num_clusters is None:
        return None
    if not isinstance(num_clusters, Tensor):
        return torch.full_like(sizes, _shared.check_count("num_clusters", num_clusters))
    if num_clusters.dtype is not torch.int64:
        raise TypeError(f"num_clusters must be an int or an int64 tensor, got dtype {num_clusters.dtype}")
    if num_clusters.shape != sizes.shape:
        raise ValueError(
            f"num_clusters must have shape [B] = [{sizes.numel()}], got {list(num_clusters.shape)}"
        )
    if num_clusters.numel() and int(num_clusters.min()) < 1:
        raise ValueError(f"num_clusters must be at least 1, got {int(num_clusters.min())}")
    return num_clusters.cpu()


def _start(start: Any, graph: RaggedGraph, counts: Tensor | None) -> tuple[Tensor, Tensor]:
    """The clusters to start with, in the order of the matrix and numbered without gaps in each graph, int64 ``[N]``,
    and their count in each graph, ``[B]``; on the CPU."""
    if not isinstance(start, Tensor):
        raise TypeError(f"start must be a torch.Tensor, got {type(start).__name__}")
    if start.is_floating_point() or start.is_complex() or start.dtype is torch.bool:
        raise TypeError(f"start must have an integer dtype, got {start.dtype}")
    if start.shape != (graph.num_nodes,):
        raise ValueError(f"start must have shape [N] = [{graph.num_nodes}], got {list(start.shape)}")
    if start.device != graph.device:
        raise ValueError(f"start must be on {graph.device}, got {start.device}")
    if start.numel() and int(start.min()) < 0:
        raise ValueError(f"start must not be negative, got {int(start.min())}")
    cluster = graph.in_graph_order(start.long()).cpu()
    of_node = graph.graph_of_node().cpu().long()
    if counts is not None and bool((cluster >= counts[of_node]).any()):
        raise ValueError("start must have integers below num_clusters")
    number = cluster.unique(return_inverse=True)[1]
    width = max(number.numel(), 1)
    found, place = (of_node * width + number).unique(return_inverse=True)
    used = torch.bincount(found // width, minlength=graph.num_graphs)
    return place - (used.cumsum(0) - used)[of_node], used


def _matrix(graph: RaggedGraph) -> Csr:
    """:math:`A`, or :math:`A + A^T` of a directed graph, on the CPU, with float64 weights of moderate size."""
    value = None if graph.value is None else graph.value.detach()
    if value is not None and not bool(((value >= 0) & value.isfinite()).all()):
        raise ValueError("graph must have weights that are finite and not negative")
    if not graph.is_symmetric:
        graph = _shared.sum_of_directions(graph)
        value = graph.value
    if value is None:
        return Csr(None, graph.rowptr.cpu(), graph.col.cpu())
    value = value.double()
    if value.numel():
        value = torch.ldexp(value, -torch.frexp(value.max()).exponent)  # exact: gains are products of sums
    return Csr(value.cpu(), graph.rowptr.cpu(), graph.col.cpu())
