"""The last step of MinCut and DMoN pooling by plain PyTorch, with gradients that are written out.

Values are those of :mod:`hierpool.losses` and :func:`hierpool.connect.postprocess_adj`. 0/0 is 0, with gradient 0: a
denominator of 0 is replaced by infinity.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.record import CUT_DEGREE, NUM_NODES, TOTAL_DEGREE, scalar_columns

_CUT = scalar_columns(CUT_DEGREE, 1).start
_TOTAL = scalar_columns(TOTAL_DEGREE, 1).start


class Kind(IntEnum):
    """Whose losses. The numbers are those of the C++ kernels."""

    MINCUT = 0  # normalised cut, orthogonality
    DMON = 1  # spectral, orthogonality, cluster
    DMON_CROSSED = 2  # ... every graph's clusters over every graph's size


class Sums(NamedTuple):
    """Fields of the record of soft pooling, in its accumulation dtype."""

    adj: Tensor  # [B, K, K]
    gram: Tensor  # [B, K, K]
    vectors: Tensor | None  # [B, 2, K]; not looked at for MinCut
    scalars: Tensor  # [B, 6]


def forward(sums: Sums, kind: Kind) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The adjacency without its diagonal, normalised by degrees, three losses (the third 0 for MinCut), and parts.

    The parts are for the backward.
    """
    adj, gram, vectors, scalars = sums
    share = _share(adj.size(0))
    out, scale = _normalize(adj)
    kept = _diagonal(adj).sum(1)
    ortho, *parts = _orthogonality(gram)
    if kind is Kind.MINCUT:
        degree = _safe(scalars.select(1, _CUT))
        kept /= degree
        losses = (kept.sum() * -share, ortho * share, torch.zeros_like(ortho))
        return out, losses, (scale, degree, kept, *parts)
    assert vectors is not None
    total, nodes = _safe(scalars.select(1, _TOTAL)), scalars.select(1, NUM_NODES)
    lengths, expected = vectors.square().sum(2).unbind(1)
    lengths, expected = lengths.sqrt(), expected / total
    spectral = ((kept - expected) / total).sum() * -share
    # What the lengths of the cluster sizes are multiplied by.
    weight = _safe(nodes).reciprocal().mul_(adj.size(1) ** 0.5 * share)
    if kind is Kind.DMON_CROSSED:
        weight = weight.sum().mul_(share).expand_as(nodes)
        cluster = (lengths * weight).sum() - 1
    else:
        cluster = (lengths * weight).sum() - (nodes != 0).sum() * share
    return out, (spectral, ortho * share, cluster), (scale, total, kept, expected, lengths, weight, *parts)


def backward(
    dout: Tensor | None,
    dlosses: tuple[Tensor | None, ...],
    sums: Sums,
    out: Tensor,
    saved: tuple[Tensor, ...],
    kind: Kind,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients of the sums, from those of the adjacency and of the three losses; ``None`` is zero."""
    share = _share(out.size(0))
    dfirst, dortho, dcluster = (out.new_zeros(()) if d is None else d.to(out.dtype) * share for d in dlosses)
    scale, *middle, unit, apart, divisor = saved
    dadj = torch.zeros_like(out) if dout is None else _normalize_backward(dout.to(out.dtype), out, scale)
    dgram = _orthogonality_backward(dortho, unit, apart, divisor)
    dscalars, dvectors = torch.zeros_like(sums.scalars), None
    if kind is Kind.MINCUT:
        degree, kept = middle
        slope = dfirst / degree
        dscalars[:, _CUT] = slope * kept
    else:
        assert sums.vectors is not None
        total, kept, expected, lengths, weight = middle
        slope = dfirst / total
        pull = slope / total
        dscalars[:, _TOTAL] = pull * (kept - 2 * expected)
        grow = dcluster * weight / (_safe(lengths) * share)
        dvectors = sums.vectors * torch.stack([grow, 2 * pull], 1).unsqueeze(2)
    _diagonal(dadj).sub_(slope.unsqueeze(1))
    return dadj, dgram, dvectors, dscalars


def _share(graphs: int) -> float:
    return 1.0 / max(graphs, 1)


def _safe(denominator: Tensor) -> Tensor:
    return denominator.masked_fill(denominator == 0, torch.inf)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _normalize(adj: Tensor) -> tuple[Tensor, Tensor]:
    """``[B, K, K]`` without its diagonal, normalised, and what rows and columns were multiplied by, ``[B, K]``."""
    out = adj.clone()
    _diagonal(out).zero_()
    degree = out.sum(2)
    scale = degree.rsqrt().masked_fill_(degree <= 0, 0)
    return out.mul_(scale.unsqueeze(2)).mul_(scale.unsqueeze(1)), scale


def _normalize_backward(grad: Tensor, out: Tensor, scale: Tensor) -> Tensor:
    shared = grad * out
    of_degree = shared.sum(2).add_(shared.sum(1)).mul_(scale).mul_(scale).mul_(-0.5)
    dadj = (grad * scale.unsqueeze(2)).mul_(scale.unsqueeze(1)).add_(of_degree.unsqueeze(2))
    _diagonal(dadj).zero_()
    return dadj


def _orthogonality(gram: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss summed over graphs; and of its gradient, unit matrices, how far apart they are, and the divisor."""
    norm = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True)
    unit = gram / _safe(norm)
    apart = unit.clone()
    _diagonal(apart).sub_(1.0 / max(gram.size(2), 1) ** 0.5)
    length = torch.linalg.vector_norm(apart, dim=(1, 2), keepdim=True)
    return length.masked_fill(norm == 0, 0).sum(), unit, apart, _safe(length * norm)


def _orthogonality_backward(grad: Tensor, unit: Tensor, apart: Tensor, divisor: Tensor) -> Tensor:
    # In this order nothing is left of rounding where the loss is constant, as with one cluster.
    along = (unit * apart).sum((1, 2), keepdim=True)
    return (apart - unit * along).mul_(grad / divisor)
