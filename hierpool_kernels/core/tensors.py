"""Tensors as kernels read them: dtypes of sums, bytes for bool, strides that fit."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

_LANGUAGE_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}
_STRIDE_LIMIT = 1 << 20  # a tile has at most 2048 rows, whose elements are addressed in 32 bits


def language_type(dtype: torch.dtype) -> Any:
    """Triton's name of a dtype of sums."""
    return _LANGUAGE_TYPES[dtype]


def accumulation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype of sums: float64 if a tensor is, else float32."""
    double = any(t is not None and t.dtype is torch.float64 for t in tensors)
    return torch.float64 if double else torch.float32


def bool_as_uint8(t: Tensor) -> Tensor:
    """``t``, viewed as uint8 if it is bool."""
    return t.view(torch.uint8) if t.dtype is torch.bool else t


def with_small_strides(t: Tensor) -> Tensor:
    """``t``, copied if elements of a tile are too far apart to be addressed in 32 bits."""
    return t if max(t.stride()[-2:], default=0) < _STRIDE_LIMIT else t.contiguous()


def contiguous_rows(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension, copied if it has none or its rows are too far apart."""
    return with_small_strides(t) if t.size(-1) <= 1 or t.stride(-1) == 1 else t.contiguous()
