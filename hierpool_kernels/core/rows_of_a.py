"""Rows of A times a matrix, or times the signs of differences of its rows, for a dense or a sparse A."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.chunks import last_at_most, valid_rows
from hierpool_kernels.core.clusters import column_mask, graph_clusters
from hierpool_kernels.core.tiles import dot, factor, gather_tile, load_tile, settled, slice_ptr


@triton.jit
def _used_once(total, m_n):
    """``total``, 0 on rows that are not nodes. Triton 3.7 moves the sum of a loop's sums out of the loop, and fails if
    it then has more than one user; this is the only one."""
    return tl.where(m_n, total, 0.0)


@triton.jit
def dense_tile(
    p_a, a_row, a_col, i_n, m_n, i_j, m_j, end, BN: tl.constexpr, BJ: tl.constexpr, VECTOR: tl.constexpr
):  # fmt: skip
    """A tile of a dense A, 0 outside ``m_n`` and ``m_j``.

    With VECTOR it is read as far as the vectors of VECTOR rows and columns reach that begin before ``end``: the lanes
    of a vector share a mask, without which the compiler loads elements one by one.
    """
    o_n = tl.arange(0, BN)
    o_j = tl.arange(0, BJ)
    both = m_n[:, None] & m_j[None, :]
    p_tile = slice_ptr(slice_ptr(p_a, i_n, a_row), i_j, a_col) + o_n[:, None] * a_row + o_j[None, :] * a_col
    if VECTOR > 1:
        reach = tl.cdiv(end, VECTOR) * VECTOR
        a = tl.load(p_tile, mask=(i_n + o_n < reach)[:, None] & (i_j + o_j < reach)[None, :], other=0)
        return tl.where(both, a, tl.zeros_like(a))
    else:
        return tl.load(p_tile, mask=both, other=0)


@triton.jit
def whole_columns(mask_ptr, i_b, N, end, BJ: tl.constexpr, VECTOR: tl.constexpr, SIZE: tl.constexpr = 1024):
    """The columns of the tiles of BJ of them that come before the first column that is no node; 0 without VECTOR."""
    if VECTOR > 1:
        whole = end
        if mask_ptr is not None:
            # This is N, of which the compiler does not know that it is a multiple.
            p_mask = slice_ptr(mask_ptr, i_b, N // VECTOR * VECTOR)
            reach = tl.cdiv(end, VECTOR) * VECTOR
            for i_j in range(0, end, SIZE):
                o_j = i_j + tl.arange(0, SIZE)
                node = tl.load(p_mask + o_j, mask=o_j < reach, other=1) != 0
                whole = tl.minimum(whole, tl.min(tl.where(node, end, o_j), 0))
        return whole // BJ * BJ
    else:
        return 0


@triton.jit
def _add_tile(
    m, degree, square, a, m_read, s,
    ACC: tl.constexpr, PRECISION: tl.constexpr, ROUNDED: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """The sums of `dense_rows` with those of one tile of A, 0 in rows outside ``m_read``, and of S if it is not None. S
    may be ROUNDED already."""
    if s is not None:
        if PRECISION == "half":
            if a.dtype != s.dtype:
                s = settled(s)
            m = dot(a.to(s.dtype), s, m, PRECISION)
        else:
            if not ROUNDED:
                s = factor(s, ACC, PRECISION)
            elif ACROSS or a.dtype != s.dtype:
                s = settled(s)
            if ACROSS:  # see `turned_factor`
                m = dot(tl.where(m_read[:, None], a, tl.zeros_like(a)), s, m, PRECISION)
            else:
                m = dot(a, s, m, PRECISION)
    weight = a.to(ACC)
    return m, degree + tl.sum(weight, 1), square + tl.sum(weight * weight, 1)


@triton.jit
def _rows_of_s(
    s_ptr, s_row, i_j, m_j, end, i_k, m_k,
    BJ: tl.constexpr, BK: tl.constexpr, VECTOR: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """A tile of S; None if there is none. With TURNED it is read from S^T as far as the vectors reach that begin before
    ``end``: S is 0 in rows that are not nodes."""
    if s_ptr is not None:
        if TURNED:
            m_j = i_j + tl.arange(0, BJ) < tl.cdiv(end, VECTOR) * VECTOR
            return tl.trans(load_tile(s_ptr, i_k, s_row, i_j, m_k, m_j, BK, BJ))
        else:
            return load_tile(s_ptr, i_j, s_row, i_k, m_j, m_k, BJ, BK)


@triton.jit
def dense_rows(
    a_ptr, a_row, a_col, s_ptr, s_row, mask_ptr, i_n, m_n, i_k, m_k, whole, end,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    VECTOR: tl.constexpr, TURNED: tl.constexpr = False, ACROSS: tl.constexpr = False,
):  # fmt: skip
    """Rows ``i_n`` to ``i_n + BN`` of A S (0 without S), and the sums and sums of squares of these rows of A. The
    values of A in padding do not matter. With TURNED S is given as S^T ``[K, N]``, rounded as products need it;
    with ACROSS the columns of A are contiguous.

    The `whole_columns` are read without a mask, so that they can be copied in vectors behind the products.
    """
    m = tl.zeros([BN, BK], ACC)
    degree = tl.zeros([BN], ACC)
    square = tl.zeros([BN], ACC)
    if VECTOR > 1:
        o_a = tl.arange(0, BN)[:, None] * a_row + tl.arange(0, BJ)[None, :] * a_col
        p_a = slice_ptr(a_ptr, i_n, a_row)
        m_read = i_n + tl.arange(0, BN) < tl.cdiv(end, VECTOR) * VECTOR
        for i_j in range(0, whole, BJ):
            a = tl.load(slice_ptr(p_a, i_j, a_col) + o_a, mask=m_read[:, None], other=0)  # [BN, BJ]
            m_j = tl.full([BJ], True, tl.int1)
            s = _rows_of_s(s_ptr, s_row, i_j, m_j, end, i_k, m_k, BJ, BK, VECTOR, TURNED)
            m, degree, square = _add_tile(m, degree, square, a, m_read, s, ACC, PRECISION, TURNED, ACROSS)
    for i_j in tl.range(whole, end, BJ, num_stages=1 if VECTOR > 1 else None):
        m_j = valid_rows(i_j + tl.arange(0, BJ), end, mask_ptr)
        a = dense_tile(a_ptr, a_row, a_col, i_n, m_n, i_j, m_j, end, BN, BJ, VECTOR)
        s = _rows_of_s(s_ptr, s_row, i_j, m_j, end, i_k, m_k, BJ, BK, VECTOR, TURNED)
        m, degree, square = _add_tile(m, degree, square, a, m_n, s, ACC, PRECISION, TURNED, ACROSS)
    if VECTOR > 1:  # other rows of a vector are read, too
        m = tl.where(m_n[:, None], m, 0.0)
    return m, _used_once(degree, m_n), _used_once(square, m_n)


@triton.jit
def scaled_squares_of_dense(
    a_ptr, a_row, a_col, mask_ptr, begin, stop, end, scale, BN: tl.constexpr, BJ: tl.constexpr,
    ACC: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """The sum of the squares of rows ``begin`` to ``stop`` of a dense A times ``scale``, in float64."""
    total = tl.zeros([BN], ACC)
    for i_n in range(begin, stop, BN):
        m_n = valid_rows(i_n + tl.arange(0, BN), stop, mask_ptr)
        for i_j in range(0, end, BJ):
            m_j = valid_rows(i_j + tl.arange(0, BJ), end, mask_ptr)
            weight = dense_tile(a_ptr, a_row, a_col, i_n, m_n, i_j, m_j, end, BN, BJ, VECTOR).to(ACC) * scale
            total += tl.sum(weight * weight, 1)
    return tl.sum(total.to(tl.float64), 0)


@triton.jit
def scaled_squares_of_entries(
    value_ptr, rowptr, begin, stop, scale, ACC: tl.constexpr, BE: tl.constexpr = 128
):
    """As `scaled_squares_of_dense`, for a sparse A."""
    total = tl.zeros([BE], ACC)
    last = tl.load(rowptr + stop)
    for i_e in range(tl.load(rowptr + begin), last, BE):
        o_e = i_e + tl.arange(0, BE)
        weight = entry_weights(value_ptr, o_e, o_e < last, ACC) * scale
        total += weight * weight
    return tl.sum(total.to(tl.float64), 0)


@triton.jit
def symmetrized_tile(
    p_a, a_row, a_col, i_n, m_n, i_j, m_j, end,
    BN: tl.constexpr, BJ: tl.constexpr, VECTOR: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A tile of (A + A^T) / 2 of a dense A, 0 outside; with SYMMETRIC a tile of A."""
    w = dense_tile(p_a, a_row, a_col, i_n, m_n, i_j, m_j, end, BN, BJ, VECTOR).to(ACC)
    if not SYMMETRIC:
        w = 0.5 * (w + dense_tile(p_a, a_col, a_row, i_n, m_n, i_j, m_j, end, BN, BJ, VECTOR).to(ACC))
    return w


