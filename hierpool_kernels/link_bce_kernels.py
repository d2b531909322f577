"""Kernels of the cross-entropy link loss: tiles of p = S S^T and of A, never more than one of each at a time.

p is symmetric, so that the terms of (i, j) and (j, i) are those of p_ij with w = (A_ij + A_ji) / 2, twice. The gradient
to S needs no more of A than w, and the sum over all pairs no more than the pairs of one triangle.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.common import (
    add_product,
    block,
    dot,
    graph_rows,
    locate,
    pairs_of_program,
    part,
    rows_of_slot,
    store_block,
    valid_rows,
)
from hierpool_kernels.rows_of_a import entry_products, entry_weights, mean_with_mirror_image

NO_COLUMN = tl.constexpr(2**31 - 1)


@triton.jit
def _first_entries(rowptr, begin, end, BN: tl.constexpr):
    """The first entry of row ``begin``, and counted from there, in 32 bits, the first of each row and the one after its
    last."""
    before = tl.load(rowptr + begin, mask=begin < end, other=0).to(tl.int64)
    o_n = begin + tl.arange(0, BN)
    cursor = (tl.load(rowptr + o_n, mask=o_n < end, other=0) - before).to(tl.int32)
    stop = (tl.load(rowptr + o_n + 1, mask=o_n < end, other=0) - before).to(tl.int32)
    return before, cursor, stop


@triton.jit
def _column(p_col, cursor, stop):
    """Of an entry of each row, more than all behind the last one."""
    return tl.load(p_col + cursor, mask=cursor < stop, other=NO_COLUMN).to(tl.int32)


@triton.jit
def _skip_to(column, p_col, cursor, stop):
    """The first entry of each row in columns from ``column`` on."""
    left = stop - cursor
    while tl.max(left, 0) > 0:
        half = left // 2
        before = (left > 0) & (_column(p_col, cursor + half, stop) < column)
        cursor = tl.where(before, cursor + half + 1, cursor)
        left = tl.where(before, left - half - 1, half)
    return cursor


@triton.jit
def _sparse_entries(
    p_col, p_value, cursor, stop, j, i_j, BN: tl.constexpr, BJ: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """A tile of A from entries before column ``i_j + BJ``, one of each row at a time, and where the next ones are."""
    w = tl.zeros([BN, BJ], ACC)
    o_j = i_j + tl.arange(0, BJ)
    while tl.min(j, 0) < i_j + BJ:
        m_e = j < i_j + BJ
        weight = entry_weights(p_value, cursor, m_e, ACC)
        w += tl.where(j[:, None] == o_j[None, :], weight[:, None], 0.0)
        cursor += m_e.to(tl.int32)
        j = _column(p_col, cursor, stop)
    return w, cursor, j


@triton.jit
def _log_of_no(q, EPS: tl.constexpr):
    """log(1 - q + eps) with all its roundings put right: of small q nothing else is left of the logarithm."""
    no = 1 - q
    total = no + EPS
    rest = (EPS - (total - no)) + ((1 - no) - q)
    return tl.log(total) + rest / total


@triton.jit
def _term(p, w, EPS: tl.constexpr):
    """The loss of a pair, NaN where p + eps is not positive."""
    q = tl.where(p > 1, 1.0, p)  # NaN stays NaN
    term = -w * tl.log(q + EPS) - (1 - w) * _log_of_no(q, EPS)
    return tl.where(p + EPS > 0, term, float("nan"))


@triton.jit
def _slope(p, w, EPS: tl.constexpr):
    """The derivative of a term with respect to p; that of min(p, 1) is 1/2 where p = 1."""
    q = tl.where(p > 1, 1.0, p)
    yes = q + EPS
    no = 1 - q + EPS
    slope = ((1 - w) * yes - w * no) / (yes * no)
    return tl.where(p > 1, 0.0, tl.where(p == 1, 0.5 * slope, slope))


@triton.jit
def _log_odds(p, EPS: tl.constexpr):
    """The derivative of a term with respect to its entry of A, NaN where p + eps is not positive."""
    q = tl.where(p > 1, 1.0, p)
    return tl.where(p + EPS > 0, _log_of_no(q, EPS) - tl.log(q + EPS), float("nan"))


@triton.jit
def _scale(dloss_ptr, divisor_ptr, ACC: tl.constexpr):
    """The gradient of the sum over all pairs."""
    return (tl.load(dloss_ptr).to(tl.float64) / tl.load(divisor_ptr)).to(ACC)


@triton.jit(do_not_specialize=["N", "B"])
def _link_bce_sums_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, rowptr, col_ptr, value_ptr, part_ptr,
    ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr, SYMMETRIC: tl.constexpr,
    TRIANGLE: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """sum over j of -w_ij log(q_ij + eps) - (1 - w_ij) log(1 - q_ij + eps), q_ij = min(s_i . s_j, 1).

    S [B, N, K]; A [B, N, N], or sparse [N, N], of which w is A itself; part [slots, splits] in float64.
    A program for a slot of BN rows of a graph and a part of its columns, BJ at a time; with TRIANGLE of the columns
    from its own rows on, those behind them twice.
    Terms and sums over BJ of them in ACC, sums over tiles in float64.
    """
    i_slot = tl.program_id(0)
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, BN)
    o_n = begin + tl.arange(0, BN)
    p_mask = part(mask_ptr, i_b, N)
    m_n = valid_rows(o_n, end, p_mask)
    if TRIANGLE:
        first = begin
    else:
        first, _ = graph_rows(i_b, ptr, sizes, N)
    width = tl.cdiv(tl.cdiv(tl.maximum(end - first, 0), BJ), tl.num_programs(1)) * BJ
    first += tl.program_id(1) * width
    p_s = part(s_ptr, i_b, s_graph)
    m_c = tl.arange(0, BC) < K
    if ONE_TILE:
        s = block(p_s, begin, s_row, 0, m_n, m_c, BN, BC)
    if a_ptr is not None:
        p_a = part(a_ptr, i_b, a_graph)
    else:
        before, cursor, stop = _first_entries(rowptr, begin, end, BN)
        p_col = part(col_ptr, before, 1)
        p_value = part(value_ptr, before, 1)
        cursor = _skip_to(first, p_col, cursor, stop)
        j = _column(p_col, cursor, stop)
    total = tl.zeros([BN], tl.float64)
    for i_j in range(first, tl.minimum(first + width, end), BJ):
        o_j = i_j + tl.arange(0, BJ)
        m_j = valid_rows(o_j, end, p_mask)
        if a_ptr is not None:
            w = mean_with_mirror_image(p_a, a_row, a_col, begin, m_n, i_j, m_j, BN, BJ, SYMMETRIC, ACC)
        else:
            w, cursor, j = _sparse_entries(p_col, p_value, cursor, stop, j, i_j, BN, BJ, ACC)
        p = tl.zeros([BN, BJ], ACC)
        if ONE_TILE:
            p = dot(s, tl.trans(block(p_s, i_j, s_row, 0, m_j, m_c, BJ, BC)), p, PRECISION)
        else:
            p = add_product(p, p_s, begin, s_row, K, p_s, s_row, i_j, m_n, m_j, BN, BC, BJ, True, PRECISION)
        term = tl.where(m_n[:, None] & m_j[None, :], _term(p, w, EPS), 0.0)
        if TRIANGLE:
            term *= tl.where(o_j >= begin + BN, 2.0, 1.0).to(ACC)[None, :]
        total += tl.sum(term, 1).to(tl.float64)
    tl.store(part_ptr + i_slot.to(tl.int64) * tl.num_programs(1) + tl.program_id(1), tl.sum(total, 0))


@triton.jit(do_not_specialize=["COUNT"])
def _link_bce_finish_kernel(part_ptr, divisor_ptr, loss_ptr, COUNT, BS: tl.constexpr):
    """loss = sum of all partial sums / divisor.

    part [COUNT], divisor and loss [].
    One program, BS partial sums at a time, in their order.
    In float64.
    """
    total = tl.zeros([BS], tl.float64)
    for i_s in range(0, COUNT, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.load(part_ptr + o_s, mask=o_s < COUNT, other=0)
    loss = tl.sum(total, 0) / tl.load(divisor_ptr)
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["N", "B"])
def _link_bce_rows_bwd_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col,
    rowptr, col_ptr, value_ptr, rowptr_t, col_t_ptr, value_t_ptr, out_ptr, out_graph,
    ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr,
    SYMMETRIC: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, PRECISION_OUT: tl.constexpr,
):  # fmt: skip
    """dS_i = dloss / divisor sum_j 2 g_ij s_j, g = dmin(p, 1)/dp ((1 - w) / (1 - q + eps) - w / (q + eps)).

    S, dS [B, N, K]; A [B, N, N], or sparse [N, N] and its transpose, unless that is A; dloss, divisor [].
    A program for a slot of BN rows of a graph and BK columns of dS, BJ columns of p at a time; with ONE_TILE a tile of
    S serves both products, else p is made anew for each BK columns. Rows that are not valid get 0.
    Sums in ACC.
    """
    i_b, begin, end, last, m_n = rows_of_slot(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
    if begin >= last:
        return
    m_out = begin + tl.arange(0, BN) < last
    p_mask = part(mask_ptr, i_b, N)
    first, _ = graph_rows(i_b, ptr, sizes, N)
    scale = 2 * _scale(dloss_ptr, divisor_ptr, ACC)
    p_s = part(s_ptr, i_b, s_graph)
    i_k = tl.program_id(1) * BK
    m_k = i_k + tl.arange(0, BK) < K
    if ONE_TILE:
        s = block(p_s, begin, s_row, i_k, m_n, m_k, BN, BK)
    if a_ptr is not None:
        p_a = part(a_ptr, i_b, a_graph)
    else:
        before, cursor, stop = _first_entries(rowptr, begin, end, BN)
        p_col = part(col_ptr, before, 1)
        p_value = part(value_ptr, before, 1)
        j = _column(p_col, cursor, stop)
        if not SYMMETRIC:
            before_t, cursor_t, stop_t = _first_entries(rowptr_t, begin, end, BN)
            p_col_t = part(col_t_ptr, before_t, 1)
            p_value_t = part(value_t_ptr, before_t, 1)
            j_t = _column(p_col_t, cursor_t, stop_t)
    ds = tl.zeros([BN, BK], ACC)
    for i_j in range(first, tl.where(begin < end, end, first), BJ):
        o_j = i_j + tl.arange(0, BJ)
        m_j = valid_rows(o_j, end, p_mask)
        if a_ptr is not None:
            w = mean_with_mirror_image(p_a, a_row, a_col, begin, m_n, i_j, m_j, BN, BJ, SYMMETRIC, ACC)
        else:
            w, cursor, j = _sparse_entries(p_col, p_value, cursor, stop, j, i_j, BN, BJ, ACC)
            if not SYMMETRIC:
                turned, cursor_t, j_t = _sparse_entries(
                    p_col_t, p_value_t, cursor_t, stop_t, j_t, i_j, BN, BJ, ACC
                )  # fmt: skip
                w = 0.5 * (w + turned)
        s_j = block(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK)
        p = tl.zeros([BN, BJ], ACC)
        if ONE_TILE:
            p = dot(s, tl.trans(s_j), p, PRECISION)
        else:
            p = add_product(p, p_s, begin, s_row, K, p_s, s_row, i_j, m_n, m_j, BN, BC, BJ, True, PRECISION)
        g = tl.where(m_n[:, None] & m_j[None, :], scale * _slope(p, w, EPS), 0.0)
        ds = dot(g, s_j, ds, PRECISION_OUT)
    store_block(part(out_ptr, i_b, out_graph), begin, K, i_k, m_out, m_k, ds, BN, BK)


@triton.jit(do_not_specialize=["N"])
def _link_bce_dense_edges_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_graph, s_row, out_ptr, sizes, mask_ptr, N, K,
    BN: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dA_ij = dloss / divisor (log(1 - q_ij + eps) - log(q_ij + eps)), 0 unless both nodes are valid.

    S [B, N, K], dA [B, N, N]; dloss, divisor [].
    A program for BN x BJ entries of a graph.
    Sums in ACC.
    """
    i_b, i_n, i_j, m_n, m_j = pairs_of_program(sizes, mask_ptr, N, BN, BJ)
    o_n = i_n + tl.arange(0, BN)
    o_j = i_j + tl.arange(0, BJ)
    p_s = part(s_ptr, i_b, s_graph)
    p = tl.zeros([BN, BJ], ACC)
    p = add_product(p, p_s, i_n, s_row, K, p_s, s_row, i_j, m_n, m_j, BN, BC, BJ, True, PRECISION)
    odds = _scale(dloss_ptr, divisor_ptr, ACC) * _log_odds(p, EPS)
    odds = tl.where(m_n[:, None] & m_j[None, :], odds, 0.0)
    store_block(out_ptr + i_b.to(tl.int64) * N * N, i_n, N, i_j, o_n < N, o_j < N, odds, BN, BJ)


@triton.jit(do_not_specialize=["N", "E"])
def _link_bce_sparse_edges_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_row, rowptr, col_ptr, out_ptr, N, E, K,
    BE: tl.constexpr, BK: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The same at the stored entries of a sparse A alone.

    S [N, K]; rows and columns of A [N, N] compressed; dA [E]; dloss, divisor [].
    A program for BE entries, which finds their rows by halving.
    Sums in ACC.
    """
    p, o_e, m_e = entry_products(s_ptr, s_row, s_ptr, s_row, rowptr, col_ptr, N, E, K, BE, BK, ACC)
    odds = _scale(dloss_ptr, divisor_ptr, ACC) * _log_odds(p, EPS)
    tl.store(out_ptr + o_e, odds.to(out_ptr.dtype.element_ty), mask=m_e)
