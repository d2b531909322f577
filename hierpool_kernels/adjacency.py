"""The adjacency as the launches are given it, dense or sparse."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Dense(NamedTuple):
    """A dense A, ``[B, R, N, N]`` or ``[B, N, N]``, of any strides that ``batch.near`` lets pass."""

    a: Tensor

    @property
    def types(self) -> int:
        """Edge types."""
        return self.a.size(1) if self.a.dim() == 4 else 1

    @property
    def entries(self) -> Tensor | None:
        """Of which the type matters."""
        return self.a

    def arguments(self, dimensions: int) -> tuple[Any, ...]:
        """Those of a kernel that say where A is, of one layout or the other."""
        return self.a, *self.a.stride(), None, None, None


class Csr(NamedTuple):
    """A sparse A in compressed rows with ascending columns, and its transpose, where that is another and needed."""

    rowptr: Tensor
    col: Tensor
    value: Tensor | None
    rowptr_t: Tensor | None = None
    col_t: Tensor | None = None
    value_t: Tensor | None = None

    @property
    def types(self) -> int:
        """Edge types."""
        return 1

    @property
    def entries(self) -> Tensor | None:
        """Of which the type matters; ``None`` if all are 1."""
        return self.value

    def arguments(self, dimensions: int) -> tuple[Any, ...]:
        """The same, for a kernel whose dense A has so many dimensions."""
        return None, *(0,) * dimensions, self.rowptr, self.col, self.value


def factor(a: Tensor, s: Tensor) -> torch.dtype:
    """The type in which A is multiplied by S: whole numbers are exact in all of them."""
    return a.dtype if a.is_floating_point() else s.dtype
