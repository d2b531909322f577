"""``hierpool::asymmetric_norm`` by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.ops.native._tensors import contiguous, rows


def forward(
    s: Tensor, ptr: Tensor | None, mask: Tensor | None, num_nodes: Tensor | None
) -> tuple[Tensor, ...]:
    """The outputs of the operator."""
    structure = map(contiguous, (ptr, mask, num_nodes))
    return torch.ops.hierpool_native.asymmetric_norm_forward.default(rows(s), *structure)


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
    structure = map(contiguous, (quantile, row, slope, ptr, mask, num_nodes))
    return torch.ops.hierpool_native.asymmetric_norm_backward.default(dnorm.contiguous(), rows(s), *structure)
