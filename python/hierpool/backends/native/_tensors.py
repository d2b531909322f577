"""Convert tensors to the layouts and dtypes of the C++ kernels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# The dtypes of kernels without a separate accumulation dtype. Other dtypes are converted, or computed by torch.
DTYPES = (torch.float32, torch.float64)

ACTIVATIONS = {"softmax": 0, "tanh": 1, "sigmoid": 2}  # Activation of activation.h


def as_float(temperature: Tensor | None) -> float:
    """The temperature as a float."""
    return 1.0 if temperature is None else temperature.item()


def rows(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension and rows that do not overlap, copied only if necessary."""
    if t.is_contiguous():
        return t
    width, count = t.size(-1), t.size(-2)
    has_rows = (width <= 1 or t.stride(-1) == 1) and (count <= 1 or t.stride(-2) >= width)
    return t if has_rows else t.contiguous()


def contiguous(t: Tensor | None) -> Tensor | None:
    """``t``, copied only if it is not contiguous."""
    return None if t is None else t.contiguous()


def in_dtype(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """``t`` contiguous and in ``dtype``, converted only if necessary."""
    if t is None:
        return None
    return (t if t.dtype is dtype else t.to(dtype)).contiguous()


def like(given: tuple[Tensor | None, ...], found: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """``found`` in the dtypes of ``given``, converted only if necessary; ``None`` where that is ``None``."""
    return tuple(
        [
            None if t is None else g if g.dtype is t.dtype else g.to(t.dtype)
            for t, g in zip(given, found, strict=True)
        ]
    )


def all_contiguous(tensors: Iterable[Any]) -> list[Any]:
    """All tensors, contiguous; ``None`` stays."""
    return [t if t is None or t.is_contiguous() else t.contiguous() for t in tensors]
