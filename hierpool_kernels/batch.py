"""A batch of graphs as the kernels take it, and what is common to their launches."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from hierpool_kernels.plan import cdiv

_ACC = {torch.float32: tl.float32, torch.float64: tl.float64}


def language_type(dtype: torch.dtype) -> Any:
    """Triton's name of a type of sums."""
    return _ACC[dtype]


def accumulation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The type of sums: float64 if a tensor is, else float32."""
    wide = any(t is not None and t.dtype is torch.float64 for t in tensors)
    return torch.float64 if wide else torch.float32


def numbers(t: Tensor) -> Tensor:
    """``t``, bytes in place of bool, as which a kernel reads them."""
    return t.view(torch.uint8) if t.dtype is torch.bool else t


class Batch(NamedTuple):
    """Which rows of node tensors are whose.

    Attributes:
        ptr: int64 ``[B + 1]`` of a ragged batch, else ``None``.
        sizes: int64 ``[B]`` of a padded one: rows from this number on are not read; ``None``: all are.
        mask: uint8 ``[B, N]`` of a padded one with holes, else ``None``.
        b: graphs.
        n: rows of a padded graph, or of all of a ragged batch.
    """

    ptr: Tensor | None
    sizes: Tensor | None
    mask: Tensor | None
    b: int
    n: int

    @classmethod
    def padded(cls, b: int, n: int, mask: Tensor | None, num_nodes: Tensor | None) -> Batch:
        """A padded batch; a mask also tells behind which row there are no more nodes."""
        if mask is None:
            return cls(None, num_nodes, None, b, n)
        rows = torch.arange(1, n + 1, device=mask.device)
        last = (mask * rows).amax(1) if n else rows.new_zeros(b)
        return cls(None, last, numbers(mask.contiguous()), b, n)

    @classmethod
    def ragged(cls, ptr: Tensor, n: int) -> Batch:
        """A batch of graphs one after another."""
        return cls(ptr, None, None, ptr.numel() - 1, n)

    @property
    def rows(self) -> tuple[Any, ...]:
        """The arguments of a kernel that say where rows are."""
        return self.ptr, self.sizes, self.mask, self.n, self.b

    def slots(self, step: int) -> int:
        """How many slots of ``step`` rows there are, some of them empty."""
        return self.n // step + self.b if self.ptr is not None else self.b * cdiv(self.n, step)

    def graph_stride(self, nodes: Tensor | None) -> int:
        """From a graph to the next in a node tensor ``[B, N, ..]``, or ``[N, ..]`` of a ragged batch."""
        return 0 if self.ptr is not None or nodes is None else nodes.stride(0)

    def nodes(self, like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """An empty tensor of nodes."""
        lead = (self.n,) if self.ptr is not None else (self.b, self.n)
        return like.new_empty(*lead, *shape, dtype=dtype or like.dtype)

    def largest(self) -> Tensor | None:
        """The number of nodes of the largest graph of a ragged batch, on its device; ``None`` where ``n`` is it."""
        if self.ptr is None:
            return None
        return self.ptr.diff().amax() if self.b else self.ptr.new_zeros(())


_FARTHEST = 1 << 24


def near(t: Tensor) -> Tensor:
    """``t``, copied if rows or columns are so far apart that elements of a tile cannot be counted in 32 bits."""
    return t if max(t.stride()[-2:], default=0) < _FARTHEST else t.contiguous()


def readable(t: Tensor) -> Tensor:
    """``t`` with a contiguous last dimension, copied only if it has none or its rows are too far apart."""
    return near(t) if t.size(-1) <= 1 or t.stride(-1) == 1 else t.contiguous()
