"""The record of soft pooling for a sparse assignment."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, diagonal_of, sum_by_index, sum_of_ranges
from hierpool.graph import Assignment, RaggedGraph
from hierpool.losses._tensors import root
from hierpool.ops import _checks, spmm
from hierpool.ops._product import MAX_ENTRIES, gram_of
from hierpool.ops.sparse_pool import matrix_of, sparse_pool, weights_of
from hierpool.record import SparsePoolRecord


def sparse_soft_pool(
    x: Tensor,
    graph: RaggedGraph,
    assignment: Assignment,
    *,
    link_loss: Literal["frobenius"] | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    max_entries: int = MAX_ENTRIES,
    backend: str = "auto",
) -> SparsePoolRecord:
    r"""Pool a batch of graphs with a sparse soft assignment, and compute the sums that losses need.

    :func:`hierpool.soft_pool` for an assignment :math:`S` that has a few clusters for each node, as of
    :func:`hierpool.top_m_softmax`. :math:`X' = S^T X` and :math:`A' = S^T A S` are those of
    :func:`hierpool.sparse_pool`. With m clusters a node, the work is :math:`O(E m^2 + N m^2 + N m F)`.

    Args:
        x: node features :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16.
        graph: :math:`A`.
        assignment: :math:`S`, made of this graph or of its ``ptr``.
        link_loss: ``"frobenius"`` for :math:`|A - S S^T|_F`, or ``None`` to skip it. It is a difference of sums, which
            are taken in float64.
        entropy: whether to compute the entropies.
        gram: whether to compute :math:`S^T S`; ``None``: only if ``link_loss`` needs it.
        max_entries: most entries that :math:`S^T A S` and :math:`S^T S` may have.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``, for the steps that have it; see
            :func:`hierpool.explain`.

    Returns:
        The record. Gradients flow to ``x``, ``graph.value`` and ``assignment.weight``.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, device or option is invalid, or there would be more than ``max_entries``; the message names
            the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    link = _checks.check_choice("link_loss", link_loss, (None, "frobenius")) == 1
    _checks.check_flag("gram", gram)
    if not isinstance(entropy, bool):
        raise TypeError(f"entropy must be True or False, got {entropy!r}")
    if link and gram is False:
        raise ValueError(
            "gram must be True or None with link_loss='frobenius', got False; pass link_loss=None as well"
        )
    options: dict[str, Any] = {"max_entries": max_entries, "backend": backend}
    pooled, adj, *_ = sparse_pool(x, graph, assignment, weighted_edges=True, **options)
    assert pooled is not None
    weight = weights_of(assignment)
    acc = accumulation_dtype(x, weight, graph.value)
    weight = weight.to(acc)
    products = gram_of(assignment, weight, max_entries, backend) if gram or link else None
    sums = _sums(graph, assignment, weight, adj, products if link else None, entropy)
    size, volume = _sums_of_clusters(graph, assignment, weight, backend)
    link_sq = sums.link_sq
    norms = (None, None) if link_sq is None else (root(link_sq), root(link_sq.sum()))
    total = None if sums.entropy is None else sums.entropy.sum()
    fields = [None if t is None else t.to(acc) for t in (size, volume, *sums[:-1], *norms, total)]
    return SparsePoolRecord._make([assignment, pooled, adj, products, *fields])


class _Sums(NamedTuple):
    """Sums over each graph in float64, ``[B]``; ``None``: not computed."""

    num_nodes: Tensor
    entropy: Tensor | None
    trace: Tensor
    cut_degree: Tensor
    adj_norm: Tensor
    total_degree: Tensor
    link_sq: Tensor | None


def _sums(
    graph: RaggedGraph,
    assignment: Assignment,
    weight: Tensor,
    adj: RaggedGraph,
    gram: RaggedGraph | None,
    entropy: bool,
) -> _Sums:
    """``gram``: for the link loss; ``None``: it is not computed."""
    entries, nodes = assignment.rowptr.long()[graph.ptr], graph.ptr
    weight = weight.double()
    num_nodes = nodes.diff().double()
    degree = _degrees(graph)
    total = sum_of_ranges(degree, nodes)
    cut = sum_of_ranges(weight.square() * degree[assignment.row.long()], entries)
    squares = _squares(graph)
    trace = sum_of_ranges(diagonal_of(adj.rowptr, adj.col, adj.value).double(), adj.ptr)
    found = None
    if entropy:
        positive = weight > 0
        found = -sum_of_ranges(weight * torch.where(positive, weight, 1).log(), entries)
    link_sq = None if gram is None else (squares - 2 * trace + _squares(gram)).clamp(min=0)
    return _Sums(num_nodes, found, trace, cut, root(squares), total, link_sq)


def _sums_of_clusters(
    graph: RaggedGraph, assignment: Assignment, weight: Tensor, backend: str
) -> tuple[Tensor, Tensor]:
    """:math:`S^T 1` and :math:`S^T d`."""
    degree = _degrees(graph).to(weight.dtype)
    columns = torch.stack([torch.ones_like(degree), degree], 1)
    call = spmm.Call(columns, matrix_of(assignment, weight), spmm.Options(True, backend))
    (sums,) = spmm.OPERATOR(call)
    return sums[:, 0], sums[:, 1]


def _degrees(graph: RaggedGraph) -> Tensor:
    """Row sums in the order of the matrix, float64 ``[N]``."""
    if graph.value is None:
        return graph.rowptr.diff().double()
    return sum_by_index(graph.value.double(), graph.row, graph.num_nodes)


def _squares(graph: RaggedGraph) -> Tensor:
    """The squared norm of the matrix of each graph, float64 ``[B]``."""
    bounds = graph.rowptr.long()[graph.ptr]
    if graph.value is None:
        return bounds.diff().double()
    if graph.num_graphs == 1:
        return graph.value.square().sum(dtype=torch.float64)[None]
    return sum_of_ranges(graph.value.double().square(), bounds)
