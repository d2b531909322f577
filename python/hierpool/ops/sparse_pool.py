"""Pooling of a batch of graphs by a sparse assignment."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced
from hierpool.contract import Csr, Loops, accumulation_dtype, sum_by_index
from hierpool.graph import Assignment, RaggedGraph, checks
from hierpool.graph.values import ones_or_values
from hierpool.ops import _checks, spmm, spmm_max
from hierpool.ops._contraction import Given, How, contracted, not_triton
from hierpool.ops._product import MAX_ENTRIES, multiplied

REDUCTIONS = ("sum", "mean", "max", "min")
EDGE_REDUCTIONS = (*REDUCTIONS, "mul", "count")
ATTR_REDUCTIONS = (*REDUCTIONS, "mul", None)
LOOPS = ("keep", "drop", "separate")
MODES = ("transpose", "inverse", "gather")


class PooledGraph(NamedTuple):
    """The coarsened batch, whose nodes are the clusters."""

    x: Tensor | None  # [K, F]; None without features
    graph: RaggedGraph
    loops: Tensor | None  # [K], weights of the self-loops, with loops="separate"
    loop_attr: Tensor | None = None  # [K, R], and their features if the graph has edge_attr


def sparse_pool(
    x: Tensor | None,
    graph: RaggedGraph,
    assignment: Assignment,
    *,
    reduce: Literal["sum", "mean", "max", "min"] = "sum",
    edge_reduce: Literal["sum", "mean", "max", "min", "mul", "count"] = "sum",
    attr_reduce: Literal["sum", "mean", "max", "min", "mul"] | None = None,
    loops: Literal["keep", "drop", "separate"] = "keep",
    weights: Literal["sum", "keep"] = "sum",
    weighted_edges: bool | None = None,
    degree_norm: bool = False,
    edge_weight_norm: bool = False,
    max_entries: int = MAX_ENTRIES,
    backend: str = "auto",
) -> PooledGraph:
    r"""Pool a batch of graphs by a sparse assignment :math:`S` of each node to no, one or several clusters.

    If no node has several clusters, with :math:`c_i` that of node i,

    .. math::
        x'_k = \mathrm{reduce}_{i:\, c_i = k}\, s_i x_i, \qquad
        a'_{kl} = \mathrm{edge\_reduce}_{i, j:\, c_i = k,\, c_j = l}\, a_{ij}

    Features of entries, ``graph.edge_attr``, are reduced by ``attr_reduce``, each as entries of a matrix of its own.
    With sums, and ``weighted_edges`` where S has weights, these are :math:`S^T X` and :math:`S^T A S`. Nodes without a
    cluster are dropped with their edges. If each cluster is one node, the result is the subgraph of these nodes. An
    entry of the result is stored for every pair of clusters that an entry of :math:`A` joins, and its row and columns
    ascend. If :math:`A` is symmetric, so is :math:`A'`, bit for bit. Results do not depend on the number of threads. No
    array is larger than the features or the entries, and the number of entries is the only value that a GPU is waited
    for. Under ``torch.compile`` every entry of :math:`A` keeps an entry, as in
    :meth:`hierpool.RaggedGraph.from_edge_index`: the first of several has their value, the others and those that are
    dropped have 0.

    If nodes have several clusters, :math:`x'_k` is taken of all nodes of cluster k, and :math:`A' = S^T A S`. It takes
    an operation for every pair of entries of S that an entry of :math:`A` joins, :math:`O(E m^2)` for m clusters a
    node, and no memory but that of the result, whose number of entries is counted first. Every column of features takes
    as many. ``edge_reduce``, ``attr_reduce`` and ``weights`` must be ``"sum"``. ``torch.compile`` makes a graph of a
    number of entries that depends on values; ``torch.export`` is refused.

    Args:
        x: :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16. ``None``:
            only pool the graph.
        graph: :math:`A`.
        assignment: :math:`S`, made of this graph or of its ``ptr``.
        reduce: what is taken of the rows of a cluster. The mean divides by the number of nodes. A cluster without nodes
            has 0. Of equal extremes, that of the first node gets the gradient.
        edge_reduce: what is taken of entries that become one; ``"count"``: their number.
        attr_reduce: what is taken of their features, ``graph.edge_attr``; ``None``: as of the entries, or the sum if
            these are counted.
        loops: entries within a cluster become a self-loop, are dropped, or are returned as a vector, 0 where there are
            none.
        weights: what an :math:`A` without weights becomes: ``"sum"``: as if they were 1; ``"keep"``: a graph without
            weights, of which ``loops="separate"`` counts the entries.
        weighted_edges: multiply :math:`a_{ij}` by the weights of S at both ends; otherwise these are taken as 1.
            ``None``: only if a node has several clusters.
        degree_norm: take :math:`D^{-1/2} A' D^{-1/2}` with the row sums D of :math:`A'`, without self-loops that are
            dropped or separate; rows and columns of clusters whose row sum is not positive are 0.
        edge_weight_norm: then divide the entries of each graph by their largest absolute value, unless it is 0.
        max_entries: most entries that :math:`S^T A S` may have if a node has several clusters. An entry takes 8 bytes,
            and 4 more for its gradient.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``, for the steps that have it; see
            :func:`hierpool.explain`.

    Returns:
        Features ``[K, F]`` in the dtype of ``x``; the coarsened graph, whose weights have the dtype of those of
        ``graph``, or of ``assignment`` with ``weighted_edges``, or float32; weights ``[K]`` of self-loops, or ``None``;
        their features ``[K, R]``, or ``None``. Gradients flow to ``x``, ``graph.value``, ``graph.edge_attr`` and
        ``assignment.weight``.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, device or option is invalid, or there would be more than ``max_entries``; the message names
            the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: the contraction of Dhillon, Guan, Kulis, "Weighted Graph Cuts without Eigenvectors", PAMI 29, 2007, the
    induced subgraphs of Gao, Ji, "Graph U-Nets", ICML 2019 (arXiv:1905.05178), and the row-wise products of Gustavson,
    "Two Fast Algorithms for Sparse Matrices", TOMS 4, 1978.
    """
    _checks.check_choice("reduce", reduce, REDUCTIONS)
    _checks.check_choice("edge_reduce", edge_reduce, EDGE_REDUCTIONS)
    _checks.check_choice("attr_reduce", attr_reduce, ATTR_REDUCTIONS)
    where = Loops(_checks.check_choice("loops", loops, LOOPS))
    _checks.check_choice("weights", weights, ("sum", "keep"))
    backends.check_name(backend)
    _check_assignment(graph, assignment)
    if not assignment.is_hard:
        _check_soft(edge_reduce, attr_reduce, weights, max_entries)
    if x is not None:
        _checks.check_features(graph, x)
        x = pooled_rows(graph.in_graph_order(x), assignment, reduce, backend)
    for name, flag in (("degree_norm", degree_norm), ("edge_weight_norm", edge_weight_norm)):
        checks.check_flag(name, flag, True, False)
    if not assignment.is_hard:
        weight = weights_of(assignment, weighted_edges is not False, graph.dtype)
        coarse, *apart = multiplied(graph, assignment, weight, where, max_entries, backend)
        return PooledGraph(x, normalised(coarse, degree_norm, edge_weight_norm), *apart)
    given = _weighted(graph, assignment.weight_of_node() if weighted_edges else None)
    of_attr = attr_reduce or ("sum" if edge_reduce == "count" else edge_reduce)
    how = How(edge_reduce, of_attr, where, weights == "keep", backend)
    coarse, *apart = contracted(graph, given, assignment, how)
    return PooledGraph(x, normalised(coarse, degree_norm, edge_weight_norm), *apart)


def sparse_lift(
    x: Tensor,
    assignment: Assignment,
    *,
    mode: Literal["transpose", "inverse", "gather"] = "transpose",
    backend: str = "auto",
) -> Tensor:
    r"""Features of nodes from those of their clusters.

    Args:
        x: :math:`X'`, ``[K, F]``; float64, float32, bfloat16 or float16.
        assignment: :math:`S`.
        mode: ``"transpose"``: :math:`S X'`. ``"inverse"``: :math:`(S^+)^T X'`, of which the pooled features are again
            :math:`X'` if they are sums and no cluster is empty; each node has at most one cluster, so that this is
            :math:`s_i x'_k / \sum_j s_{jk}^2`. ``"gather"``: :math:`S X'` with weights 1. Dropped nodes are 0.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[N, F]`` in the dtype of ``x`` and the caller's order of nodes. Gradients flow to ``x`` and
        ``assignment.weight``.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, device or option is invalid, or ``mode="inverse"`` and a node has several clusters.
        RuntimeError: the named backend cannot run; the message gives the reason.
    """
    _checks.check_choice("mode", mode, MODES)
    backends.check_name(backend)
    if not isinstance(assignment, Assignment):
        raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
    _checks.check_tensor("x", x, _checks.FLOATS)
    k = assignment.num_clusters
    if x.dim() != 2 or x.size(0) != k:
        raise ValueError(f"x must have shape [K, F] = [{k}, F], got {tuple(x.shape)}")
    if x.device != assignment.device:
        raise ValueError(f"x must be on the device of assignment, {assignment.device}, got {x.device}")
    if mode == "inverse" and not assignment.is_hard:
        raise ValueError("mode must be 'transpose' or 'gather' if a node has several clusters, got 'inverse'")
    weight = None if mode == "gather" else assignment.weight
    if mode == "inverse":
        weight = _inverse(assignment)
    options = spmm.Options(False, backend)
    (nodes,) = spmm.OPERATOR(spmm.Call(x, matrix_of(assignment, weight), options))
    if assignment.order is None:
        return nodes
    return torch.empty_like(nodes).index_copy(0, assignment.order, nodes)


def _check_assignment(graph: Any, assignment: Any) -> None:
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph, got {type(graph).__name__}")
    if not isinstance(assignment, Assignment):
        raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
    if assignment.device != graph.device:
        raise ValueError(
            f"assignment must be on the device of the graph, {graph.device}, got {assignment.device}"
        )
    if assignment.num_nodes != graph.num_nodes or assignment.num_graphs != graph.num_graphs:
        raise ValueError(
            f"assignment must have the {graph.num_nodes} nodes and {graph.num_graphs} graphs of the graph,"
            f" got {assignment.num_nodes} and {assignment.num_graphs}"
        )
    compared = (
        () if is_traced() else (("ptr", assignment.ptr, graph.ptr), ("order", assignment.order, graph.order))
    )
    for name, own, other in compared:
        if own is not other and (own is None or other is None or not torch.equal(own, other)):
            raise ValueError(f"assignment must be made of the graph, whose {name} differs")


def _check_soft(edge_reduce: str, attr_reduce: str | None, weights: str, max_entries: Any) -> None:
    """Check options of an assignment with several clusters for a node."""
    options = {"edge_reduce": edge_reduce, "attr_reduce": attr_reduce or "sum", "weights": weights}
    for name, given in options.items():
        if given != "sum":
            raise ValueError(f"{name} must be 'sum' if a node has several clusters, got {given!r}")
    checks.check_size("max_entries", max_entries)


def matrix_of(assignment: Assignment, weight: Tensor | None) -> Csr:
    """S with other weights, and its transpose."""
    rowptr, node, entry = assignment.transposed()
    turned = None if weight is None else weight.detach().index_select(0, entry)
    return Csr(weight, assignment.rowptr, assignment.cluster, rowptr, node, turned)


def _inverse(assignment: Assignment) -> Tensor:
    """The entries of the transpose of the pseudoinverse of S."""
    weight = _entries(assignment)
    norm = sum_by_index(weight.square(), assignment.cluster, assignment.num_clusters)
    return weight / torch.where(norm == 0, 1, norm).index_select(0, assignment.cluster)


def _shares(assignment: Assignment) -> Tensor:
    """The entries of S divided by the number of nodes of their cluster."""
    size = assignment.transposed()[0].diff().to(torch.float32)  # a cluster of an entry is not empty
    return _entries(assignment) / size.index_select(0, assignment.cluster)


def _entries(assignment: Assignment) -> Tensor:
    """The entries of S, in which squares and sizes of clusters do not exceed the range of the dtype."""
    weight = weights_of(assignment)
    return weight.to(accumulation_dtype(weight))


def pooled_rows(x: Tensor, assignment: Assignment, reduce: str, backend: str) -> Tensor:
    """Features of the clusters; those of nodes are in the order of the matrix."""
    weight = assignment.weight
    if reduce == "mean" and x.dtype in (torch.float16, torch.bfloat16):
        # The sum may exceed the range of float16 where the mean does not.
        reduce, weight = "sum", _shares(assignment)
    matrix = matrix_of(assignment, weight)
    if reduce in ("max", "min"):
        (y,) = spmm_max.OPERATOR(
            spmm_max.Call(x, matrix, spmm_max.Options(reduce == "min", not_triton(backend)))
        )
        return y
    (y,) = spmm.OPERATOR(spmm.Call(x, matrix, spmm.Options(True, backend)))
    if reduce == "sum":
        return y
    assert matrix.rowptr_t is not None
    return y / matrix.rowptr_t.diff().clamp(min=1).to(y.dtype)[:, None]


def weights_of(assignment: Assignment, is_weighted: bool = True, dtype: torch.dtype | None = None) -> Tensor:
    """The entries of S, ``[M]``; without weights 1 in ``dtype`` or float32."""
    if assignment.weight is not None and is_weighted:
        return assignment.weight
    return torch.ones(assignment.num_entries, dtype=dtype or torch.float32, device=assignment.device)


def normalised(graph: RaggedGraph, degree_norm: bool, edge_weight_norm: bool) -> RaggedGraph:
    """The graph with its weights divided by the roots of degrees, then by the largest of each graph."""
    if not (degree_norm or edge_weight_norm):
        return graph
    value = ones_or_values(graph, torch.float32) if degree_norm else graph.value
    if value is None:
        return graph
    row = graph.row.long()
    if degree_norm:
        degree = sum_by_index(value.to(accumulation_dtype(value)), row, graph.num_nodes)
        positive = degree > 0
        # Not rsqrt, whose derivative has the cube of the result.
        scale = torch.where(positive, torch.where(positive, degree, 1).sqrt().reciprocal(), 0)
        ends = scale.index_select(0, row) * scale.index_select(0, graph.col)  # the same in both directions
        value = (value * ends).to(value.dtype)
    if edge_weight_norm:
        of_entry = graph.graph_of_node()[row]
        largest = value.new_zeros(graph.num_graphs).scatter_reduce(0, of_entry, value.abs(), "amax")
        value = value / torch.where(largest == 0, 1, largest)[of_entry]
    return graph.with_value(value, symmetric=True if graph.is_symmetric else None)


def _weighted(graph: RaggedGraph, s: Tensor | None) -> Given:
    """The weights and features of the entries, times the weights of their ends."""
    value, attr = graph.value, graph.edge_attr
    if s is None:
        return Given(value, attr)
    ends = s.index_select(0, graph.row) * s.index_select(0, graph.col)  # the same in both directions
    return Given(ends if value is None else value * ends, None if attr is None else attr * ends[:, None])
