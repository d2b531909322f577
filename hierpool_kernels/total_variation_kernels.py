"""Kernels of the total variation over edges: differences of rows of S at the entries of A, and their signs."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.common import (
    block,
    first_slot,
    graph_of_slot,
    last_at_most,
    pairs_of_program,
    part,
    rows_of_slot,
    store_block,
    tile,
    valid_rows,
)
from hierpool_kernels.rows_of_a import entry_weights, mean_with_mirror_image, sign, sparse_rows


@triton.jit
def _pair_distances(
    p_s, s_row, i_n, m_n, i_j, m_j, K, BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """|s_i - s_j|_1 of BN x BJ pairs of rows."""
    total = tl.zeros([BN, BJ], ACC)
    for i_k in range(0, K, BK):
        m_k = i_k + tl.arange(0, BK) < K
        s_n = block(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
        s_j = block(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK).to(ACC)
        total += tl.sum(tl.abs(s_n[:, None, :] - s_j[None, :, :]), 2)  # of [BN, BJ, BK]
    return total


@triton.jit
def _entry_distances(
    x_ptr, x_row, rowptr, col_ptr, o_e, m_e, N, K, BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """|x_i - x_j|_1 of BE entries (i, j) of a sparse A, whose rows i are found by halving; and these."""
    i = last_at_most(rowptr, N, tl.where(m_e, o_e, 0))
    j = tl.load(col_ptr + o_e, mask=m_e, other=0)
    total = tl.zeros([BE], ACC)
    for i_k in range(0, K, BK):
        o_k = i_k + tl.arange(0, BK)
        left = tile(x_ptr, i, x_row, o_k, m_e, o_k < K).to(ACC)
        total += tl.sum(tl.abs(left - tile(x_ptr, j, x_row, o_k, m_e, o_k < K).to(ACC)), 1)
    return total, i


@triton.jit
def _store_part(part_ptr, i_slot, total, count):
    """The sums of a slot, in float64."""
    p_part = part(part_ptr, i_slot, 2)
    tl.store(p_part, tl.sum(total, 0))
    tl.store(p_part + 1, tl.sum(count, 0).to(tl.float64))


@triton.jit(do_not_specialize=["N", "B"])
def _dense_variation_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, part_ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """sum of a_ij |s_i - s_j|_1 over the entries of A that are not 0, and their number.

    S [B, N, K], A [B, N, N], part [slots, 2] in float64.
    A program for a slot of BN rows of a graph, BJ columns at a time, of which those without an entry cost their reading
    alone.
    Terms and sums over BJ of them in ACC, sums over tiles in float64.
    """
    i_slot = tl.program_id(0)
    i_b, begin, end, _, m_n = rows_of_slot(i_slot, None, sizes, mask_ptr, N, B, BN)
    p_s = part(s_ptr, i_b, s_graph)
    p_a = part(part(a_ptr, i_b, a_graph), begin, a_row)
    p_mask = part(mask_ptr, i_b, N)
    o_a = tl.arange(0, BN)[:, None] * a_row + tl.arange(0, BJ)[None, :] * a_col
    total = tl.zeros([BN], tl.float64)
    count = tl.zeros([BN], tl.int32)
    for i_j in range(0, end, BJ):
        m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
        a = tl.load(part(p_a, i_j, a_col) + o_a, mask=m_n[:, None] & m_j[None, :], other=0).to(ACC)
        found = tl.sum((a != 0).to(tl.int32), 1)
        count += found
        if tl.sum(found, 0) > 0:
            term = a * _pair_distances(p_s, s_row, begin, m_n, i_j, m_j, K, BN, BJ, BK, ACC)
            total += tl.sum(tl.where(a != 0, term, 0.0), 1).to(tl.float64)
    _store_part(part_ptr, i_slot, total, count)


@triton.jit(do_not_specialize=["N", "B"])
def _sparse_variation_kernel(
    s_ptr, s_row, rowptr, col_ptr, value_ptr, entry_ptr, part_ptr, N, B, K,
    STEP: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The same of a sparse A.

    S [N, K], A [N, N] in compressed rows, entry_ptr [B + 1]: the first entry of each graph; part [slots, 2].
    A program for a slot of STEP entries of a graph, BE at a time, whose rows it finds by halving: hubs are shared like
    all others.
    Terms in ACC, sums over entries in float64.
    """
    i_slot = tl.program_id(0)
    i_b = graph_of_slot(i_slot, entry_ptr, 0, B, STEP)
    begin = tl.load(entry_ptr + i_b) + (i_slot - first_slot(i_b, entry_ptr, 0, STEP)) * STEP
    end = tl.minimum(begin + STEP, tl.load(entry_ptr + i_b + 1))
    total = tl.zeros([BE], tl.float64)
    count = tl.zeros([BE], tl.int32)
    for i_e in range(begin, end, BE):
        o_e = i_e + tl.arange(0, BE)
        m_e = o_e < end
        weight = entry_weights(value_ptr, o_e, m_e, ACC)
        distance, _ = _entry_distances(s_ptr, s_row, rowptr, col_ptr, o_e, m_e, N, K, BE, BK, ACC)
        total += tl.where(weight != 0, weight * distance, 0.0).to(tl.float64)
        count += (weight != 0).to(tl.int32)
    _store_part(part_ptr, i_slot, total, count)


