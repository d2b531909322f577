"""``hierpool::soft_pool_csr`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import accumulated, contiguous, number, rows


def forward(
    logits: Tensor,
    x: Tensor,
    value: Tensor | None,
    rowptr: Tensor,
    col: Tensor,
    ptr: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool,
    want_gram: bool,
    want_link: bool,
    want_entropy: bool,
    mean: bool,
    save: bool,
) -> tuple[Tensor, ...]:
    """The outputs of the operator."""
    return torch.ops.hierpool_native.soft_pool_csr_forward.default(
        rows(logits),
        rows(x),
        accumulated(value, logits, x),
        rowptr,
        col,
        ptr,
        number(temperature),
        given,
        symmetric,
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
    x: Tensor,
    value: Tensor | None,
    rowptr: Tensor,
    col: Tensor,
    ptr: Tensor,
    rowptr_t: Tensor | None,
    col_t: Tensor | None,
    value_t: Tensor | None,
    temperature: Tensor | None,
    given: bool,
    symmetric: bool,
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to logits, features and entries; of size 0 where they are not needed."""
    weight_t = None if value_t is None else value_t.to(m.dtype)
    dlogits, dx, dvalue = torch.ops.hierpool_native.soft_pool_csr_backward.default(
        *map(contiguous, grads),
        s,
        gram,
        link_norm,
        m,
        rows(x),
        accumulated(value, s, x),
        rowptr,
        col,
        ptr,
        rowptr_t,
        col_t,
        weight_t,
        number(temperature),
        given,
        mean,
        *needs,
    )
    return dlogits, dx, dvalue.to((s if value is None else value).dtype)
