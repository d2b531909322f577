"""Soft pooling by its operator, and after it the last step of MinCut and DMoN by plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.ops.cut_pool import Plan, Pooled, Upstream, selu_backward
from hierpool.ops.fallback import cut_terms
from hierpool.ops.fallback.cut_terms import Sums


def takes(x: Tensor, maps: Sequence[Tensor]) -> bool:
    """Whether :func:`forward` makes the logits of features by such weights and biases."""
    return False


def forward(
    plan: Plan, args: tuple[Any, ...], maps: Sequence[Tensor]
) -> tuple[Pooled, tuple[Tensor | None, ...]]:
    """What is pooled, and what the backward needs of it.

    Args:
        plan: what is to be done.
        args: those of its operator, with the softmax, ``S^T S``, and neither link loss nor entropy.
        maps: weights and biases in turn of linear maps that make the logits of the features, instead of those in
            ``args``; none, unless the backend takes them.
    """
    fields = plan.operator.forward(*args)
    s, x, adj, gram, vectors, scalars, _, link_norm, *kept = fields
    out, losses, parts = cut_terms.forward(Sums(adj, gram, vectors, scalars), plan.kind)
    if plan.selu:
        x = F.selu(x)
    saved = (s, gram, link_norm, *kept, x if plan.selu else None, adj, vectors, scalars, out, *parts)
    return Pooled(x, out, losses, s, vectors.select(1, 0)), saved


def backward(
    plan: Plan,
    upstream: Upstream,
    saved: tuple[Any, ...],
    inputs: tuple[Any, ...],
    maps: Sequence[Tensor],
    needs: tuple[bool, bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Sequence[Tensor]]:
    """Gradients to logits, features and edges, of size 0 where they are not needed, and to ``maps``, if they are.

    Args:
        plan: that of the forward.
        upstream: gradients of what it returned.
        saved: what it saved.
        inputs: features, edges, the rest of the adjacency, and temperature: the operator's arguments.
        maps: those of the forward. With maps, the gradient to the logits is needed if any is.
        needs: which gradients are needed.
    """
    kept = 3 + plan.operator.saved
    x_pooled, adj, vectors, scalars, out, *parts = saved[kept:]
    dx, dout, dlosses, ds, dsize = upstream
    if dx is not None and x_pooled is not None:
        dx = selu_backward(dx, x_pooled)
    sums = Sums(adj, saved[1], vectors, scalars)
    dsums: tuple[Tensor | None, ...] = (None,) * 4
    if not (dout is None and all(d is None for d in dlosses)):
        dsums = cut_terms.backward(dout, dlosses, sums, out, tuple(parts), plan.kind)
    dadj, dgram, dvectors, dscalars = dsums
    if dsize is not None:
        own = torch.stack([dsize, torch.zeros_like(dsize)], 1)
        dvectors = own if dvectors is None else dvectors + own
    gradients = plan.operator.backward(
        *(ds, dx, dadj, dgram, dvectors, dscalars, None, None),
        *saved[:kept],
        *inputs,
        *(False, plan.symmetric, False),
        *needs[:3],
        plan.backend,
    )
    return *gradients, ()
