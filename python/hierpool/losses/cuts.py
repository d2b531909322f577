"""Losses that favour few edges between clusters."""

from __future__ import annotations

from torch import Tensor

from hierpool.losses._tensors import Record, at_clusters, divide, over_clusters, over_graphs, trace


def mincut_loss(record: Record, *, batch_reduction: str = "mean") -> Tensor:
    r"""Relaxed normalised cut of MinCut pooling, :math:`-\mathrm{tr}(S^T A S) / \mathrm{tr}(S^T D S)`.

    :math:`D` is the diagonal matrix of row sums of :math:`A`. For weights that are not negative, the loss lies between
    -1, if no edge joins two clusters, and 0. Equal rows of :math:`S` give -1 as well; :func:`orthogonality_loss`
    prevents that.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    return over_graphs(cut_of_graphs(record), batch_reduction)


def cut_of_graphs(record: Record) -> Tensor:
    """The terms of :func:`mincut_loss`, ``[B]``; the sum over edge types."""
    cut = -divide(trace(record), record.cut_degree)
    return cut if cut.dim() == 1 else cut.sum(1)


def ho_mincut_loss(cut: Tensor, degree: Tensor, *, batch_reduction: str = "mean") -> Tensor:
    r"""Normalised cut of walks of three edges, :math:`-\mathrm{tr}(S^T A^3 S) / \mathrm{tr}(S^T D_3 S)`, of HOSC.

    Args:
        cut: :math:`\mathrm{tr}(S^T A^3 S)` of each graph, ``[B]``, from :func:`hierpool.walk_cut`, in float64.
        degree: :math:`\mathrm{tr}(S^T D_3 S) = \sum_i (A^3 1)_i |s_i|^2` of each graph, ``[B]``, from the same.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the dtype of the arguments.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    return over_graphs(-divide(cut, degree), batch_reduction)


def spectral_loss(record: Record, *, batch_reduction: str = "mean") -> Tensor:
    r"""Spectral loss of DMoN, the negative modularity of a soft assignment.

    .. math:: -\frac{1}{2m} \mathrm{tr}\big(S^T (A - \tfrac{1}{2m} d d^T) S\big)
              = -\frac{1}{2m} \Big(\mathrm{tr}(S^T A S) - \frac{|S^T d|^2}{2m}\Big)

    with the row sums :math:`d = A 1`, also for a directed graph, and :math:`2m = 1^T d`.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. With several edge types, the sum over them.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    total = record.total_degree
    share = divide(record.volume, at_clusters(record, total))  # no square of a weight, which may overflow
    expected = over_clusters(record, share.square())
    return over_graphs(expected - divide(trace(record), total), batch_reduction)


def totvar_loss(variation: Tensor, entries: Tensor, *, batch_reduction: str = "mean") -> Tensor:
    r"""Total variation of the assignment, :math:`\frac{1}{2 |E|} \sum_{ij} a_{ij} |s_i - s_j|_1`, of TVGNN.

    It is 0 if the ends of every edge have equal assignments.

    Args:
        variation: :math:`\sum_{ij} a_{ij} |s_i - s_j|_1` of each graph, ``[B]``, from :func:`hierpool.total_variation`.
        entries: :math:`|E|`, non-zero entries of each graph's :math:`A`, ``[B]``, from the same.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the dtype of the arguments.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    return over_graphs(divide(variation, 2 * entries), batch_reduction)
