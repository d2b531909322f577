"""The last step of MinCut and DMoN pooling: losses, and the adjacency that the next layer sees.

Both follow from the small sums of soft pooling. :mod:`hierpool.losses` and :mod:`hierpool.connect` have their formulas,
and compilers and transforms get these. Everybody else gets pooling and last step in one piece with its own gradient,
:mod:`hierpool.ops.cut_pool`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool import losses
from hierpool._tracing import seen
from hierpool.connect import postprocess_adj
from hierpool.graph import RaggedGraph
from hierpool.losses._tensors import reciprocal
from hierpool.ops._operator import transformed
from hierpool.ops.cut_pool import cut_pool
from hierpool.ops.fallback.cut_terms import Kind
from hierpool.ops.fallback.linear_maps import Map
from hierpool.ops.linear_maps import linear_maps, on_cpu
from hierpool.ops.soft_pool import pool_fields
from hierpool.record import SoftPoolRecord

_OPTIONS: dict[str, Any] = {"link_loss": None, "entropy": False, "gram": True}


class Finished(NamedTuple):
    """A pooled batch of graphs."""

    s: (
        Tensor | None
    )  # [B, N, K], or [N, K] in the order of a ragged graph's matrix; None if it was not asked for
    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], without its diagonal, normalised by degrees, in the dtype of s
    size: Tensor | None  # [B, K]; None if it was not asked for
    losses: tuple[Tensor, ...]  # 0-d


def mincut(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None = None,
    *,
    nodes: bool = False,
    **options: Any,
) -> Finished:
    """MinCut pooling; its losses are :func:`hierpool.losses.mincut_loss` and ``orthogonality_loss``.

    Args:
        x, adj, s, mask: see :func:`hierpool.soft_pool`.
        nodes: whether ``s`` and ``size`` are wanted as well.
        options: ``temperature``, ``symmetric`` and ``backend`` of :func:`hierpool.soft_pool`.
    """
    options = _OPTIONS | options
    if seen() or transformed():
        record = SoftPoolRecord(*pool_fields(SoftPoolRecord._fields, x, adj, s, mask, **options))
        terms = (losses.mincut_loss(record), losses.orthogonality_loss(record))
        return _composed(record, terms, x, s)
    pooled, out, cut, ortho, *rest = cut_pool(Kind.MINCUT, x, adj, s, mask, options, nodes=nodes, sizes=nodes)
    assignment, size = rest if nodes else (None, None)
    return Finished(assignment, pooled, out, size, (cut, ortho))


def dmon(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor | Sequence[Map],
    mask: Tensor | None = None,
    *,
    crossed: bool = False,
    selu: bool = False,
    **options: Any,
) -> Finished:
    """DMoN pooling; its losses are :func:`hierpool.losses.spectral_loss`, ``orthogonality_loss`` and ``cluster_loss``.

    Args:
        x, adj, mask: see :func:`hierpool.soft_pool`.
        s: the logits, or linear maps that make them of ``x`` (:func:`hierpool.ops.linear_maps.linear_maps`).
        crossed: take the cluster loss of all pairs of graphs, the clusters of one and the size of the other
            (:func:`crossed_cluster_loss`).
        selu: apply SELU to the pooled features.
        options: ``temperature``, ``symmetric`` and ``backend`` of :func:`hierpool.soft_pool`.
    """
    options = _OPTIONS | options
    composes = seen() or transformed()
    if not isinstance(s, Tensor) and (composes or not on_cpu(x)):
        s = linear_maps(x, s, mask)
    if composes:
        assert isinstance(s, Tensor)
        record = SoftPoolRecord(*pool_fields(SoftPoolRecord._fields, x, adj, s, mask, **options))
        if selu:
            record = record._replace(x=F.selu(record.x))
        cluster = crossed_cluster_loss(record) if crossed else losses.cluster_loss(record)
        terms = (losses.spectral_loss(record), losses.orthogonality_loss(record), cluster)
        return _composed(record, terms, x, s)
    kind = Kind.DMON_CROSSED if crossed else Kind.DMON
    pooled, out, spectral, ortho, cluster, assignment = cut_pool(
        kind, x, adj, s, mask, options, selu=selu, nodes=True
    )
    return Finished(assignment, pooled, out, None, (spectral, ortho, cluster))


def crossed_cluster_loss(record: SoftPoolRecord) -> Tensor:
    r"""DMoN's collapse loss with every graph's clusters over every graph's size.

    .. math:: \frac{\sqrt K}{B^2} \sum_{b, b'} \frac{|S_b^T 1|}{n_{b'}} - 1

    It is what PyTorch Geometric's ``DMoNPooling`` computes (a division of ``[B]`` by ``[B, 1]``), and the same as
    :func:`hierpool.losses.cluster_loss` if all graphs have as many nodes. Graphs without nodes, of which PyG
    makes NaN, add 0.
    """
    b, k = record.size.shape
    lengths = torch.linalg.vector_norm(record.size, dim=-1).sum()
    shares = record.num_nodes.masked_fill(record.num_nodes == 0, torch.inf).reciprocal().sum()
    return lengths * shares * (k**0.5 * reciprocal(b) ** 2) - 1


def _composed(record: SoftPoolRecord, terms: tuple[Tensor, ...], x: Tensor, s: Tensor) -> Finished:
    """By the formulas of :mod:`hierpool.losses` and :mod:`hierpool.connect`."""
    pooled = postprocess_adj(record.adj, remove_self_loops=True, degree_norm=True).to(s.dtype)
    dtype = torch.promote_types(x.dtype, s.dtype)
    return Finished(record.s, record.x, pooled, record.size, tuple(term.to(dtype) for term in terms))
