"""Losses that favour clusters of equal size. Without them, a single cluster minimises the cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.contract import diagonal_of, existing_clusters, sum_of_ranges
from hierpool.losses._tensors import (
    Record,
    at_clusters,
    cluster_count,
    computed,
    divide,
    over_clusters,
    over_graphs,
    reciprocal,
    root,
)
from hierpool.record import SoftPoolRecord, SparsePoolRecord


def orthogonality_loss(record: Record, *, batch_reduction: str = "mean") -> Tensor:
    r"""Orthogonality loss of MinCut pooling, :math:`|\, S^T S / |S^T S|_F - I_K / \sqrt{K} \,|_F`.

    It lies between 0, for hard clusters of equal size, and :math:`\sqrt 2`.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`, with ``gram=True`` or
            ``link_loss="frobenius"``.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. Its gradient is 0 where the norm is 0.

    Raises:
        ValueError: the record has no ``gram``, or ``batch_reduction`` is unknown.
    """
    if isinstance(record, SparsePoolRecord):
        return over_graphs(_sparse_distance(record), batch_reduction)
    gram = _gram(record)
    norm = root(gram.square().sum((-2, -1)))
    equal = _equal_clusters(record, gram)
    distance = root((divide(gram, norm[:, None, None]) - equal).square().sum((-2, -1)))
    return over_graphs(torch.where(norm == 0, 0, distance), batch_reduction)


def hosc_orthogonality_loss(record: Record, *, batch_reduction: str = "mean") -> Tensor:
    r"""Orthogonality loss of HOSC, :math:`\frac{1}{\sqrt K - 1} \big(\sqrt K - \frac{1}{\sqrt n} \sum_k |S_{:k}|\big)`.

    It is 0 for hard clusters of equal size, 1 if one cluster has every node, and 0 for :math:`K = 1`.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`, with ``gram=True`` or
            ``link_loss="frobenius"``.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: the record has no ``gram``, or ``batch_reduction`` is unknown.
    """
    lengths = over_clusters(record, root(_gram_diagonal(record)))
    k = cluster_count(record)
    widest = k**0.5 - 1  # 0 for one cluster
    excess = k**0.5 - divide(lengths, root(record.num_nodes))
    if isinstance(widest, Tensor):
        loss = divide(excess, widest)
    else:
        loss = excess * (1 / widest if widest else 0)
    return over_graphs(torch.where(record.num_nodes == 0, 0, loss), batch_reduction)


def cluster_loss(record: Record, *, batch_reduction: str = "mean") -> Tensor:
    r"""Collapse regularisation of DMoN, :math:`\frac{\sqrt K}{n} |S^T 1| - 1`, over a graph's :math:`n` nodes.

    It is 0 for clusters of equal size, and :math:`\sqrt K - 1` if one cluster has every node.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    norm = root(over_clusters(record, record.size.square()))
    excess = norm * cluster_count(record) ** 0.5 - record.num_nodes
    return over_graphs(divide(excess, record.num_nodes), batch_reduction)


def just_balance_loss(
    record: Record, *, normalize: bool = True, eps: float = 1e-8, batch_reduction: str = "mean"
) -> Tensor:
    r"""Loss of Just Balance, :math:`-\mathrm{tr} \sqrt{S^T S + \epsilon}`, with an elementwise root.

    The minimum is :math:`-\sqrt{n K}`, for hard clusters of equal size.

    Args:
        record: from :func:`hierpool.soft_pool` or :func:`hierpool.sparse_soft_pool`, with ``gram=True`` or
            ``link_loss="frobenius"``.
        normalize: divide by :math:`\sqrt{n K}`, so that the minimum is -1.
        eps: :math:`\epsilon`, which bounds the gradient for empty clusters.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: the record has no ``gram``, or ``batch_reduction`` is unknown.
    """
    roots = (_gram_diagonal(record) + eps).sqrt()
    if isinstance(record, SoftPoolRecord) and record.num_clusters is not None:
        roots = torch.where(existing_clusters(record.num_clusters, roots.size(-1)), roots, 0)
    loss = -over_clusters(record, roots)
    if normalize:
        loss = divide(loss, root(record.num_nodes * cluster_count(record)))
    return over_graphs(loss, batch_reduction)


def asym_norm_loss(
    norm: Tensor, num_nodes: Tensor, k: int | Tensor, *, batch_reduction: str = "mean"
) -> Tensor:
    r"""Balance loss of TVGNN, :math:`1 - \frac{1}{n (K - 1)} \sum_k |S_{:k} - q_k|_{a}`.

    It is 0 for hard clusters of equal size, 1 if all rows of :math:`S` are equal, and 0 for :math:`K = 1`.

    Args:
        norm: :math:`\sum_k |S_{:k} - q_k|_a` of each graph, ``[B]``, from :func:`hierpool.asymmetric_norm`.
        num_nodes: :math:`n`, nodes of each graph, ``[B]``.
        k: :math:`K`, number of clusters, of all graphs or of each, ``[B]``.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the dtype of ``norm``.

    Raises:
        ValueError: ``batch_reduction`` is unknown.
    """
    maximum = num_nodes * (k - 1)
    return over_graphs(divide(maximum - norm, maximum), batch_reduction)


def _equal_clusters(record: SoftPoolRecord, gram: Tensor) -> Tensor:
    r""":math:`I_K / \sqrt{K}`, with the number of clusters of each graph."""
    k = gram.size(-1)
    if record.num_clusters is None:
        return torch.eye(k, dtype=gram.dtype, device=gram.device) * reciprocal(k) ** 0.5
    count = record.num_clusters.to(gram.dtype)[:, None]
    return (existing_clusters(record.num_clusters, k) * count.rsqrt()).diag_embed()


def _gram(record: Record) -> Any:
    """:math:`S^T S`, a tensor or a graph."""
    return computed(record, "gram", "gram=True")


def _gram_diagonal(record: Record) -> Tensor:
    """:math:`|S_{:k}|^2` of each cluster, ``[B, K]`` or ``[K]``."""
    gram = _gram(record)
    if isinstance(record, SparsePoolRecord):
        return diagonal_of(gram.rowptr, gram.col, gram.value)
    return gram.diagonal(dim1=-2, dim2=-1)


def _sparse_distance(record: SparsePoolRecord) -> Tensor:
    """The terms of :func:`orthogonality_loss`, ``[B]``; the difference of squares is taken in float64."""
    gram, count = _gram(record), record.num_clusters.double()
    diagonal, bounds = _gram_diagonal(record).double(), gram.rowptr.long()[gram.ptr]
    square = sum_of_ranges(gram.value.double().square(), bounds)
    apart = (square - over_clusters(record, diagonal.square())).clamp(min=0)
    norm = root(square)
    from_equal = divide(diagonal, at_clusters(record, norm)) - at_clusters(record, count.rsqrt())
    distance = root(divide(apart, square) + over_clusters(record, from_equal.square()))
    return torch.where(norm == 0, 0, distance).to(record.size.dtype)