@triton.jit(do_not_specialize=["N"])
def _variation_finish_kernel(
    part_ptr, variation_ptr, entries_ptr, ptr, N, STEP: tl.constexpr, BS: tl.constexpr
):  # fmt: skip
    """variation, entries = sums over the slots of each graph.

    part [slots, 2]; variation, entries [B].
    A program for a graph, BS slots at a time, in their order.
    In float64, rounded to the type of the variation.
    """
    i_b = tl.program_id(0)
    begin = first_slot(i_b, ptr, N, STEP)
    end = first_slot(i_b + 1, ptr, N, STEP)
    total = tl.zeros([BS], tl.float64)
    count = tl.zeros([BS], tl.float64)
    for i_s in range(begin, end, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.load(part_ptr + 2 * o_s, mask=o_s < end, other=0)
        count += tl.load(part_ptr + 2 * o_s + 1, mask=o_s < end, other=0)
    tl.store(variation_ptr + i_b, tl.sum(total, 0).to(variation_ptr.dtype.element_ty))
    tl.store(entries_ptr + i_b, tl.sum(count, 0).to(entries_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["N", "B"])
def _dense_signs_kernel(
    dvariation_ptr, s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, out_ptr, out_graph, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dS_i = dvariation sum_j (a_ij + a_ji) sign(s_i - s_j), 0 on rows that are not valid.

    S, dS [B, N, K], A [B, N, N], dvariation [B].
    A program for a slot of BN rows of a graph and BK columns of dS, BJ columns of A at a time, of which those without
    an entry cost their reading alone.
    Sums in ACC.
    """
    i_b, begin, end, last, m_n = rows_of_slot(tl.program_id(0), None, sizes, mask_ptr, N, B, BN)
    i_k = tl.program_id(1) * BK
    m_k = i_k + tl.arange(0, BK) < K
    p_s = part(s_ptr, i_b, s_graph)
    p_a = part(a_ptr, i_b, a_graph)
    p_mask = part(mask_ptr, i_b, N)
    own = block(p_s, begin, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    ds = tl.zeros([BN, BK], ACC)
    for i_j in range(0, end, BJ):
        m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
        w = mean_with_mirror_image(p_a, a_row, a_col, begin, m_n, i_j, m_j, BN, BJ, False, ACC)
        if tl.sum(tl.sum((w != 0).to(tl.int32), 1), 0) > 0:
            s_j = block(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK).to(ACC)
            ds += tl.sum(w[:, :, None] * sign(own[:, None, :] - s_j[None, :, :]), 1)  # of [BN, BJ, BK]
    ds *= 2 * tl.load(dvariation_ptr + i_b)
    m_out = begin + tl.arange(0, BN) < last
    store_block(part(out_ptr, i_b, out_graph), begin, K, i_k, m_out, m_k, ds, BN, BK)


@triton.jit(do_not_specialize=["N"])
def _dense_distances_kernel(
    dvariation_ptr, s_ptr, s_graph, s_row, out_ptr, sizes, mask_ptr, N, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dA_ij = dvariation |s_i - s_j|_1, 0 unless both nodes are valid.

    S [B, N, K], dA [B, N, N], dvariation [B].
    A program for BN x BJ entries of a graph.
    Sums in ACC.
    """
    i_b, i_n, i_j, m_n, m_j = pairs_of_program(sizes, mask_ptr, N, BN, BJ)
    distance = _pair_distances(part(s_ptr, i_b, s_graph), s_row, i_n, m_n, i_j, m_j, K, BN, BJ, BK, ACC)
    out = tl.where(m_n[:, None] & m_j[None, :], tl.load(dvariation_ptr + i_b) * distance, 0.0)
    o_n = i_n + tl.arange(0, BN)
    o_j = i_j + tl.arange(0, BJ)
    store_block(out_ptr + i_b.to(tl.int64) * N * N, i_n, N, i_j, o_n < N, o_j < N, out, BN, BJ)


@triton.jit(do_not_specialize=["N", "B"])
def _signed_sums_kernel(
    rowptr, col_ptr, value_ptr, carry_ptr, carry_sums_ptr,
    rowptr_t, col_t_ptr, value_t_ptr, carry_t_ptr, carry_sums_t_ptr, x_ptr, x_row, scale_ptr, ptr, out_ptr, N, B, K,
    BN: tl.constexpr, BK: tl.constexpr, LONGEST: tl.constexpr, AHEAD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out_i = scale sum_j (a_ij + a_ji) sign(x_i - x_j) of a sparse A.

    A [N, N] in compressed rows, and its transpose, unless that is A; x, out [N, K]; scale [B], of the graphs from ptr
    [B + 1], or none.
    A program for BN rows and BK columns.
    Sums in ACC, rounded to the type of out.
    """
    i_n = tl.program_id(0) * BN
    i_k = tl.program_id(1) * BK
    o_n = i_n + tl.arange(0, BN)
    o_k = i_k + tl.arange(0, BK)
    m_n = o_n < N
    m_k = o_k < K
    total, _, _ = sparse_rows(
        rowptr, col_ptr, value_ptr, x_ptr, x_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
        BN, BK, LONGEST, AHEAD, ACC, True,
    )  # fmt: skip
    if rowptr_t is not None:
        other, _, _ = sparse_rows(
            rowptr_t, col_t_ptr, value_t_ptr, x_ptr, x_row, carry_t_ptr, carry_sums_t_ptr, o_n, m_n, o_k, m_k, K,
            BN, BK, LONGEST, AHEAD, ACC, True,
        )  # fmt: skip
        total += other
    else:
        total *= 2
    if scale_ptr is not None:
        i_b = last_at_most(ptr, B, tl.where(m_n, o_n, 0))
        total *= tl.load(scale_ptr + i_b)[:, None]
    store_block(out_ptr, i_n, K, i_k, m_n, m_k, total, BN, BK)


@triton.jit(do_not_specialize=["N", "B", "E"])
def _edge_distances_kernel(
    x_ptr, x_row, rowptr, col_ptr, scale_ptr, ptr, out_ptr, N, B, E, K,
    BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out = scale |x_i - x_j|_1 for every stored entry (i, j).

    x [N, K]; rows and columns of A [N, N] compressed; scale [B], of the graphs from ptr [B + 1], or none; out [E].
    A program for BE entries, which finds their rows and graphs by halving.
    Sums in ACC.
    """
    o_e = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    m_e = o_e < E
    distance, i = _entry_distances(x_ptr, x_row, rowptr, col_ptr, o_e, m_e, N, K, BE, BK, ACC)
    if scale_ptr is not None:
        distance *= tl.load(scale_ptr + last_at_most(ptr, B, i))
    tl.store(out_ptr + o_e, distance.to(out_ptr.dtype.element_ty), mask=m_e)
