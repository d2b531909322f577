"""Soft pooling and the last step of MinCut and DMoN as one function of autograd, whose arithmetic is a backend's.

On a batch of small graphs, recording some thirty steps on ``[B, K, K]`` costs more than pooling the graphs. Compilers
and transforms do not come here: :mod:`hierpool.finish` has the same in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import RaggedGraph
from hierpool.ops._operator import without_second
from hierpool.ops._soft_pool import SYMMETRIC, TEMPERATURE, SoftPoolOperator, temperature_gradient
from hierpool.ops.fallback.cut_terms import Kind
from hierpool.ops.fallback.linear_maps import Map
from hierpool.ops.linear_maps import check_features, linear_maps
from hierpool.ops.soft_pool import pooling

_SELU = (1.6732632423543772848, 1.0507009873554804934)  # alpha and scale


class Pooled(NamedTuple):
    """What a backend returns."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K]
    losses: tuple[Tensor, ...]  # three, 0-d
    s: Tensor  # [B, N, K], or [N, K]
    size: Tensor | None  # [B, K], of the clusters; may be None where the plan does not ask for it


class Upstream(NamedTuple):
    """Gradients of it; ``None`` is zero."""

    x: Tensor | None
    adj: Tensor | None
    losses: tuple[Tensor | None, ...]  # three
    s: Tensor | None
    size: Tensor | None


class Plan(NamedTuple):
    """What is to be done."""

    kind: Kind
    selu: bool  # of the pooled features
    nodes: bool  # whether S is returned
    sizes: bool  # whether the sizes of the clusters are
    losses: int  # how many
    dtypes: tuple[torch.dtype, torch.dtype]  # of the adjacency, of the losses
    operator: SoftPoolOperator
    symmetric: bool | None
    backend: str
    filler: Any

    def results(self, pooled: Pooled) -> tuple[Tensor, ...]:
        """What is returned, in order."""
        adj, losses = pooled.adj, pooled.losses[: self.losses]
        of_adj, of_losses = self.dtypes
        acc = adj.dtype
        if of_adj is not acc:
            adj = adj.to(of_adj)
        if of_losses is not acc:
            losses = tuple(term.to(of_losses) for term in losses)
        nodes = (pooled.s,) if self.nodes else ()
        if not self.sizes:
            return (pooled.x, adj, *losses, *nodes)
        assert pooled.size is not None
        return (pooled.x, adj, *losses, *nodes, pooled.size)

    def upstream(self, dx: Tensor | None, dadj: Tensor | None, *grads: Tensor | None) -> Upstream:
        """The gradients of what was returned."""
        losses = self.losses
        ds = grads[losses] if self.nodes else None
        dsize = grads[-1] if self.sizes else None
        return Upstream(dx, dadj, (*grads[:losses], None)[:3], ds, dsize)


def cut_pool(
    kind: Kind,
    x: Tensor,
    adj: Tensor | RaggedGraph,
    s: Tensor | Sequence[Map],
    mask: Tensor | None,
    options: dict[str, Any],
    *,
    selu: bool = False,
    nodes: bool = False,
    sizes: bool = False,
) -> tuple[Tensor, ...]:
    """Features and adjacency of the clusters, the losses of ``kind``, and :math:`S` and sizes if asked for.

    Args:
        kind, selu, nodes, sizes: see :class:`Plan`.
        x, adj, mask: see :func:`hierpool.soft_pool`.
        s: the logits, or maps that make them of ``x``, on the CPU alone.
        options: of :func:`hierpool.ops.soft_pool.pooling`.
    """
    backend = options.get("backend", "auto")
    # There is no Triton kernel of the last step: what is beside one runs by torch.
    last = backends.select("cut_pool", x.device.type, "auto" if backend == "triton" else backend)
    filler = last.filler("cut_pool")
    maps: tuple[Tensor, ...] = ()
    if not isinstance(s, Tensor):
        check_features(x, s)
        maps = tuple(tensor for one in s for tensor in one)
        if filler.takes(x, maps):
            s = x  # stands for the logits, of which there are as many
        else:
            s, maps = linear_maps(x, s, mask), ()
    operator, args = pooling(x, adj, s, mask, leaves=maps, **options)
    operator.check_values(*args)
    dtype, losses = s.dtype, 2 if kind is Kind.MINCUT else 3
    dtypes = (dtype, torch.promote_types(x.dtype, dtype))
    plan = Plan(kind, selu, nodes, sizes, losses, dtypes, operator, args[SYMMETRIC], backend, filler)
    if not operator.saves(args):
        return plan.results(filler.forward(plan, args, maps)[0])
    leaves = (None if maps else args[0], args[1], args[2], args[TEMPERATURE])
    out: tuple[Tensor, ...] = _CutPool.apply(plan, args, *leaves, *maps)
    return out


class _CutPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, args: tuple[Any, ...], *leaves: Tensor | None) -> tuple[Tensor, ...]:
        maps = leaves[4:]
        pooled, saved = plan.filler.forward(plan, args, maps)
        inputs = args[1 : TEMPERATURE + 1]
        temperature = inputs[-1]
        learned = temperature is not None and temperature.requires_grad
        ctx.save_for_backward(*saved, *inputs, args[0] if learned else None, *maps)
        ctx.plan, ctx.counts = plan, (len(saved), len(saved) + len(inputs))
        ctx.set_materialize_grads(False)
        return plan.results(pooled)

    @staticmethod
    @without_second("pooling with the last step of MinCut or DMoN")
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        plan, (saved, inputs), tensors = ctx.plan, ctx.counts, ctx.saved_tensors
        temperature, logits, *maps = tensors[inputs - 1 :]
        need_logits, need_x, need_edges, need_temperature, *need_maps = ctx.needs_input_grad[2:]
        need_map = any(need_maps)
        through_logits = need_logits or need_temperature or need_map or (bool(maps) and need_x)
        dlogits, dx, dedges, dmaps = plan.filler.backward(
            plan,
            plan.upstream(*grads),
            tensors[:saved],
            tensors[saved:inputs],
            maps,
            (through_logits, need_x, need_edges, need_map),
        )
        return (
            None,
            None,
            dlogits if need_logits else None,
            dx if need_x else None,
            dedges if need_edges else None,
            temperature_gradient(dlogits, logits, temperature) if need_temperature else None,
            *(dmaps if need_map else [None] * len(maps)),
        )


def selu_backward(dy: Tensor, y: Tensor) -> Tensor:
    """The gradient before SELU, from what came out of it."""
    grad: Tensor = torch.ops.aten.elu_backward.default(dy.contiguous(), *_SELU, 1, True, y)
    return grad
