"""Types of soft pooling, and what its forward and backward kernels share."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor


class Options(NamedTuple):
    """The outputs to compute: gram, link error and entropy; whether these are means; whether to save M; whether the
    outputs of a padded batch have a dimension of edge types."""

    gram: bool
    link: bool
    entropy: bool
    mean: bool
    save: bool
    types: bool = True


class Outputs(NamedTuple):
    """Outputs of the forward."""

    s: Tensor
    x: Tensor
    adj: Tensor
    gram: Tensor
    vectors: Tensor
    scalars: Tensor
    total_entropy: Tensor
    link_norm: Tensor
    m: Tensor


class Upstream(NamedTuple):
    """Gradients of the outputs; None is zero."""

    s: Tensor | None
    x: Tensor | None
    adj: Tensor | None
    gram: Tensor | None
    vectors: Tensor | None
    scalars: Tensor | None
    total_entropy: Tensor | None
    link_norm: Tensor | None


class Saved(NamedTuple):
    """What the forward saves for the backward."""

    s: Tensor
    gram: Tensor
    scalars: Tensor
    link_norm: Tensor
    m: Tensor


@triton.jit
def mean_divisors(B, N, largest_ptr, MEAN: tl.constexpr):
    """The divisors of the total entropy, B N, and of the link norm, B N^2, with N the size of the largest graph."""
    rows = tl.full((), 1, tl.float64)
    entries = rows
    if MEAN:
        if largest_ptr is not None:
            largest = tl.load(largest_ptr).to(tl.float64)
        else:
            largest = tl.full((), 1, tl.float64) * N
        rows = tl.maximum(largest * B, 1.0)
        entries = rows * tl.maximum(largest, 1.0)
    return rows, entries


@triton.jit
def gradient_of_square(dnorm_ptr, norm):
    """The gradient of the square of a norm from that of the norm, which is 0 where the norm is 0; in float64."""
    norm = norm.to(tl.float64)
    return tl.where(norm > 0, tl.load(dnorm_ptr).to(tl.float64) / (2 * tl.where(norm > 0, norm, 1.0)), 0.0)
