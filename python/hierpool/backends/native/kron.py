"""The Kron reduction by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Fill


def fill(rowptr: Tensor, col: Tensor, value: Tensor | None, place: Tensor, most: int) -> Fill:
    """The entries that eliminated nodes add among those that are kept."""
    return Fill(*torch.ops.hierpool_native.kron.default(rowptr, col, value, place, most))
