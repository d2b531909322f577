"""Precisions of the inputs and of products: dtype, how float32 products are taken, and what errors are allowed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

VARIABLE = "HIERPOOL_FP32_PRECISION"


@dataclass(frozen=True)
class Tolerance:
    """Errors allowed to values and to gradients, relative to the largest element of the truth."""

    values: float
    gradients: float


@dataclass(frozen=True)
class Precision:
    """Dtype of the tensors, how products of float32 are taken ("ieee" or "tf32"), and the name of their rate.

    The unit roundoff of a TF32 operand is 2^-11 where it is rounded and 2^-10 where it is cut off; that of bfloat16 is
    2^-8, of the result too. Tolerances are about twice the error of the plain PyTorch composition with operands cut so.
    """

    dtype: torch.dtype
    products: str
    rate: str
    tolerance: Tolerance


FLOAT32 = Tolerance(1e-5, 2e-5)
IEEE = Precision(torch.float32, "ieee", "ieee", FLOAT32)
TF32 = Precision(torch.float32, "tf32", "tf32", Tolerance(3e-3, 4e-3))
BF16 = Precision(torch.bfloat16, "tf32", "half", Tolerance(8e-3, 1.6e-2))
PRECISIONS = (IEEE, TF32, BF16)


@contextmanager
def in_force(precision: Precision) -> Iterator[None]:
    """Take products of float32 as ``precision`` says, in torch and in our kernels."""
    before = torch.get_float32_matmul_precision(), os.environ.get(VARIABLE)
    torch.set_float32_matmul_precision({"ieee": "highest", "tf32": "high"}[precision.products])
    os.environ[VARIABLE] = precision.products
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        os.environ.pop(VARIABLE)
        if before[1] is not None:
            os.environ[VARIABLE] = before[1]
