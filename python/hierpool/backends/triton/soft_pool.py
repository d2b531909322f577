"""Soft pooling by the Triton kernels."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.triton._layout import adjacency, prepared, rows_of
from hierpool.contract import Dense
from hierpool_kernels.core.target import target_of
from hierpool_kernels.soft_pool import Options, Saved, Upstream
from hierpool_kernels.soft_pool_bwd import launch_soft_pool_bwd
from hierpool_kernels.soft_pool_fwd import launch_soft_pool_fwd

if TYPE_CHECKING:
    from hierpool.ops.soft_pool import Call, Leaves
    from hierpool.ops.soft_pool import Saved as PoolingSaved
    from hierpool.ops.soft_pool import Upstream as PoolingUpstream

__all__ = ["backward", "forward", "prepared"]


def _with_types(call: Call) -> Call:
    """``call`` with the dimension of edge types in a dense A."""
    adj = call.adj
    if isinstance(adj, Dense) and adj.value.dim() == 3:
        return call._replace(adj=Dense(adj.value.unsqueeze(1)))
    return call


# Constants are made once: each would be a kernel in every call. A later call may save one for its backward.


@cache
def _flag(known: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(known, device=device)


@cache
def _unknown(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.full(shape, float("nan"), dtype=dtype, device=device)


def forward(call: Call) -> tuple[Tensor, ...]:
    """See :class:`hierpool.ops.soft_pool.Out`. A is treated as symmetric only with ``symmetric=True``."""
    logits, x, adj, rows, temperature, num_clusters, options = _with_types(call)
    known = options.symmetric is True
    wanted = Options(
        options.gram, options.link, options.entropy, options.mean, options.save, types=call.adj is adj
    )
    out = launch_soft_pool_fwd(
        logits,
        x,
        adjacency(adj),
        rows_of(logits, rows, num_clusters, products=True),
        temperature,
        options.given,
        known,
        wanted,
        target_of(logits.device),
    )
    norm = out.link_norm
    if options.save and options.link:
        norm = norm.clone()
    else:  # the kernels read it without its strides
        norm = _unknown(norm.shape, norm.dtype, norm.device)
    fields = (*out[:8], norm, out.m)
    if not isinstance(adj, Dense):
        return (*fields, logits.new_empty(0, dtype=torch.bool))
    if not options.save:
        return (*fields, logits.new_empty(adj.value.size(0), 0, dtype=torch.bool))
    return (*fields, _flag(known, logits.device).expand(adj.value.shape[:2]))


def backward(
    call: Call, saved: PoolingSaved, upstream: PoolingUpstream, needs: Leaves
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of logits, features and entries of A."""
    _, x, adj, rows, temperature, num_clusters, options = _with_types(call)
    dlogits, dx, dvalue = launch_soft_pool_bwd(
        Upstream(*upstream),
        Saved(*saved[:5]),
        x,
        adjacency(adj),
        rows_of(saved.s, rows, num_clusters, products=True),
        temperature,
        options.given,
        options.symmetric is True,
        options.mean,
        needs[:3],
        target_of(saved.s.device),
    )
    if needs.value and isinstance(call.adj, Dense):
        dvalue = dvalue.view(call.adj.value.shape)
    return dlogits, dx, dvalue
