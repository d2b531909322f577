"""The update step of GraphSAGE layers, which follows the sum over neighbours."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    widths: tuple[int, ...]  # numbers of columns of the concatenated layers
    normalize: bool
    relu: bool
    backend: str


class Call(NamedTuple):
    """The arguments."""

    aggregated: Tensor  # [.., F], or [.., G] without relation
    x: Tensor | None  # [.., F]
    relation: Tensor | None  # [G, F]
    root: Tensor | None  # [G, F]
    bias: Tensor | None  # [G]
    options: Options


class Out(NamedTuple):
    """The result, and tensors that the backward needs."""

    y: Tensor  # [.., G]
    rows: (
        Tensor | None
    )  # [R, G]: before ReLU, of length 1 if normalised; None if the backward does not need it
    lengths: tuple[Tensor, ...]  # [R, 1] for each width, if normalised


class Upstream(NamedTuple):
    """The gradient of the result."""

    y: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    rows: Tensor | None
    lengths: tuple[Tensor, ...]


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    aggregated: Any
    x: Any
    relation: Any
    root: Any
    bias: Any


class SageUpdate(Operator, opaque=False):
    """The operator of the update step."""

    def composite(self, call: Call) -> Out:
        aggregated, x, relation, root, bias, (widths, normalize, relu, _) = call
        y = aggregated if relation is None else F.linear(aggregated, relation)
        if root is not None:
            assert x is not None
            y = y + F.linear(x, root, bias)
        elif bias is not None:
            y = y + bias
        if normalize:
            parts = [F.normalize(part, dim=-1, eps=1e-12) for part in y.split(widths, -1)]
            y = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return Out(y.relu() if relu else y, None, ())


OPERATOR = SageUpdate()


def sage_update(
    aggregated: Tensor,
    x: Tensor | None,
    relation: Tensor | None,
    root: Tensor | None,
    bias: Tensor | None,
    widths: tuple[int, ...],
    normalize: bool,
    relu: bool,
) -> tuple[Tensor, ...]:
    r"""The update :math:`Y = H W_1^T + X W_2^T + b` of GraphSAGE layers, with normalisation and ReLU.

    Args:
        aggregated: the sum over neighbours :math:`H`, ``[.., F]``; without ``relation`` :math:`H W_1^T`, ``[.., G]``.
        x: :math:`X`, ``[.., F]``, if ``root`` is given.
        relation: :math:`W_1`, ``[G, F]``, or ``None``.
        root: :math:`W_2`, ``[G, F]``, or ``None``.
        bias: :math:`b`, ``[G]``, or ``None``.
        widths: numbers of columns of the concatenated layers; their sum is ``G``.
        normalize: divide the rows of every layer by their lengths, but at least by 1e-12.
        relu: apply ReLU.

    Returns:
        The results of the layers, ``[.., width]`` each.
    """
    (y,) = OPERATOR(Call(aggregated, x, relation, root, bias, Options(widths, normalize, relu, "auto")))
    return (y,) if len(widths) == 1 else y.split(widths, -1)