@triton.jit
def sign(d):
    """1, 0 or -1."""
    return tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, 0.0))


@triton.jit
def entry_weights(value_ptr, o_e, m_e, ACC: tl.constexpr):
    """Entries of A, 0 outside; without values all are 1."""
    if value_ptr is not None:
        weight = tl.load(value_ptr + o_e, mask=m_e, other=0).to(ACC)
    else:
        weight = m_e.to(ACC)
    return weight


@triton.jit
def entry_products(
    left_ptr, left_row, right_ptr, right_row, rowptr, col_ptr, N, E, K,
    BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """left_i . right_j of the BE entries (i, j) of the program, whose rows are found by bisection; the offsets and the
    mask of these entries."""
    o_e = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    m_e = o_e < E
    i = last_at_most(rowptr, N, tl.where(m_e, o_e, 0))
    j = tl.load(col_ptr + o_e, mask=m_e, other=0)
    total = tl.zeros([BE], ACC)
    for i_k in range(0, K, BK):
        o_k = i_k + tl.arange(0, BK)
        left = gather_tile(left_ptr, i, left_row, o_k, m_e, o_k < K).to(ACC)
        total += tl.sum(left * gather_tile(right_ptr, j, right_row, o_k, m_e, o_k < K).to(ACC), 1)
    return total, o_e, m_e


@triton.jit
def sparse_rows(
    rowptr, col_ptr, value_ptr, s_ptr, s_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
    BN: tl.constexpr, BK: tl.constexpr, LONGEST: tl.constexpr, AHEAD: tl.constexpr, ACC: tl.constexpr,
    SIGNS: tl.constexpr = False,
):  # fmt: skip
    """As `dense_rows`, for a sparse A: the first ``LONGEST`` entries of each row, ``AHEAD`` neighbors at a time, plus
    the sums of `_long_rows_kernel` over the others. With SIGNS, sums of A_ij sign(S_i - S_j) in place of A S."""
    m = tl.zeros([BN, BK], ACC)
    degree = tl.zeros([BN], ACC)
    square = tl.zeros([BN], ACC)
    start = tl.load(rowptr + o_n, mask=m_n, other=0)
    stop = tl.load(rowptr + o_n + 1, mask=m_n, other=0)
    length = (stop - start).to(tl.int32)
    if carry_ptr is not None:
        taken = tl.minimum(length, LONGEST)
    else:
        taken = length
    if SIGNS:
        own = gather_tile(s_ptr, o_n, s_row, o_k, m_n, m_k).to(ACC)
    for i_e in range(0, tl.max(taken, 0), AHEAD):
        o_ahead = i_e + tl.arange(0, AHEAD)
        m_e = o_ahead[None, :] < taken[:, None]  # [BN, AHEAD]
        o_e = start[:, None] + o_ahead[None, :]
        weight = entry_weights(value_ptr, o_e, m_e, ACC)
        if s_ptr is not None:
            j = tl.load(col_ptr + o_e, mask=m_e, other=0)
            at = j.to(tl.int64)[:, :, None] * s_row + o_k[None, None, :]
            s = tl.load(s_ptr + at, mask=m_e[:, :, None] & m_k[None, None, :], other=0)  # [BN, AHEAD, BK]
            s = s.to(ACC)
            if SIGNS:
                s = sign(own[:, None, :] - s)
            m += tl.sum(weight[:, :, None] * s, 1)
        degree += tl.sum(weight, 1)
        square += tl.sum(weight * weight, 1)
    if carry_ptr is not None:
        first = start // LONGEST + 1
        count = tl.where(length > LONGEST, (stop - 1) // LONGEST - start // LONGEST, 0).to(tl.int32)
        for i_c in range(0, tl.max(count, 0)):
            m_c = i_c < count
            o_c = (first + i_c).to(tl.int64)
            if s_ptr is not None:
                m += gather_tile(carry_ptr, o_c, K, o_k, m_c, m_k)
            degree += tl.load(carry_sums_ptr + 2 * o_c, mask=m_c, other=0)
            square += tl.load(carry_sums_ptr + 2 * o_c + 1, mask=m_c, other=0)
    return m, degree, square


@triton.jit(do_not_specialize=["N", "E", "B"])
def _long_rows_kernel(
    rowptr, col_ptr, value_ptr, s_ptr, s_row, carry_ptr, carry_sums_ptr, N, E, ptr, clusters_ptr, B, K,
    LONGEST: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, SIGNS: tl.constexpr,
):  # fmt: skip
    """carry_c = sum of A_ij S_j over the entries of part c of A that lie more than LONGEST entries into their row; with
    SIGNS, of A_ij sign(S_i - S_j).

    A [N, N] in compressed rows, S [N, K], carry [E / LONGEST, K], carry_sums [E / LONGEST, 2]: sum and sum of squares.
    A program for each LONGEST entries and BK columns. A part is as long as what `sparse_rows` takes of a row, so that
    only the row of its first entry can have such entries in it. Most programs find none and stop; so do programs of
    columns that are no clusters of the row's graph.
    Sums in ACC, in the order of the entries.
    """
    i_c = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    clusters = None
    begin = i_c.to(tl.int64) * LONGEST
    row = last_at_most(rowptr, N, begin)
    start = tl.load(rowptr + row).to(tl.int64)
    stop = tl.load(rowptr + row + 1).to(tl.int64)
    if stop - start <= LONGEST:
        return
    if clusters_ptr is not None:
        clusters = graph_clusters(last_at_most(ptr, B, row), clusters_ptr, K)
        if tl.program_id(1) * BK >= clusters:
            return
    m_k = column_mask(o_k, clusters, K)
    begin = tl.maximum(begin, start + LONGEST)
    stop = tl.minimum(stop, (i_c.to(tl.int64) + 1) * LONGEST)
    total = tl.zeros([BK], ACC)
    degree = tl.zeros([BE], ACC)
    square = tl.zeros([BE], ACC)
    if SIGNS:
        own = tl.load(slice_ptr(s_ptr, row, s_row) + o_k, mask=m_k, other=0).to(ACC)
    for i_e in range(begin, stop, BE):
        o_e = i_e + tl.arange(0, BE)
        m_e = o_e < stop
        j = tl.load(col_ptr + o_e, mask=m_e, other=0)
        weight = entry_weights(value_ptr, o_e, m_e, ACC)
        if s_ptr is not None:
            s = gather_tile(s_ptr, j, s_row, o_k, m_e, m_k).to(ACC)
            if SIGNS:
                s = sign(own[None, :] - s)
            total += tl.sum(weight[:, None] * s, 0)
        degree += weight
        square += weight * weight
    p_c = i_c.to(tl.int64)
    if s_ptr is not None:
        tl.store(carry_ptr + p_c * K + o_k, total, mask=m_k)
    if tl.program_id(1) == 0:
        tl.store(carry_sums_ptr + 2 * p_c, tl.sum(degree, 0))
        tl.store(carry_sums_ptr + 2 * p_c + 1, tl.sum(square, 0))
