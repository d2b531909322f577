"""The cross-entropy link loss by the C++ kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.backends.native._tensors import contiguous, in_dtype, rows
from hierpool.contract import Dense, accumulation_dtype

if TYPE_CHECKING:
    from hierpool.ops.link_bce import Call, Leaves, Upstream

_DIVISORS = (None, "numel", "valid")  # their indices are the numbers in C++


def _arguments(call: Call) -> tuple[object, ...]:
    s, adj, batch, eps, options = call
    structure: tuple[Tensor | None, ...]
    if isinstance(adj, Dense):
        value: Tensor | None = rows(adj.value)
        structure = (None, None, None, *map(contiguous, batch))
    else:
        value = in_dtype(adj.value, accumulation_dtype(s, adj.value))
        structure = (adj.rowptr, adj.col, *batch, None, None)
    return rows(s), value, *structure, eps.item(), _DIVISORS.index(options.normalize), options.symmetric


def forward(call: Call) -> tuple[Tensor]:
    """The loss."""
    return (torch.ops.hierpool_native.link_bce_forward.default(*_arguments(call)),)


def backward(call: Call, saved: tuple[()], upstream: Upstream, needs: Leaves) -> tuple[Tensor, Tensor]:
    """Gradients of the assignment and of the entries."""
    ds, dvalue = torch.ops.hierpool_native.link_bce_backward.default(
        upstream.loss.contiguous(), *_arguments(call), *needs
    )
    value = call.adj.value
    return ds, dvalue if value is None else dvalue.to(value.dtype)
