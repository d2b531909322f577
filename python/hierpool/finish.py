"""The last step of MinCut and DMoN pooling: losses, and the adjacency that the next layer sees.

Both follow from the small sums of soft pooling. :mod:`hierpool.losses` and :mod:`hierpool.connect` have their formulas,
and compilers and transforms get these. Everybody else gets pooling and last step in one piece with its own gradient: on
a batch of small graphs, recording some thirty steps on ``[B, K, K]`` costs more than pooling the graphs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, losses
from hierpool._tracing import seen
from hierpool.connect import postprocess_adj
from hierpool.graph import RaggedGraph
from hierpool.losses._tensors import reciprocal
from hierpool.ops._operator import Kept, transformed, without_second
from hierpool.ops._soft_pool import SoftPoolOperator
from hierpool.ops.fallback.cut_terms import Kind, Sums
from hierpool.ops.soft_pool import pool_fields, pooling
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
    return _in_one(Kind.MINCUT, nodes, x, adj, s, mask, options)


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
    options = _OPTIONS | options
    if seen() or transformed():
        record = SoftPoolRecord(*pool_fields(SoftPoolRecord._fields, x, adj, s, mask, **options))
        cluster = crossed_cluster_loss(record) if crossed else losses.cluster_loss(record)
        terms = (losses.spectral_loss(record), losses.orthogonality_loss(record), cluster)
        return _composed(record, terms, x, s)
    return _in_one(Kind.DMON_CROSSED if crossed else Kind.DMON, True, x, adj, s, mask, options)


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


def _in_one(
    kind: Kind,
    nodes: bool,
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor,
    mask: Tensor | None,
    options: dict[str, Any],
) -> Finished:
    """As one function of autograd, where there is somebody to differentiate it."""
    backend = options.get("backend", "auto")
    # There is no Triton kernel of the last step: what is beside one runs by torch.
    last = backends.select("cut_terms", x.device.type, "auto" if backend == "triton" else backend)
    operator, args = pooling(x, adj, s, mask, **options)
    dtypes = (s.dtype, torch.promote_types(x.dtype, s.dtype))
    run = _CutPool.apply if operator.saves(args) else _CutPool.outputs
    out = run(_Plan(kind, nodes, dtypes, operator, last.filler("cut_terms")), *args)
    pooled, adj_pooled, *terms = out[: 2 + kind.losses]
    assignment, size = out[2 + kind.losses :] if nodes else (None, None)
    return Finished(assignment, pooled, adj_pooled, size, tuple(terms))


class _Plan(NamedTuple):
    """What is to be done."""

    kind: Kind
    nodes: bool  # return S and the sizes of the clusters, too
    dtypes: tuple[torch.dtype, torch.dtype]  # of the adjacency, of the losses
    operator: SoftPoolOperator
    filler: Any  # of the last step

    def run(self, kept: Kept, args: tuple[Any, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        """The outputs, and what the gradient of the last step needs."""
        fields = self.operator.forward(*args)
        self.operator.keep(kept, args, fields)
        s, x, adj, gram, vectors, scalars = fields[:6]
        sums = Sums(adj, gram, None if self.kind is Kind.MINCUT else vectors, scalars)
        out, terms, saved = self.filler.forward(sums, self.kind)
        results = [
            x,
            out.to(self.dtypes[0]),
            *(term.to(self.dtypes[1]) for term in terms[: self.kind.losses]),
        ]
        if self.nodes:
            results += [s, vectors.select(1, 0)]
        return tuple(results), (*sums, out, *saved)


class _CutPool(torch.autograd.Function):
    """Soft pooling and its last step; the arithmetic is a backend's."""

    @staticmethod
    def outputs(plan: _Plan, *args: Any) -> tuple[Tensor, ...]:
        """Without a gradient."""
        return plan.run(Kept(), args)[0]

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *args: Any) -> tuple[Tensor, ...]:
        ctx.plan, ctx.kept = plan, Kept()
        results, saved = plan.run(ctx.kept, args)
        tensors = ctx.kept.give()
        ctx.save_for_backward(*tensors, *saved)
        ctx.count = len(tensors)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @without_second
    def backward(ctx: Any, dx: Tensor | None, dout: Tensor | None, *grads: Tensor | None) -> Any:
        kind, nodes, _, operator, filler = ctx.plan
        tensors = ctx.saved_tensors
        *sums, out = tensors[ctx.count : ctx.count + 5]
        dlosses = (*grads[: kind.losses], None)[:3]
        ds, dsize = grads[kind.losses :] if nodes else (None, None)
        dsums: tuple[Tensor | None, ...] = (None,) * 4
        if not (dout is None and all(d is None for d in dlosses)):
            dsums = filler.backward(dout, dlosses, Sums(*sums), out, tensors[ctx.count + 5 :], kind)
        dadj, dgram, dvectors, dscalars = dsums
        if dsize is not None:
            own = torch.stack([dsize, torch.zeros_like(dsize)], 1)
            dvectors = own if dvectors is None else dvectors + own
        fields = (ds, dx, dadj, dgram, dvectors, dscalars, None, None)
        kept = ctx.kept.take(tensors[: ctx.count], ctx.needs_input_grad[1:])
        inputs = operator.gradients(kept, fields, operator.backward)
        kept.give()  # autograd keeps them
        return (None, *inputs)
