"""Losses that ask for clusters of like size, without which the fewest edges are cut by a single cluster."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.losses._tensors import divide, over_graphs, reciprocal, root
from hierpool.record import SoftPoolRecord


def orthogonality_loss(record: SoftPoolRecord, *, batch_reduction: str = "mean") -> Tensor:
    r"""Orthogonality loss of MinCut pooling, :math:`|\, S^T S / |S^T S|_F - I_K / \sqrt{K} \,|_F`.

    0 for clusters of equal size to which nodes belong entirely, and below :math:`\sqrt 2`.

    Args:
        record: of :func:`hierpool.soft_pool` called with ``gram=True``, or with ``link_loss="frobenius"``.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype. Its gradient is 0 where the norm is 0.

    Raises:
        ValueError: the record has no ``gram``, or unknown ``batch_reduction``.
    """
    gram = _gram(record)
    k = gram.size(-1)
    norm = root(gram.square().sum((-2, -1)))
    equal = torch.eye(k, dtype=norm.dtype, device=norm.device) * reciprocal(k) ** 0.5
    apart = root((divide(gram, norm[:, None, None]) - equal).square().sum((-2, -1)))
    return over_graphs(torch.where(norm == 0, 0, apart), batch_reduction)


def hosc_orthogonality_loss(record: SoftPoolRecord, *, batch_reduction: str = "mean") -> Tensor:
    r"""Orthogonality loss of HOSC, :math:`\frac{1}{\sqrt K - 1} \big(\sqrt K - \frac{1}{\sqrt n} \sum_k |S_{:k}|\big)`.

    0 for clusters of equal size to which nodes belong entirely, 1 if one cluster has every node; 0 with one cluster.

    Args:
        record: of :func:`hierpool.soft_pool` called with ``gram=True``, or with ``link_loss="frobenius"``.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: the record has no ``gram``, or unknown ``batch_reduction``.
    """
    lengths = root(_gram(record).diagonal(dim1=-2, dim2=-1)).sum(-1)
    k = record.size.size(-1)
    if k < 2:
        return over_graphs(lengths * 0, batch_reduction)
    empty = record.num_nodes == 0
    apart = (k**0.5 - divide(lengths, root(record.num_nodes))) * (1 / (k**0.5 - 1))
    return over_graphs(torch.where(empty, 0, apart), batch_reduction)


def cluster_loss(record: SoftPoolRecord, *, batch_reduction: str = "mean") -> Tensor:
    r"""Collapse regularisation of DMoN, :math:`\frac{\sqrt K}{n} |S^T 1| - 1`, over a graph's :math:`n` nodes.

    0 for clusters of equal size, :math:`\sqrt K - 1` if one cluster has every node.

    Args:
        record: of :func:`hierpool.soft_pool`.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    norm = root(record.size.square().sum(-1))
    over = divide(norm * record.size.size(-1) ** 0.5 - record.num_nodes, record.num_nodes)
    return over_graphs(over, batch_reduction)


def just_balance_loss(
    record: SoftPoolRecord, *, normalize: bool = True, eps: float = 1e-8, batch_reduction: str = "mean"
) -> Tensor:
    r"""Loss of Just Balance, :math:`-\mathrm{tr} \sqrt{S^T S + \epsilon}`, the root taken of each element.

    Least, at :math:`-\sqrt{n K}`, for clusters of equal size to which nodes belong entirely.

    Args:
        record: of :func:`hierpool.soft_pool` called with ``gram=True``, or with ``link_loss="frobenius"``.
        normalize: divide by :math:`\sqrt{n K}`, so that the least is -1.
        eps: :math:`\epsilon`, which bounds the slope of the root where a cluster is empty.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the record's accumulation dtype.

    Raises:
        ValueError: the record has no ``gram``, or unknown ``batch_reduction``.
    """
    loss = -(_gram(record).diagonal(dim1=-2, dim2=-1) + eps).sqrt().sum(-1)
    if normalize:
        loss = divide(loss, root(record.num_nodes * record.size.size(-1)))
    return over_graphs(loss, batch_reduction)


def asym_norm_loss(norm: Tensor, num_nodes: Tensor, k: int, *, batch_reduction: str = "mean") -> Tensor:
    r"""Balance loss of TVGNN, :math:`1 - \frac{1}{n (K - 1)} \sum_k |S_{:k} - q_k|_{a}`.

    0 for clusters of equal size to which nodes belong entirely, 1 if every node is assigned alike; 0 with one cluster.

    Args:
        norm: :math:`\sum_k |S_{:k} - q_k|_a`, the asymmetric norm of each graph, ``[B]``, of
            :func:`hierpool.asymmetric_norm`.
        num_nodes: :math:`n`, nodes of each graph, ``[B]``.
        k: :math:`K`, clusters.
        batch_reduction: ``"mean"`` or ``"sum"`` over graphs.

    Returns:
        0-d tensor of the dtype of ``norm``.

    Raises:
        ValueError: unknown ``batch_reduction``.
    """
    most = num_nodes * (k - 1)
    return over_graphs(divide(most - norm, most), batch_reduction)


def _gram(record: SoftPoolRecord) -> Tensor:
    if record.gram is None:
        raise ValueError("record must have gram, got None; call soft_pool with gram=True")
    return record.gram
