"""The last step of MinCut and DMoN pooling in plain PyTorch, with explicit gradients.

0/0 is 0, with gradient 0: a denominator of 0 is replaced by infinity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.contract import existing_clusters
from hierpool.record import CUT_DEGREE, NUM_NODES, TOTAL_DEGREE, scalar_columns

if TYPE_CHECKING:
    from hierpool.ops.cut_terms import Call, Leaves, Saved, Upstream

_MINCUT, _, _DMON_CROSSED = range(3)  # numbers of hierpool.ops.cut_terms.Kind
_CUT = scalar_columns(CUT_DEGREE, 1).start
_TOTAL = scalar_columns(TOTAL_DEGREE, 1).start


def forward(call: Call) -> tuple[Tensor | tuple[Tensor, ...], ...]:
    """See :class:`hierpool.ops.cut_terms.Out`."""
    adj, gram, vectors, scalars, num_clusters, (kind, _) = call
    share = _share(adj.size(0))
    pooled, scale = _normalize(adj)
    inside = _diagonal(adj).sum(1)
    ortho, *parts = _orthogonality(gram, _equal(gram, num_clusters))
    if kind == _MINCUT:
        degree = _safe(scalars.select(1, _CUT))
        inside = inside / degree
        return (
            pooled,
            inside.sum() * -share,
            ortho * share,
            torch.zeros_like(ortho),
            (scale, degree, inside, *parts),
        )
    total, nodes = _safe(scalars.select(1, _TOTAL)), scalars.select(1, NUM_NODES)
    sizes, volumes = vectors.unbind(1)
    lengths = torch.linalg.vector_norm(sizes, dim=1)
    # Quotients first: a square of weights may overflow.
    volumes = volumes / total.unsqueeze(1)
    expected = volumes.square().sum(1)
    inside = inside / total
    spectral = (inside - expected).sum() * -share
    weight = (
        _safe_norm(nodes).reciprocal().mul_(share)
    )  # of the length of the cluster sizes, times the root of K
    if kind == _DMON_CROSSED:
        weight = weight.sum().mul_(share).expand_as(nodes)
    weight = weight * _root_of_count(adj, num_clusters)
    if kind == _DMON_CROSSED:
        cluster = (lengths * weight).sum() - 1
    else:
        cluster = (lengths * weight).sum() - (nodes != 0).sum(dtype=nodes.dtype) * share
    middle = scale, total, inside, expected, volumes, lengths, weight
    return pooled, spectral, ortho * share, cluster, (*middle, *parts)


def backward(call: Call, saved: Saved, upstream: Upstream, needs: Leaves) -> tuple[Tensor | None, ...]:
    """Gradients of the sums."""
    _, _, vectors, scalars, _, (kind, _) = call
    pooled = saved.pooled
    share = _share(pooled.size(0))
    dpooled, *dlosses = upstream
    dfirst, dortho, dcluster = (pooled.new_zeros(()) if d is None else d * share for d in dlosses)
    scale, *middle, unit, apart, divisor = saved.parts
    dadj = torch.zeros_like(pooled) if dpooled is None else _normalize_backward(dpooled, pooled, scale)
    dgram = _orthogonality_backward(dortho, unit, apart, divisor)
    dscalars, dvectors = torch.zeros_like(scalars), None
    if kind == _MINCUT:
        degree, inside = middle
        slope = dfirst / degree
        dscalars[:, _CUT] = slope * inside
    else:
        total, inside, expected, volumes, lengths, weight = middle
        slope = dfirst / total
        dscalars[:, _TOTAL] = slope * (inside - 2 * expected)
        grow = dcluster * weight / (_safe_norm(lengths) * share)
        sizes = vectors.select(1, 0) * grow.unsqueeze(1)
        dvectors = torch.stack([sizes, volumes * (2 * slope).unsqueeze(1)], 1)
    _diagonal(dadj).sub_(slope.unsqueeze(1))
    return dadj, dgram, dvectors, dscalars


def _share(graphs: int) -> float:
    return 1.0 / max(graphs, 1)


def _safe(denominator: Tensor) -> Tensor:
    return denominator.masked_fill(denominator == 0, torch.inf)


def _safe_norm(denominator: Tensor) -> Tensor:
    """:func:`_safe` of what is not negative, in one kernel."""
    return F.threshold(denominator, 0, torch.inf)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _normalize(adj: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, K, K]`` without its diagonal, normalised, and the factors of rows and columns, ``[B, K]``."""
    out = adj.clone()
    _diagonal(out).zero_()
    degree = out.sum(2)
    scale = degree.rsqrt().masked_fill_(degree <= 0, 0)
    return out.mul_(scale.unsqueeze(2)).mul_(scale.unsqueeze(1)), scale


def _normalize_backward(grad: Tensor, out: Tensor, scale: Tensor) -> Tensor:
    shared = grad * out
    scale_of_row = scale.unsqueeze(2)
    of_degree = shared.sum(2).add_(shared.sum(1)).mul_(scale).unsqueeze(2)
    dadj = (grad * scale_of_row).mul_(scale.unsqueeze(1)).addcmul_(of_degree, scale_of_row, value=-0.5)
    _diagonal(dadj).zero_()
    return dadj


def _root_of_count(adj: Tensor, num_clusters: Tensor | None) -> float | Tensor:
    """The root of the number of clusters, of all graphs or of each, ``[B]``."""
    return adj.size(1) ** 0.5 if num_clusters is None else num_clusters.to(adj.dtype).sqrt()


def _equal(gram: Tensor, num_clusters: Tensor | None) -> float | Tensor:
    r"""The diagonal of :math:`I_K / \sqrt{K}`, of all graphs or of each, ``[B, K]``."""
    if num_clusters is None:
        return 1.0 / max(gram.size(2), 1) ** 0.5
    return existing_clusters(num_clusters, gram.size(2)) * num_clusters.to(gram.dtype).rsqrt()[:, None]


def _orthogonality(gram: Tensor, equal: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss summed over graphs; and for its gradient, the unit matrices, their difference and the divisor."""
    norm = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True)
    unit = gram / _safe_norm(norm)
    apart = unit.clone()
    _diagonal(apart).sub_(equal)
    length = torch.linalg.vector_norm(apart, dim=(1, 2), keepdim=True)
    return length.masked_fill(norm == 0, 0).sum(), unit, apart, _safe_norm(length * norm)


def _orthogonality_backward(grad: Tensor, unit: Tensor, apart: Tensor, divisor: Tensor) -> Tensor:
    # This order of operations gives exactly 0 where the loss is constant, as with one cluster.
    along = (unit * apart).sum((1, 2), keepdim=True)
    return (apart - unit * along).mul_(grad / divisor)
