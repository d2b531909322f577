"""The normalised cut of walks of three edges, without the matrix A^3."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, largest_of_ranges, sum_of_ranges
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._shared import one_matrix, pairs
from hierpool.ops.spmm import spmm


class WalkCut(NamedTuple):
    """What :func:`walk_cut` returns."""

    cut: Tensor  # float64 [B]: tr(S^T A^3 S)
    degree: Tensor  # float64 [B]: sum over nodes of (A^3 1)_i |s_i|^2


def walk_cut(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    *,
    mask: Tensor | None = None,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> WalkCut:
    r"""Numerator and denominator of the normalised cut of walks of three edges.

    .. math:: \mathrm{cut} = \mathrm{tr}(S^T A^3 S), \quad \mathrm{degree} = \sum_i (A^3 1)_i \, |s_i|^2

    :math:`A^3` is not formed: :math:`\mathrm{tr}(S^T A^3 S) = \langle A^T S, A (A S) \rangle` takes three products with
    :math:`A`, or two if it is symmetric, and :math:`A^3 1` takes three products with a vector. Temporary memory is that
    of ``s``.

    In a padded batch, an argument with one graph, or without the dimension of graphs, is shared by all graphs.

    Args:
        s: the assignment :math:`S`, not logits, ``[B, N, K]``, or ``[N, K]`` with a ragged graph.
        adj: :math:`A`, ``[B, N, N]`` or a :class:`hierpool.RaggedGraph`.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid. With a mask, ``adj`` is
            copied, a shared one once.
        symmetric: ``True`` states that every dense :math:`A` equals its transpose; not checked. Must be ``None`` with a
            ragged graph.
        backend: for a ragged graph, see :func:`hierpool.spmm`.

    Returns:
        ``(cut, degree)``, both float64 ``[B]``, as cubes of weights leave the range of float32. They are computed in
        float64 if an input is float64, else in float32, with the weights of each graph divided by the largest.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.

    Source: Duval, Malliaros, CIKM 2022 (arXiv:2209.03473).
    """
    if isinstance(adj, RaggedGraph):
        _checks.check_link_ragged(s, adj, mask=mask, num_nodes=None, symmetric=symmetric)
        return _ragged(s, adj, backend)
    s, adj, mask = _checks.check_link(s, adj, mask, None)
    _checks.check_flag("symmetric", symmetric)
    return _dense(s, adj, mask, symmetric is True)


def _ragged(s: Tensor, graph: RaggedGraph, backend: str) -> WalkCut:
    s = s.to(accumulation_dtype(s, graph.value))
    unit = None if graph.value is None else _unit(_largest_of_graphs(graph, s.dtype))  # [B]
    of_rows = None if unit is None else unit[graph.batch, None]

    def step(rows: Tensor, transpose: bool = False) -> Tensor:
        out = spmm(graph, rows, transpose=transpose, backend=backend)
        return out if of_rows is None else out / of_rows

    once = step(s)
    twice = step(once)
    # Weights with gradients have separate gradients for a_ij and a_ji.
    learned = _checks.needs_gradient(graph.value)
    back = once if graph.is_symmetric and not learned else step(s, transpose=True)
    walks = s.new_ones(s.size(0), 1)
    for _ in range(3):
        walks = step(walks)
    terms = torch.stack([(back * twice).sum(1), walks[:, 0] * s.square().sum(1)], 1)  # [N, 2]
    sums = sum_of_ranges(graph.in_graph_order(terms), graph.ptr)
    return _in_units(sums[:, 0], sums[:, 1], unit)


def _dense(s: Tensor, adj: Tensor, mask: Tensor | None, symmetric: bool) -> WalkCut:
    acc = accumulation_dtype(s, adj)
    s, adj = s.to(acc), one_matrix(adj).to(acc)
    walks = s.new_ones(*s.shape[:2], 1)
    valid = None
    if mask is not None:
        valid = mask != 0
        adj = torch.where(pairs(valid, adj), adj, 0)

    def masked(rows: Tensor) -> Tensor:
        return rows if valid is None else torch.where(valid[..., None], rows, 0)

    values = adj.detach()
    largest = (
        torch.maximum(values.amax((1, 2)), -values.amin((1, 2))) if adj.numel() else s.new_zeros(adj.size(0))
    )
    unit = _unit(largest)
    of_graphs = unit[:, None, None]
    s, walks = masked(s), masked(walks)
    once = masked(adj @ s / of_graphs)
    back = once if symmetric and not _checks.needs_gradient(adj) else masked(adj.mT @ s / of_graphs)
    for _ in range(3):
        walks = masked(adj @ walks / of_graphs)
    cut, degree = back * (adj @ once / of_graphs), walks * s.square().sum(2, keepdim=True)
    return _in_units(cut.sum((1, 2)), degree.sum((1, 2)), unit)


def _largest_of_graphs(graph: RaggedGraph, dtype: torch.dtype) -> Tensor:
    """The largest absolute weight of each graph, ``[B]``."""
    assert graph.value is not None
    weights, first = graph.value.detach().abs().to(dtype), graph.rowptr[graph.ptr].long()
    return largest_of_ranges(weights, first)


def _unit(largest: Tensor) -> Tensor:
    """What the weights of a graph are divided by, 1 for a graph without edges."""
    return torch.where(largest > 0, largest, 1)


def _in_units(cut: Tensor, degree: Tensor, unit: Tensor | None) -> WalkCut:
    """Of weights that were divided by ``unit``."""
    cube = 1 if unit is None else unit.double() ** 3
    return WalkCut(cut.double() * cube, degree.double() * cube)
