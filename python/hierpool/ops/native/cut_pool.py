"""Soft pooling and the last step of MinCut and DMoN by the C++ kernels, in one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.ops.cut_pool import Plan, Pooled, Upstream, selu_backward
from hierpool.ops.native._tensors import DTYPES, accumulated, contiguous, number, packed, rows
from hierpool.ops.native.linear_maps import takes

__all__ = ["backward", "forward", "takes"]


def forward(
    plan: Plan, args: tuple[Any, ...], maps: Sequence[Tensor]
) -> tuple[Pooled, tuple[Tensor | None, ...]]:
    """See :func:`hierpool.ops.fallback.cut_pool.forward`."""
    logits, x, edges, *structure, temperature, _, symmetric, _, _, _, _, save, _ = args
    selu = plan.selu and x.dtype in DTYPES
    scale = number(temperature)
    logits = None if maps else rows(logits)
    x = x.contiguous() if maps else rows(x)
    ops, rest = torch.ops.hierpool_native, (save, plan.kind, selu, packed(maps))
    if plan.operator.name == "soft_pool_dense":
        mask = contiguous(structure[0])
        known = -1 if symmetric is None else int(symmetric)
        fields = ops.cut_pool_dense_forward.default(logits, x, rows(edges), mask, scale, known, *rest)
    else:
        value = accumulated(edges, args[0], x)
        fields = ops.cut_pool_csr_forward.default(logits, x, value, *structure[:3], scale, symmetric, *rest)
    s, pooled, adj, *losses, sums = fields
    if plan.selu and not selu:
        pooled = F.selu(pooled)
    size = None
    if plan.sizes:
        b, k = adj.shape[:2]
        # The vectors of the record are the first of the sums.
        size = sums[: 2 * b * k].view(b, 2, k).select(1, 0)
    return Pooled(pooled, adj, tuple(losses), s, size), (s, pooled if plan.selu else None, adj, sums)


def backward(
    plan: Plan,
    upstream: Upstream,
    saved: tuple[Any, ...],
    inputs: tuple[Any, ...],
    maps: Sequence[Tensor],
    needs: tuple[bool, bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor, Sequence[Tensor]]:
    """See :func:`hierpool.ops.fallback.cut_pool.backward`."""
    s, pooled, adj, *rest = saved
    x, edges, *structure, temperature = inputs
    dx, dadj, dlosses, ds, dsize = upstream
    if dx is not None and pooled is not None and pooled.dtype not in DTYPES:
        dx, pooled = selu_backward(dx, pooled), None
    grads = (
        contiguous(ds),
        contiguous(dx),
        _of(adj.dtype, dadj),
        *(_of(adj.dtype, d) for d in dlosses),
        _of(adj.dtype, dsize),
    )
    scale = number(temperature)
    options = (scale, plan.kind, packed(maps), *needs)
    x = x.contiguous() if maps else rows(x)
    ops = torch.ops.hierpool_native
    if plan.operator.name == "soft_pool_dense":
        out: tuple[Tensor, Tensor, Tensor, list[Tensor]] = ops.cut_pool_dense_backward.default(
            *grads, s, pooled, adj, *rest, x, rows(edges), contiguous(structure[0]), *options
        )
        return out
    *transpose, value_t = structure[3:]
    dlogits, dfeatures, dvalue, dmaps = ops.cut_pool_csr_backward.default(
        *grads,
        s,
        pooled,
        adj,
        *rest,
        x,
        accumulated(edges, s, x),
        *structure[:3],
        *transpose,
        _of(adj.dtype, value_t),
        *options,
    )
    return dlogits, dfeatures, dvalue.to((s if edges is None else edges).dtype), dmaps


def _of(dtype: torch.dtype, t: Tensor | None) -> Tensor | None:
    if t is None:
        return None
    return (t if t.dtype is dtype else t.to(dtype)).contiguous()
