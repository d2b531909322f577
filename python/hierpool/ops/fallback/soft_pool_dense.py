"""``hierpool::soft_pool_dense`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference
from hierpool.reference.soft_pool_dense import DenseForward, Saved


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
    result = reference.soft_pool_dense(
        logits,
        x,
        adj,
        mask,
        num_nodes,
        temperature,
        given=given,
        want_gram=out.gram.size(1) > 0,
        want_link=want_link,
        want_entropy=want_entropy,
        mean=mean,
    )
    for target, value in zip(out, result, strict=True):
        if target.numel():
            target.copy_(value)
    if symmetric is not None and out.symmetric.numel():
        out.symmetric.fill_(symmetric)


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
    results = reference.soft_pool_dense_backward(
        grads,
        saved,
        x,
        adj,
        mask,
        num_nodes,
        temperature,
        given=given,
        mean=mean,
        needs=(out[0] is not None, out[1] is not None, out[2] is not None),
    )
    for target, value in zip(out, results, strict=True):
        if target is not None and value is not None:
            target.copy_(value)
