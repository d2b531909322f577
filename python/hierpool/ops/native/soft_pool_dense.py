"""``hierpool::soft_pool_dense`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.reference.soft_pool_dense import DenseForward, Saved


def _rows(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension and rows that do not overlap, copied only if it is not so already."""
    width, rows = t.size(-1), t.size(-2)
    fine = (width <= 1 or t.stride(-1) == 1) and (rows <= 1 or t.stride(-2) >= width)
    return t if fine else t.contiguous()


def _contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


def forward(
    out: DenseForward,
    logits: Tensor,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool | None,
    want_link: bool,
    want_entropy: bool,
    mean: bool,
) -> None:
    """Fill every output of the forward; outputs of size 0 are not wanted."""
    torch.ops.hierpool_native.soft_pool_dense_forward(
        *out,
        _rows(logits),
        _rows(x),
        _rows(adj),
        _contiguous(mask),
        _contiguous(num_nodes),
        1.0 if temperature is None else float(temperature),
        given,
        -1 if symmetric is None else int(symmetric),
        want_link,
        want_entropy,
        mean,
    )


def backward(
    out: tuple[Tensor | None, Tensor | None, Tensor | None],
    grads: tuple[Tensor | None, ...],
    saved: Saved,
    x: Tensor,
    adj: Tensor,
    mask: Tensor | None,
    num_nodes: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    mean: bool,
) -> None:
    """Fill those of ``(dlogits, dx, dadj)`` that are not ``None``."""
    torch.ops.hierpool_native.soft_pool_dense_backward(
        *out,
        *map(_contiguous, grads),
        saved.s,
        saved.gram,
        saved.link_norm,
        saved.m,
        saved.symmetric,
        _rows(x),
        _rows(adj),
        _contiguous(mask),
        _contiguous(num_nodes),
        1.0 if temperature is None else float(temperature),
        given,
        mean,
    )
