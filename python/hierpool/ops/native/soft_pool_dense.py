"""``hierpool::soft_pool_dense`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor


def rows(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension and rows that do not overlap, copied only if it is not so already."""
    if t.is_contiguous():
        return t
    width, count = t.size(-1), t.size(-2)
    fine = (width <= 1 or t.stride(-1) == 1) and (count <= 1 or t.stride(-2) >= width)
    return t if fine else t.contiguous()


def contiguous(t: Tensor | None) -> Tensor | None:
    return None if t is None else t.contiguous()


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
    """The outputs of the operator."""
    return torch.ops.hierpool_native.soft_pool_dense_forward.default(
        rows(logits),
        rows(x),
        rows(adj),
        contiguous(mask),
        contiguous(num_nodes),
        1.0 if temperature is None else float(temperature),
        given,
        -1 if symmetric is None else int(symmetric),
        want_gram,
        want_link,
        want_entropy,
        mean,
        save,
    )


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
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to logits, features and adjacency; of size 0 where they are not needed."""
    return torch.ops.hierpool_native.soft_pool_dense_backward.default(
        *map(contiguous, grads),
        s,
        gram,
        link_norm,
        m,
        is_symmetric,
        rows(x),
        rows(adj),
        contiguous(mask),
        contiguous(num_nodes),
        1.0 if temperature is None else float(temperature),
        given,
        mean,
        *needs,
    )
