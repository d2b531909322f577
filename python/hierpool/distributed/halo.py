"""The rows of other processes that the rows of a process are adjacent to, and the parts of its matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import Csr, index_dtype, ranges_of
from hierpool.distributed.ranks import Pending, Ranks
from hierpool.graph import build


class Halo:
    """Which rows go to which process; made once for a graph.

    Attributes:
        nodes: numbers of the rows that are received, ascending and thereby ordered by process, int64 ``[H]``.
        index: own rows that are sent, ordered by process, int64; a row is sent to several processes.
        send, receive: number of rows for and from each process.
    """

    def __init__(
        self, ranks: Ranks, nodes: Tensor, index: Tensor, send: list[int], receive: list[int]
    ) -> None:
        self.ranks, self.nodes, self.index, self.send, self.receive = ranks, nodes, index, send, receive

    @classmethod
    def plan(cls, ranks: Ranks, nodes: Tensor, offsets: Tensor) -> Halo:
        """Ask the owners of ``nodes`` for their rows. Process r owns rows ``offsets[r]`` to ``offsets[r + 1] - 1``."""
        owner = torch.searchsorted(offsets, nodes, right=True) - 1
        receive = owner.bincount(minlength=ranks.size)[: ranks.size].tolist()
        send = ranks.counts(receive, nodes.device)
        asked = ranks.exchange(nodes, receive, send)
        return cls(ranks, nodes, asked - offsets[ranks.rank], send, receive)

    @property
    def size(self) -> int:
        """Number of rows that are received, :math:`H`."""
        return self.nodes.numel()

    def start(self, rows: Tensor) -> Pending:
        """Begin to fetch the rows of the halo, ``[H, ...]``, from ``rows [n, ...]`` of their owners."""
        return self.ranks.start(rows[self.index], self.send, self.receive)

    def rows(self, rows: Tensor) -> Tensor:
        """:meth:`start`, and wait."""
        return self.start(rows).wait()

    def start_return(self, parts: Tensor) -> Pending:
        """Begin to send ``parts [H, ...]`` of sums to the owners of the rows; see :meth:`add`."""
        return self.ranks.start(parts, self.receive, self.send)

    def add(self, rows: Tensor, parts: Tensor) -> None:
        """Add the parts that all processes have returned to ``rows [n, ...]``, in the order of the processes."""
        # One process sends no row twice, so that the order is fixed on every device.
        for index, part in zip(self.index.split(self.send), parts.split(self.send), strict=True):
            rows.index_add_(0, index, part)

    def restricted(self, kept_own: Tensor, kept_halo: Tensor, place: Tensor, nodes: Tensor) -> Halo:
        """The halo of a part of the nodes, without communication: all processes know which nodes are kept.

        Args:
            kept_own: own rows that are kept, bool ``[n]``.
            kept_halo: rows of the halo that are kept, bool ``[H]``.
            place: new number of each own row that is kept, ``[n]``.
            nodes: new numbers of the rows of the halo that are kept.
        """
        sent, received = kept_own[self.index], kept_halo
        send = [int(part.sum()) for part in sent.split(self.send)]
        receive = [int(part.sum()) for part in received.split(self.receive)]
        return Halo(self.ranks, nodes, place[self.index[sent]], send, receive)


class Blocks(NamedTuple):
    """The rows of a process in two matrices, of the entries in own columns, and of those in columns of the halo.

    The second has only the rows of the border, those with an entry in the halo. The entries of the process are those of
    the first matrix, then those of the second.
    """

    inner: Csr  # [n, n]
    outer: Csr  # [border, H]
    border: Tensor  # int64, ascending: the rows of outer

    @classmethod
    def of(cls, rowptr: Tensor, col: Tensor, low: int, high: int) -> tuple[Blocks, Tensor, Tensor | None]:
        """The blocks of rows ``low`` to ``high - 1`` with columns ``col`` of all rows.

        Also the nodes of the halo, and the place in ``col`` of each entry; ``None``: the same.
        """
        n = rowptr.numel() - 1
        inside = (col >= low) & (col < high)
        if bool(inside.all()):
            none = col.new_empty(0, dtype=torch.int64)
            dtype = index_dtype(n, col.numel())
            inner = Csr(None, rowptr.to(dtype), (col - low).to(dtype))
            return cls(inner, Csr(None, none.new_zeros(1, dtype=dtype), none.to(dtype)), none), none, None
        row = ranges_of(rowptr, col.numel())
        near, far = inside.nonzero().flatten(), (~inside).nonzero().flatten()
        halo, place = col[far].long().unique(return_inverse=True)
        border, outer_row = row[far].long().unique_consecutive(return_inverse=True)
        inner = csr(row[near], col[near] - low, n)
        return cls(inner, csr(outer_row, place, border.numel()), border), halo, torch.cat([near, far])

    def parts(self, value: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The values of the two matrices."""
        if value is None:
            return None, None
        inner, outer = value.split([self.inner.col.numel(), self.outer.col.numel()])
        return inner, outer

    def rows(self) -> Tensor:
        """The row of each entry, int64."""
        inner, outer = (ranges_of(block.rowptr, block.col.numel()).long() for block in self[:2])
        return torch.cat([inner, self.border[outer]])

    def joined(self, value: Tensor | None, columns: int) -> Csr:
        """The rows of the process as one matrix, whose first n columns are its own, and the others those of the halo.

        ``value``: of the entries; ``columns``: of the halo.
        """
        inner, outer, border = self
        n, e = inner.rowptr.numel() - 1, inner.col.numel() + outer.col.numel()
        dtype = index_dtype(n + columns, e)
        length = inner.rowptr.diff().to(dtype)
        length[border] += outer.rowptr.diff().to(dtype)
        rowptr = torch.zeros(n + 1, dtype=dtype, device=border.device)
        rowptr[1:] = length.cumsum(0)
        starts = rowptr[:-1] - inner.rowptr[:-1], rowptr[1:][border] - outer.rowptr[1:]
        col = torch.empty(e, dtype=dtype, device=border.device)
        joined = None if value is None else torch.empty_like(value)
        parts = zip((inner, outer), starts, self.parts(value), (0, n), strict=True)
        for block, start, weights, shift in parts:
            place = ranges_of(block.rowptr, block.col.numel()).long()
            place = start[place].long() + torch.arange(place.numel(), device=place.device)
            col[place] = block.col.to(dtype) + shift
            if joined is not None and weights is not None:
                joined[place] = weights
        return Csr(joined, rowptr, col)

    def with_transposes(self, halo: int) -> Blocks:
        """The blocks with the structure of their transposes; ``value_t`` has the entries of the values in it."""
        inner, outer = self.inner, self.outer
        if inner.rowptr_t is not None:
            return self
        n = inner.rowptr.numel() - 1
        inner = inner._replace(**_transposed(inner, n))
        return self._replace(inner=inner, outer=outer._replace(**_transposed(outer, halo)))


def csr(row: Tensor, col: Tensor, rows: int) -> Csr:
    dtype = index_dtype(rows, col.numel())
    rowptr = torch.zeros(rows + 1, dtype=dtype, device=col.device)
    rowptr[1:] = row.bincount(minlength=rows).cumsum(0)
    return Csr(None, rowptr, col.to(dtype))


def _transposed(block: Csr, columns: int) -> dict[str, Tensor]:
    rowptr, col, source = build.transpose(block.rowptr, block.col, columns)
    return {"rowptr_t": rowptr, "col_t": col, "value_t": source}


def with_values(block: Csr, value: Tensor | None) -> Csr:
    """A block with values, and those of its transpose if it has one."""
    if block.rowptr_t is None:
        return block._replace(value=value)
    return block._replace(value=value, value_t=None if value is None else value[block.value_t])
