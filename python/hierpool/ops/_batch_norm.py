"""Batch normalisation over valid rows, as a function."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool._tracing import is_traced, is_transformed


def batch_norm(
    x: Tensor,
    valid: Tensor | None,
    gain: Tensor,
    shift: Tensor,
    running: tuple[Tensor, Tensor],
    *,
    training: bool,
    momentum: float,
    eps: float,
    total: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    r"""The formula of :class:`hierpool.nn.MaskedBatchNorm`.

    Args:
        x: ``[.., F]``.
        valid: bool ``[..]``; ``None``: all rows are valid. Other rows may hold any values.
        gain: :math:`\gamma`, ``[F]``.
        shift: :math:`\beta`, ``[F]``.
        running: running mean and variance, ``[F]``.
        total: makes sums over nodes those of all processes that share statistics.

    Returns:
        The rows, 0 where they are not valid, and new running statistics, those given unless ``training``.
    """
    # torch's kernel takes no single row, nor rows without features, nor a batch of statistics under vmap.
    shared = total is not None and training
    by_kernel = valid is None and not shared and x.shape[:-1].numel() >= 2 and x.size(-1)
    if by_kernel and (is_traced() or not is_transformed()):
        mean, var = (t.clone() for t in running) if training else running  # which torch changes in place
        # torch's backward reads the gain as if it were contiguous.
        how = gain.contiguous(), shift.contiguous(), training, momentum, eps
        y = F.batch_norm(x.flatten(0, -2), mean, var, *how)
        return y.view_as(x), (mean, var)
    if valid is not None:
        x = torch.where(valid[..., None], x, 0)
    mean, var = running
    if training:
        mean, var, running = _statistics(x, valid, running, momentum, total or (lambda part: part))
    scale = gain * torch.rsqrt(var + eps)
    y = torch.addcmul(shift - mean * scale, x, scale)
    return y if valid is None else torch.where(valid[..., None], y, 0), running


def _statistics(
    x: Tensor,
    valid: Tensor | None,
    running: tuple[Tensor, Tensor],
    momentum: float,
    total: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Mean and biased variance of rows whose padding is 0, and the running statistics that follow."""
    nodes = tuple(range(x.dim() - 1))
    count = x.new_full((), x.shape[:-1].numel()) if valid is None else valid.sum().to(x.dtype)
    count = total(count)
    mean = total(x.sum(nodes)) / count.clamp(min=1)
    centred = x - mean if valid is None else torch.where(valid[..., None], x - mean, 0)
    var = total(centred.square().sum(nodes)) / count.clamp(min=1)
    with torch.no_grad():
        # An empty batch gets the weight 0, so that nothing has to be read from the device.
        weight = momentum * (count > 0)
        unbiased = var * (count / (count - 1).clamp(min=1))
        updated = [
            old.lerp(new.to(old.dtype), weight.to(old.dtype))
            for old, new in zip(running, (mean, unbiased), strict=True)
        ]
    return mean, var, (updated[0], updated[1])
