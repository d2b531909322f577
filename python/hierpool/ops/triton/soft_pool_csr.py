"""``hierpool::soft_pool_csr`` by the Triton kernels."""

from __future__ import annotations

from torch import Tensor

from hierpool_kernels.batch import Batch
from hierpool_kernels.soft_pool import (
    Csr,
    Saved,
    Upstream,
    Wanted,
    launch_soft_pool_bwd,
    launch_soft_pool_fwd,
)
from hierpool_kernels.target import target_of


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
    return launch_soft_pool_fwd(
        logits,
        x,
        Csr(rowptr, col, value),
        Batch.ragged(ptr, logits.size(0)),
        temperature,
        given,
        symmetric,
        Wanted(want_gram, want_link, want_entropy, mean, save),
        target_of(logits.device),
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
    return launch_soft_pool_bwd(
        Upstream(*grads),
        Saved(s, gram, link_norm, m),
        x,
        Csr(rowptr, col, value, rowptr_t, col_t, value_t),
        Batch.ragged(ptr, s.size(0)),
        temperature,
        given,
        symmetric,
        mean,
        needs,
        target_of(s.device),
    )
