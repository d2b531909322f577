"""What the launches of soft pooling are given, and give."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Wanted(NamedTuple):
    """What the forward is asked for."""

    gram: bool
    link: bool
    entropy: bool
    mean: bool
    save: bool


class Outputs(NamedTuple):
    """Of the forward; of a dense batch with the dimension of edge types, of a ragged one without."""

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
    """Gradients of the outputs, where given."""

    s: Tensor | None
    x: Tensor | None
    adj: Tensor | None
    gram: Tensor | None
    vectors: Tensor | None
    scalars: Tensor | None
    total_entropy: Tensor | None
    link_norm: Tensor | None


class Saved(NamedTuple):
    """What the forward kept."""

    s: Tensor
    gram: Tensor
    link_norm: Tensor
    m: Tensor
