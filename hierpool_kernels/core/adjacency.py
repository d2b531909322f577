"""The adjacency matrix A as launches take it, dense or sparse."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool_kernels.core.tensors import bool_as_uint8, with_small_strides


class Dense(NamedTuple):
    """A dense A, ``[B, R, N, N]`` or ``[B, N, N]``; :meth:`of` makes one from any tensor."""

    a: Tensor

    @classmethod
    def of(cls, adj: Tensor) -> Dense:
        """A as kernels read it: a bool tensor as uint8, copied only if its strides are too large."""
        return cls(bool_as_uint8(with_small_strides(adj)))

    @property
    def types(self) -> int:
        """Number of edge types R."""
        return self.a.size(1) if self.a.dim() == 4 else 1

    @property
    def values(self) -> Tensor | None:
        """The tensor of the entries."""
        return self.a

    @property
    def vector(self) -> int:
        """See :func:`vector_of`."""
        return vector_of(self.a)

    @property
    def across(self) -> bool:
        """True if columns are contiguous, and rows are not."""
        return self.a.stride(-1) != 1

    @property
    def strides(self) -> tuple[int, ...]:
        """See :func:`strides_of`."""
        return strides_of(self.a)

    def arguments(self, dimensions: int, in_vectors: bool = False) -> tuple[Any, ...]:
        """The kernel arguments of A: pointer and strides of a dense one, as they are or as of :func:`strides_of`, then
        ``rowptr``, ``col``, ``value``."""
        return self.a, *(self.strides if in_vectors else self.a.stride()), None, None, None


class Csr(NamedTuple):
    """A sparse A in compressed rows with ascending columns; its transpose, or ``None`` if A is symmetric."""

    rowptr: Tensor
    col: Tensor
    value: Tensor | None
    rowptr_t: Tensor | None = None
    col_t: Tensor | None = None
    value_t: Tensor | None = None

    @property
    def types(self) -> int:
        """Number of edge types R."""
        return 1

    @property
    def values(self) -> Tensor | None:
        """The tensor of the entries; ``None`` if all of them are 1."""
        return self.value

    @property
    def vector(self) -> int:
        """See :func:`vector_of`; a sparse A has none."""
        return 1

    @property
    def across(self) -> bool:
        """See :class:`Dense`; False."""
        return False

    def arguments(self, dimensions: int, in_vectors: bool = False) -> tuple[Any, ...]:
        """As of :class:`Dense`; ``dimensions`` is the number of strides that the kernel takes."""
        return None, *(0,) * dimensions, self.rowptr, self.col, self.value


def vector_of(a: Tensor) -> int:
    """Rows and columns of a dense A that kernels may read at once, beyond the end of a graph but not beyond N: 16 if N
    and the strides of graphs and of edge types are multiples of it, else 1."""
    return 1 if a.size(-1) % 16 or any(stride % 16 for stride in a.stride()[:-2]) else 16


def strides_of(a: Tensor) -> tuple[int, ...]:
    """The strides of a dense A, those of graphs and of edge types in vectors of :func:`vector_of`."""
    vector = vector_of(a)
    return *(stride // vector for stride in a.stride()[:-2]), *a.stride()[-2:]


def factor_dtype(a: Tensor, s: Tensor) -> torch.dtype:
    """The dtype in which A is multiplied by S; integers are exact in all of them."""
    return a.dtype if a.is_floating_point() else s.dtype
