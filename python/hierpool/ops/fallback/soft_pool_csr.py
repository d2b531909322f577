"""``hierpool::soft_pool_csr`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference
from hierpool.ops.fallback import without_autocast


@without_autocast
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
    out = reference.soft_pool_csr(
        logits.clone() if given else logits,  # an operator must not return its input
        x,
        value,
        rowptr,
        col,
        ptr,
        temperature,
        given=given,
        want_gram=want_gram,
        want_link=want_link,
        want_entropy=want_entropy,
        mean=mean,
    )
    if not save:
        out = out._replace(m=out.m[:0])
    return tuple(t.contiguous() for t in out)


@without_autocast
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
    dlogits, dfeatures, dvalue = reference.soft_pool_csr_backward(
        grads,
        s,
        gram,
        link_norm,
        m,
        x,
        value,
        rowptr,
        col,
        ptr,
        temperature,
        given=given,
        mean=mean,
        needs=needs,
    )

    def like(t: Tensor, gradient: Tensor | None) -> Tensor:
        return t.new_empty(0) if gradient is None else gradient.contiguous()

    return like(s, dlogits), like(x, dfeatures), like(s if value is None else value, dvalue)
