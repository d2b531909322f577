"""``hierpool::soft_pool_dense`` by the Triton kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool_kernels.batch import Batch, near, numbers
from hierpool_kernels.soft_pool import (
    Dense,
    Saved,
    Upstream,
    Wanted,
    launch_soft_pool_bwd,
    launch_soft_pool_fwd,
)
from hierpool_kernels.target import target_of


def _stacked(adj: Tensor) -> Tensor:
    """``[B, R, N, N]``, of numbers."""
    return numbers(near(adj if adj.dim() == 4 else adj.unsqueeze(1)))


def forward(
    logits: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool | None,
    want_gram: bool,
    want_link: bool,
    want_entropy: bool,
    mean: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """The outputs of the operator. Whether A is symmetric is not found out: unless it is promised, it is not used."""
    a = _stacked(adj)
    out = launch_soft_pool_fwd(
        logits,
        x,
        Dense(a),
        Batch.padded(logits.size(0), logits.size(1), mask, num_nodes),
        temperature,
        given,
        symmetric is True,
        Wanted(want_gram, want_link, want_entropy, mean, save),
        target_of(logits.device),
    )
    if adj.dim() == 3:
        out = out._replace(adj=out.adj.squeeze(1), link_norm=out.link_norm.squeeze(0))
    shape = (a.size(0), a.size(1) if save else 0)
    return (*out, torch.full(shape, symmetric is True, device=logits.device))


def backward(
    grads: tuple[Tensor | None, ...],
    s: Tensor,
    gram: Tensor,
    link_norm: Tensor,
    m: Tensor,
    is_symmetric: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool | None,
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to logits, features and adjacency; of size 0 where they are not needed."""
    dlogits, dx, dadj = launch_soft_pool_bwd(
        Upstream(*grads),
        Saved(s, gram, link_norm, m),
        x,
        Dense(_stacked(adj)),
        Batch.padded(s.size(0), s.size(1), mask, num_nodes),
        temperature,
        given,
        symmetric is True,
        mean,
        needs,
        target_of(s.device),
    )
    return dlogits, dx, dadj.view(adj.shape) if needs[2] else dadj
