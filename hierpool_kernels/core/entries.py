"""Tiles of a sparse A, one after another in the order of its columns."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.rows_of_a import entry_weights

NO_COLUMN = tl.constexpr(2**31 - 1)


@triton.jit
def first_entries(rowptr, begin, end, BN: tl.constexpr):
    """The offset of the first entry of row ``begin``; relative to it, in 32 bits, the first entry of each row and the
    one after its last."""
    before = tl.load(rowptr + begin, mask=begin < end, other=0).to(tl.int64)
    o_n = begin + tl.arange(0, BN)
    cursor = (tl.load(rowptr + o_n, mask=o_n < end, other=0) - before).to(tl.int32)
    stop = (tl.load(rowptr + o_n + 1, mask=o_n < end, other=0) - before).to(tl.int32)
    return before, cursor, stop


@triton.jit
def column_of(p_col, cursor, stop):
    """The column of one entry of each row; NO_COLUMN behind the last."""
    return tl.load(p_col + cursor, mask=cursor < stop, other=NO_COLUMN).to(tl.int32)


@triton.jit
def skip_to(column, p_col, cursor, stop):
    """The first entry of each row whose column is at least ``column``, by bisection."""
    left = stop - cursor
    while tl.max(left, 0) > 0:
        half = left // 2
        before = (left > 0) & (column_of(p_col, cursor + half, stop) < column)
        cursor = tl.where(before, cursor + half + 1, cursor)
        left = tl.where(before, left - half - 1, half)
    return cursor


@triton.jit
def entries_of_tile(
    p_col, p_value, cursor, stop, j, i_j, BN: tl.constexpr, BJ: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """A tile of A from the entries before column ``i_j + BJ``, one of each row at a time; the next entry of each row
    and its column."""
    w = tl.zeros([BN, BJ], ACC)
    o_j = i_j + tl.arange(0, BJ)
    while tl.min(j, 0) < i_j + BJ:
        m_e = j < i_j + BJ
        weight = entry_weights(p_value, cursor, m_e, ACC)
        w += tl.where(j[:, None] == o_j[None, :], weight[:, None], 0.0)
        cursor += m_e.to(tl.int32)
        j = column_of(p_col, cursor, stop)
    return w, cursor, j
