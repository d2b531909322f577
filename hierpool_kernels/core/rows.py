"""The rows of node tensors that belong to each graph."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.tensors import bool_as_uint8


def ends_of(mask: Tensor) -> Tensor:
    """The number of rows of each graph up to its last node, int64 ``[B]``, for a mask ``[B, N]``."""
    b, n = mask.shape
    positions = torch.arange(1, n + 1, device=mask.device)
    return (mask * positions).amax(1) if n else positions.new_zeros(b)


def chunk_count(b: int, n: int, ragged: bool, size: int) -> int:
    """See :meth:`Rows.chunks`."""
    return n // size + b if ragged else b * cdiv(n, size)


class Rows(NamedTuple):
    """Rows of a padded or ragged batch of graphs.

    Attributes:
        ptr: int64 ``[B + 1]`` of a ragged batch, else ``None``: graph ``b`` has rows ``ptr[b]`` to ``ptr[b + 1]``.
        sizes: int64 ``[B]`` of a padded batch: rows from this index on are padding. ``None``: there is no padding.
        mask: uint8 or int32 ``[B, N]`` of a padded batch whose nodes need not come first, else ``None``.
        b: number of graphs.
        n: rows of a padded graph, or of a whole ragged batch.
        clusters: int64 ``[B]``, contiguous: graph ``b`` has the first ``clusters[b]`` columns of S. ``None``: all.
    """

    ptr: Tensor | None
    sizes: Tensor | None
    mask: Tensor | None
    b: int
    n: int
    clusters: Tensor | None = None

    @classmethod
    def padded(
        cls,
        b: int,
        n: int,
        mask: Tensor | None,
        num_nodes: Tensor | None,
        clusters: Tensor | None = None,
        wide: bool = False,
    ) -> Rows:
        """Rows of a padded batch; with a mask, ``num_nodes`` is ``None`` or :func:`ends_of` it. ``wide``: see
        :func:`~hierpool_kernels.core.plan.wide_mask`."""
        if mask is None:
            return cls(None, num_nodes, None, b, n, clusters)
        ends = ends_of(mask) if num_nodes is None else num_nodes
        mask = mask.to(torch.int32) if wide else bool_as_uint8(mask)
        return cls(None, ends, mask.contiguous(), b, n, clusters)

    @classmethod
    def ragged(cls, ptr: Tensor, n: int, clusters: Tensor | None = None) -> Rows:
        """Rows of a ragged batch."""
        return cls(ptr, None, None, ptr.numel() - 1, n, clusters)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The kernel arguments ``ptr, sizes, mask_ptr, N, B``."""
        return self.ptr, self.sizes, self.mask, self.n, self.b

    @property
    def arguments_of_columns(self) -> tuple[Any, ...]:
        """The kernel arguments ``ptr, clusters_ptr, B`` of kernels whose rows belong to several graphs."""
        return (None, None, 0) if self.clusters is None else (self.ptr, self.clusters, self.b)

    def chunks(self, size: int) -> int:
        """The number of chunks of ``size`` rows, some of which may be empty."""
        return chunk_count(self.b, self.n, self.ptr is not None, size)

    @property
    def graph_rows(self) -> int:
        """Rows from graph to graph of a contiguous node tensor; 0 for a ragged batch."""
        return 0 if self.ptr is not None else self.n

    def rows_between(self, nodes: Tensor) -> int:
        """As :attr:`graph_rows`, of any node tensor with `contiguous_rows`."""
        return 0 if self.ptr is not None else nodes.stride(0) // max(nodes.stride(1), 1)

    def graph_stride(self, nodes: Tensor | None) -> int:
        """The stride from graph to graph of a node tensor ``[B, N, ..]``; 0 for a ragged batch ``[N, ..]``."""
        return 0 if self.ptr is not None or nodes is None else nodes.stride(0)

    def empty(self, like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        """An uninitialized node tensor."""
        lead = (self.n,) if self.ptr is not None else (self.b, self.n)
        return like.new_empty(*lead, *shape, dtype=dtype or like.dtype)

    def largest(self) -> Tensor | None:
        """The size of the largest graph of a ragged batch, on its device; ``None`` for a padded batch."""
        if self.ptr is None:
            return None
        return self.ptr.diff().amax() if self.b else self.ptr.new_zeros(())
