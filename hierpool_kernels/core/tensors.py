"""Tensors as kernels read them: dtypes of sums, bytes for bool, strides that fit."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

_LANGUAGE_TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}
_LINE = 128  # bytes
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
    """``t`` with a contiguous last dimension, copied if it has none, if its rows are too far apart, or if the rows of
    one graph are no whole number of them from those of the next."""
    if t.dim() == 3 and t.size(0) > 1 and (not t.stride(1) or t.stride(0) % t.stride(1)):
        return t.clone(memory_format=torch.contiguous_format)
    return with_small_strides(t) if t.size(-1) <= 1 or t.stride(-1) == 1 else t.contiguous()


def workspace(
    like: Tensor, dtype: torch.dtype, *sizes: int, doubles: tuple[int, ...] = ()
) -> tuple[Tensor, ...]:
    """Uninitialized flat tensors of ``dtype`` with at least ``sizes`` elements, then of float64 with ``doubles``.

    They are parts of one allocation, which takes the host less time than several, and start at lines of the cache.
    """
    total, first, counts, counts_64 = _divided(dtype, sizes, doubles)
    if not doubles:
        return like.new_empty(total, dtype=dtype).split_with_sizes(counts)
    singles, *rest = like.new_empty(total, dtype=torch.float64).split_with_sizes((first, *counts_64))
    return *singles.view(dtype).split_with_sizes(counts), *rest


@lru_cache(1024)
def _divided(
    dtype: torch.dtype, sizes: tuple[int, ...], doubles: tuple[int, ...]
) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    """Elements of a workspace, and of the parts before ``doubles``; elements of each part, rounded up to lines."""
    step = _LINE // dtype.itemsize
    counts = tuple(-(-size // step) * step for size in sizes)
    counts_64 = tuple(-(-size // (_LINE // 8)) * (_LINE // 8) for size in doubles)
    if not doubles:
        return sum(counts), 0, counts, ()
    first = sum(counts) * dtype.itemsize // 8
    return first + sum(counts_64), first, counts, counts_64
