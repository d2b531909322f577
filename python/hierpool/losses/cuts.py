"""Losses that ask for few edges between clusters."""

from __future__ import annotations

from torch import Tensor

from hierpool.losses._tensors import divide, over_graphs, trace
from hierpool.record import SoftPoolRecord


def mincut_loss(record: SoftPoolRecord, *, batch_reduction: str = "mean") -> Tensor:
    r"""Relaxed normalised cut of MinCut pooling, :math:`-\mathrm{tr}(S^T A S) / \mathrm{tr}(S^T D S)`.

    :math:`D` holds the row sums of :math:`A`. Between -1, no edge between clusters, and 0 for weights that are not
    negative. Assigning every node alike reaches -1 as well, which :func:`orthogonality_loss` is there to prevent.

    Args:
        record: of :func:`hierpool.soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    return over_graphs(-divide(trace(record.adj), record.cut_degree), batch_reduction)


def ho_mincut_loss(cut: Tensor, degree: Tensor, *, batch_reduction: str = "mean") -> Tensor:
    r"""The same of walks of three edges, :math:`-\mathrm{tr}(S^T A^3 S) / \mathrm{tr}(S^T D_3 S)`, of HOSC.

    Args:
        cut: :math:`\mathrm{tr}(S^T A^3 S)` of each graph, ``[B]``, of :func:`hierpool.walk_cut`.
        degree: :math:`\sum_i (A^3 1)_i |s_i|^2` of each graph, ``[B]``, of the same.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of their dtype.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    return over_graphs(-divide(cut, degree), batch_reduction)


def spectral_loss(record: SoftPoolRecord, *, batch_reduction: str = "mean") -> Tensor:
    r"""Spectral loss of DMoN, the negative modularity of a soft assignment.

    .. math:: -\frac{1}{2m} \mathrm{tr}\big(S^T (A - \tfrac{1}{2m} d d^T) S\big)
              = -\frac{1}{2m} \Big(\mathrm{tr}(S^T A S) - \frac{|S^T d|^2}{2m}\Big)

    with :math:`d = A 1` and :math:`2m = 1^T d`; of a directed graph, too, :math:`d` is the row sums.

    Args:
        record: of :func:`hierpool.soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    total = record.total_degree
    expected = divide(record.volume.square().sum(-1), total)
    return over_graphs(-divide(trace(record.adj) - expected, total), batch_reduction)


def totvar_loss(variation: Tensor, entries: Tensor, *, batch_reduction: str = "mean") -> Tensor:
    r"""Total variation of the assignment, :math:`\frac{1}{2 |E|} \sum_{ij} a_{ij} |s_i - s_j|_1`, of TVGNN.

    0 if no edge joins nodes that are assigned differently.

    Args:
        variation: :math:`\sum_{ij} a_{ij} |s_i - s_j|_1` of each graph, ``[B]``, of :func:`hierpool.total_variation`.
        entries: :math:`|E|`, entries of each graph's :math:`A` that are not 0, ``[B]``, of the same.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of their dtype.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    return over_graphs(divide(variation, 2 * entries), batch_reduction)
