"""Tensors as the C++ kernels take them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierpool.reference.soft_pool_dense import accumulation_dtype

# What kernels without a type of their own for sums take; other dtypes are converted, or left to torch.
DTYPES = (torch.float32, torch.float64)


def number(temperature: Tensor | None) -> float:
    """The temperature, which is 1 where there is none."""
    return 1.0 if temperature is None else float(temperature)


def rows(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension and rows that do not overlap, copied only if it is not so already."""
    if t.is_contiguous():
        return t
    width, count = t.size(-1), t.size(-2)
    fine = (width <= 1 or t.stride(-1) == 1) and (count <= 1 or t.stride(-2) >= width)
    return t if fine else t.contiguous()


def contiguous(t: Tensor | None) -> Tensor | None:
    """``t``, copied only if it is not contiguous already."""
    return None if t is None else t.contiguous()


def packed(tensors: Sequence[Tensor]) -> list[Tensor]:
    """All of them, contiguous."""
    return [t.contiguous() for t in tensors]


def accumulated(value: Tensor | None, *others: Tensor) -> Tensor | None:
    """The entries of a sparse matrix in the type that sums of it and the others are taken in."""
    return None if value is None else value.to(accumulation_dtype(value, *others)).contiguous()
