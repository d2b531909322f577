"""Soft pooling of a sharded graph: local sums, one exchange of the halo, one sum of the record over the processes.

Every process then has the same record, and computes the same losses from it and the same gradient of it. The backward
takes that gradient as it is, without a sum over the processes, and needs no communication.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hierpool import backends
from hierpool.contract import Ragged, accumulation_dtype, existing_columns, sum_by_index
from hierpool.distributed import ShardedGraph
from hierpool.ops import _checks
from hierpool.ops._sharded_product import (
    agree_once,
    check_rows,
    gradients_of,
    local_rows,
    sampled,
    times,
    times_transpose,
)
from hierpool.reference.soft_pool_dense import assign, row_entropy, safe_root

_ROWS = 1 << 15  # rows converted to float64 at a time
ENTROPY, CUT_DEGREE, ADJ_SQ, TOTAL_DEGREE, TRACE = range(5)  # columns of the sums


class Options(NamedTuple):
    """Arguments that are not tensors."""

    given: bool
    gram: bool
    link: bool
    entropy: bool
    backend: str
    dtype: torch.dtype  # of S
    save: bool  # S needs a gradient


class Sums(NamedTuple):
    """What is summed over the nodes, and S. All but S are float64 and the same in all processes."""

    s: Tensor  # [n, K]
    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K]
    gram: Tensor  # [B, K, K], or [B, 0, 0]
    vectors: Tensor  # [B, 2, K]
    scalars: Tensor  # [B, 5]


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        graph: ShardedGraph,
        options: Options,
        num_clusters: Tensor | None,
        logits: Tensor,
        x: Tensor,
        value: Tensor | None,
    ) -> tuple[Tensor, ...]:
        acc = accumulation_dtype(logits, x, value)
        exists = None if num_clusters is None else existing_columns(num_clusters, logits, Ragged(graph.ptr))
        s = assign(logits.to(acc), None, exists, None, options.given).to(options.dtype)
        s = s.clone() if s is logits else s
        needs = ctx.needs_input_grad[3:]
        transposed = options.save and not graph.is_symmetric
        blocks = graph.values_of_blocks(acc, transposed)
        m, halo = times(graph, blocks, s, options.backend)
        m_t = times_transpose(graph, blocks, s, options.backend) if transposed else None
        degree, square = _row_sums(graph, blocks, acc)
        sums = _sums(graph, options, s.to(acc), x.to(acc), m, degree, square)
        ctx.state = graph, options
        ctx.save_for_backward(
            s, x, m if needs[0] else None, m_t, degree, halo if needs[2] else None, exists, value
        )
        ctx.set_materialize_grads(False)
        return s, *sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ds: Tensor | None, *replicated: Tensor | None) -> tuple[Any, ...]:
        graph, options = ctx.state
        s, x, m, m_t, degree, halo, exists, value = ctx.saved_tensors
        acc, needs = degree.dtype, ctx.needs_input_grad[3:]
        factor = graph.ranks.size if graph.gradients == "mean" else 1
        grads = Sums(ds, *(None if g is None else g.to(acc) * factor for g in replicated))  # type: ignore[arg-type]
        p = s.to(acc)
        dlogits = dx = dvalue = None
        if needs[0]:
            m_t = m if m_t is None else m_t
            dlogits = _assignment_gradient(graph, p, x.to(acc), (m, m_t), degree, grads)
            if not options.given:
                dlogits = p * (dlogits - (p * dlogits).sum(-1, keepdim=True))
            elif exists is not None:
                dlogits = dlogits.masked_fill(~exists, 0)
        if needs[1]:
            dx = torch.zeros(x.shape, dtype=acc, device=x.device)
            if grads.x is not None:
                for b, rows in _ranges(graph):
                    torch.mm(p[rows], grads.x[b], out=dx[rows])
            dx = dx.to(x.dtype)
        if needs[2]:
            dvalue = _value_gradient(graph, p, halo.to(acc), value, grads, options)
        return None, None, None, dlogits, dx, dvalue


def _ranges(graph: ShardedGraph) -> list[tuple[int, slice]]:
    """The graphs with rows in this process, and these rows."""
    bounds = graph.bounds
    return [(b, slice(first, last)) for b, (first, last) in enumerate(pairwise(bounds)) if last > first]


def _row_sums(graph: ShardedGraph, blocks: Any, acc: torch.dtype) -> tuple[Tensor, Tensor]:
    """Sums of the entries of each row, and of their squares in float64."""
    if graph.value is None:
        count = graph.row_counts()
        return count.to(acc), count.double()
    row, value = graph.row, graph.value.detach()
    square = torch.zeros(graph.num_nodes, dtype=torch.float64, device=graph.device)
    square.index_add_(0, row, value.double().square())
    return sum_by_index(value.to(acc), row, graph.num_nodes), square


def _sums(
    graph: ShardedGraph, options: Options, p: Tensor, x: Tensor, m: Tensor, degree: Tensor, square: Tensor
) -> tuple[Tensor, ...]:
    """The sums over the nodes of all processes."""
    b, k, f = graph.num_graphs, p.size(1), x.size(1)
    g = k if options.gram else 0
    shapes = (b, k, f), (b, k, k), (b, g, g), (b, 2, k), (b, 5)
    sizes = [torch.Size(shape).numel() for shape in shapes]
    packed = torch.zeros(sum(sizes), dtype=torch.float64, device=p.device)
    pooled, adj, gram, vectors, scalars = (
        part.view(shape) for part, shape in zip(packed.split(sizes), shapes, strict=True)
    )
    for i, rows in _ranges(graph):
        own, to, d = p[rows], m[rows], degree[rows]
        pooled[i] = own.t() @ x[rows]
        adj[i] = own.t() @ to
        if options.link:  # a difference of large sums, taken in float64 from the products on
            for part in own.split(_ROWS):
                wide = part.double()
                gram[i].addmm_(wide.t(), wide)
        elif options.gram:
            gram[i] = own.t() @ own
        vectors[i, 0] = own.sum(0, dtype=torch.float64)
        vectors[i, 1] = d @ own
        if options.entropy:
            scalars[i, ENTROPY] = row_entropy(own).sum(dtype=torch.float64)
        scalars[i, CUT_DEGREE] = (d * own.square().sum(-1)).sum(dtype=torch.float64)
        scalars[i, ADJ_SQ] = square[rows].sum()
        scalars[i, TOTAL_DEGREE] = d.sum(dtype=torch.float64)
        scalars[i, TRACE] = torch.linalg.vecdot(own, to).sum(dtype=torch.float64)
    packed = graph.total(packed)
    return tuple(part.view(shape) for part, shape in zip(packed.split(sizes), shapes, strict=True))


def _assignment_gradient(
    graph: ShardedGraph,
    p: Tensor,
    x: Tensor,
    products: tuple[Tensor, Tensor],
    degree: Tensor,
    grads: Sums,
) -> Tensor:
    """The gradient of S, by the formula of the backward of soft pooling."""
    m, m_t = products
    out = torch.zeros_like(p) if grads.s is None else grads.s.to(p.dtype).clone()
    for i, rows in _ranges(graph):
        own, to, d = p[rows], out[rows], degree[rows, None]
        if grads.x is not None:
            to.addmm_(x[rows], grads.x[i].t())
        dadj = None if grads.adj is None else grads.adj[i].clone()
        if grads.scalars is not None:
            dtrace = grads.scalars[i, TRACE]
            dadj = p.new_zeros(p.size(1), p.size(1)) if dadj is None else dadj
            dadj.diagonal().add_(dtrace)
        if dadj is not None and m is m_t:
            to.addmm_(m[rows], dadj + dadj.t())
        elif dadj is not None:
            to.addmm_(m[rows], dadj.t()).addmm_(m_t[rows], dadj)
        if grads.gram is not None and grads.gram.numel():
            to.addmm_(own, grads.gram[i] + grads.gram[i].t())
        if grads.vectors is not None:
            to += grads.vectors[i, 0] + d * grads.vectors[i, 1]
        if grads.scalars is not None:
            to.addcmul_(own, d * (2 * grads.scalars[i, CUT_DEGREE]))
            dentropy = grads.scalars[i, ENTROPY]
            to -= torch.where(own > 0, (1 + own.log()) * dentropy, 0)
    return out


def _value_gradient(
    graph: ShardedGraph, p: Tensor, halo: Tensor, value: Tensor, grads: Sums, options: Options
) -> Tensor:
    """The gradient of the entries of this process."""
    acc = p.dtype
    left, constant, scale = torch.zeros_like(p), p.new_zeros(graph.num_nodes), p.new_zeros(graph.num_nodes)
    for i, rows in _ranges(graph):
        own = p[rows]
        if grads.adj is not None:
            left[rows] = own @ grads.adj[i]
        if grads.vectors is not None:
            constant[rows] += own @ grads.vectors[i, 1]
        if grads.scalars is not None:
            scalars = grads.scalars[i]
            left[rows] += own * scalars[TRACE]
            constant[rows] += scalars[CUT_DEGREE] * own.square().sum(-1) + scalars[TOTAL_DEGREE]
            scale[rows] = 2 * scalars[ADJ_SQ]
    blocks = graph.values_of_blocks(acc, transposed=False)
    row = graph.row
    out = sampled(blocks, left, p, halo, options.backend) + constant[row] + scale[row] * value.to(acc)
    return out.to(value.dtype)


def checked_flags(assignment: str, link_loss: str | None, entropy: Any, gram: Any) -> tuple[bool, bool]:
    """Whether S is given, and whether the link loss is computed."""
    given = (
        assignment != "softmax" and _checks.check_choice("assignment", assignment, ("softmax", "given")) == 1
    )
    link = link_loss is not None and _checks.check_choice("link_loss", link_loss, (None, "frobenius")) == 1
    if not isinstance(entropy, bool):
        raise TypeError(f"entropy must be True or False, got {entropy!r}")
    if gram is not None:
        _checks.check_flag("gram", gram)
        if link and not gram:
            raise ValueError(
                "gram must be True or None with link_loss='frobenius', got False; pass link_loss=None as well"
            )
    return given, link


def sharded_fields(
    x: Tensor,
    graph: ShardedGraph,
    s: Tensor,
    *,
    assignment: str = "softmax",
    link_loss: str | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    symmetric: bool | None = None,
    num_clusters: int | Tensor | None = None,
    temperature: float | Tensor | None = None,
    mean: bool = False,
    backend: str = "auto",
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The results of :class:`hierpool.ops.soft_pool.Out`, and the number of clusters of each graph.

    Options are those of :func:`hierpool.ops.soft_pool.pooling_call`.
    """
    _checks.check_absent(symmetric=symmetric)
    given, link = checked_flags(assignment, link_loss, entropy, gram)
    gram = link if gram is None else gram
    x, s = local_rows(x), local_rows(s)
    found: list[Any] = []

    def check() -> dict[str, Any]:
        backends.check_name(backend)
        check_rows("x", x, graph)
        check_rows("s", s, graph)
        if s.size(1) == 0:
            raise ValueError(
                f"s must have at least one cluster in its last dimension, got shape {list(s.shape)}"
            )
        counts = _checks.cluster_counts(num_clusters, graph.num_graphs, s)
        scale = _checks.temperature_tensor(temperature, given, s)
        _checks.check_values(0, None, scale, counts, s.size(1))
        found[:] = counts, scale
        return {
            "the number of clusters": s.size(1),
            "the number of features": x.size(1),
            "dtype of s": s.dtype,
            "dtype of x": x.dtype,
            "num_clusters": None if counts is None else counts.tolist(),
            "options": (given, link, entropy, gram, mean),
        } | gradients_of(s=s, x=x, value=graph.value, temperature=scale)

    call = ("soft_pool", s.shape[1:], x.shape[1:], s.dtype, x.dtype, given, link, entropy, gram, mean)
    agree_once(graph, call, check)
    counts, scale = found
    acc = accumulation_dtype(s, x, graph.value)
    logits = s if scale is None else s.to(acc) / scale.to(acc)
    save = torch.is_grad_enabled() and logits.requires_grad
    options = Options(given, gram, link, entropy, backend, s.dtype, save)
    out = Sums(*_Pool.apply(graph, options, counts, logits, x, graph.value))
    scalars, total_entropy, link_norm = _scalars(graph, out, options, mean, acc)
    fields = out.s, out.x.to(x.dtype), out.adj.to(acc), out.gram.to(acc), out.vectors.to(acc)
    return (*fields, scalars, total_entropy, link_norm), counts


def _scalars(
    graph: ShardedGraph, sums: Sums, options: Options, mean: bool, acc: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The scalars of the record, the total entropy and the link norm, from the sums."""
    entropy, cut_degree, adj_sq, total, trace = sums.scalars.unbind(1)
    sizes = graph.graph_sizes
    link_sq = torch.full_like(adj_sq, torch.nan)
    if options.link:
        link_sq = (adj_sq - 2 * trace + sums.gram.square().sum((-1, -2))).clamp(min=0)
    if not options.entropy:
        entropy = torch.full_like(entropy, torch.nan)
    norms = safe_root(adj_sq), safe_root(link_sq)
    scalars = torch.stack([sizes.double(), entropy, cut_degree, norms[0], total, norms[1]], 1).to(acc)
    rows = nodes = 1
    if mean and sizes.numel():
        nodes = max(int(sizes.max()), 1)
        rows = sizes.numel() * nodes
    total_entropy = entropy.sum() / rows
    return scalars, total_entropy.to(acc), (safe_root(link_sq.sum()) / (rows * nodes)).to(acc)
