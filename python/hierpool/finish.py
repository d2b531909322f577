"""The last step of MinCut and DMoN pooling: losses, and the adjacency that the next layer sees.

Both follow from the small sums of soft pooling. :mod:`hierpool.losses` and :mod:`hierpool.connect` have their formulas,
and compilers and transforms get these. Everybody else gets them in one piece with its own gradient: on a batch of small
graphs, recording some thirty steps on ``[B, K, K]`` costs more than pooling the graphs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hierpool import backends, losses
from hierpool._tracing import seen
from hierpool.connect import postprocess_adj
from hierpool.graph import RaggedGraph
from hierpool.losses._tensors import reciprocal
from hierpool.ops._operator import transformed
from hierpool.ops.fallback.cut_terms import Kind, Sums
from hierpool.ops.soft_pool import pool_fields
from hierpool.record import SoftPoolRecord


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
    names = ("s", "x", "adj", "gram", "vectors", "scalars") if nodes else ("x", "adj", "gram", "scalars")
    found = _sums(names, x, adj, s, mask, options)
    if isinstance(found, SoftPoolRecord):
        terms = (losses.mincut_loss(found), losses.orthogonality_loss(found))
        return _composed(found, terms, x, s)
    return _finished(Kind.MINCUT, found, x, s, options)


def dmon(
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None = None,
    *,
    crossed: bool = False,
    **options: Any,
) -> Finished:
    """DMoN pooling; its losses are :func:`hierpool.losses.spectral_loss`, ``orthogonality_loss`` and ``cluster_loss``.

    Args:
        x, adj, s, mask: see :func:`hierpool.soft_pool`.
        crossed: take the cluster loss of all pairs of graphs, the clusters of one and the size of the other
            (:func:`crossed_cluster_loss`).
        options: ``temperature``, ``symmetric`` and ``backend`` of :func:`hierpool.soft_pool`.
    """
    found = _sums(("s", "x", "adj", "gram", "vectors", "scalars"), x, adj, s, mask, options)
    if isinstance(found, SoftPoolRecord):
        cluster = crossed_cluster_loss(found) if crossed else losses.cluster_loss(found)
        terms = (losses.spectral_loss(found), losses.orthogonality_loss(found), cluster)
        return _composed(found, terms, x, s)
    return _finished(Kind.DMON_CROSSED if crossed else Kind.DMON, found, x, s, options)


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


def _sums(
    names: tuple[str, ...],
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> SoftPoolRecord | dict[str, Tensor]:
    """The fields of the record, or all of it if somebody is at work who takes torch's own functions only."""
    options = {"link_loss": None, "entropy": False, "gram": True} | options
    if seen() or transformed():
        return SoftPoolRecord(*pool_fields(SoftPoolRecord._fields, x, adj, s, mask, **options))
    return dict(zip(names, pool_fields(names, x, adj, s, mask, **options), strict=True))


def _composed(record: SoftPoolRecord, terms: tuple[Tensor, ...], x: Tensor, s: Tensor) -> Finished:
    """By the formulas of :mod:`hierpool.losses` and :mod:`hierpool.connect`."""
    pooled = postprocess_adj(record.adj, remove_self_loops=True, degree_norm=True).to(s.dtype)
    dtype = torch.promote_types(x.dtype, s.dtype)
    return Finished(record.s, record.x, pooled, record.size, tuple(term.to(dtype) for term in terms))


def _finished(
    kind: Kind, found: dict[str, Tensor], x: Tensor, s: Tensor, options: dict[str, Any]
) -> Finished:
    """In one piece."""
    backend = options.get("backend", "auto")
    # There is no Triton kernel of it: what is beside one runs by torch.
    chosen = backends.select("cut_terms", x.device.type, "auto" if backend == "triton" else backend)
    vectors = found.get("vectors")
    pooled, *terms = _CutTerms.apply(
        kind,
        (s.dtype, torch.promote_types(x.dtype, s.dtype)),
        chosen.filler("cut_terms"),
        found["adj"],
        found["gram"],
        None if kind is Kind.MINCUT else vectors,
        found["scalars"],
    )
    size = None if vectors is None else vectors.select(1, 0)
    return Finished(found.get("s"), found["x"], pooled, size, tuple(terms))


class _CutTerms(torch.autograd.Function):
    """Adjacency and losses; the arithmetic is a backend's."""

    @staticmethod
    def forward(
        ctx: Any, kind: Kind, dtypes: tuple[torch.dtype, torch.dtype], filler: Any, *sums: Any
    ) -> tuple[Tensor, ...]:
        out, terms, saved = filler.forward(Sums(*sums), kind)
        ctx.save_for_backward(*sums, out, *saved)
        ctx.kind, ctx.filler = kind, filler
        ctx.set_materialize_grads(False)
        count = 2 if kind is Kind.MINCUT else 3
        return (out.to(dtypes[0]), *(term.to(dtypes[1]) for term in terms[:count]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor | None, *dlosses: Tensor | None) -> Any:
        *sums, out = ctx.saved_tensors[:5]
        dlosses = (*dlosses, None)[:3]
        grads = ctx.filler.backward(dout, dlosses, Sums(*sums), out, ctx.saved_tensors[5:], ctx.kind)
        return (None, None, None, *grads)
