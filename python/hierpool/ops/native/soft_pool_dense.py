"""``hierpool::soft_pool_dense`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import contiguous, number, rows


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
        number(temperature),
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
    symmetric: bool | None,
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
        number(temperature),
        given,
        mean,
        *needs,
    )
