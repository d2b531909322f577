"""``hierpool::asymmetric_norm`` by the reference."""

from __future__ import annotations

from torch import Tensor

from hierpool import reference
from hierpool.ops.fallback import without_autocast


@without_autocast
def forward(
    s: Tensor, ptr: Tensor | None, mask: Tensor | None, num_nodes: Tensor | None
) -> tuple[Tensor, ...]:
    """The outputs of the operator."""
    return tuple(reference.asymmetric_norm(s, mask, num_nodes, ptr=ptr))


@without_autocast
def backward(
    dnorm: Tensor,
    s: Tensor,
    quantile: Tensor,
    row: Tensor,
    slope: Tensor,
    ptr: Tensor | None,
    mask: Tensor | None,
    num_nodes: Tensor | None,
) -> Tensor:
    """The gradient to ``s``."""
    return reference.asymmetric_norm_backward(dnorm, s, quantile, row, slope, mask, num_nodes, ptr=ptr)
