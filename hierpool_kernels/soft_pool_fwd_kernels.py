"""The forward of soft pooling: the assignment, one walk over A, products with S, and the record from partial sums."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.common import (
    block,
    dot,
    first_slot,
    graph_rows,
    locate,
    part,
    side_by_side,
    store_block,
    tile,
    valid_rows,
)
from hierpool_kernels.rows_of_a import dense_rows, sparse_rows

SUMS = tl.constexpr(6)  # of a slot: nodes, entropy, cut_degree, adj_sq, total_degree, tr(adj)


@triton.jit(do_not_specialize=["N", "B"])
def _assign_kernel(
    logits_ptr, l_graph, l_row, s_ptr, s_graph, s_row, temperature_ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BK: tl.constexpr, ONE_TILE: tl.constexpr, GIVEN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """S = m softmax(L / T), 0 on rows that are not valid; NaN, as torch has it, where all of L is -inf.

    L, S [B, N, K]; the nodes of a ragged batch are one graph.
    A program for BN rows of a graph: of BK >= K columns, or of BK at a time, first for the maximum and the sum of each
    row, online, and then for S.
    In ACC; S is rounded once, to its own dtype.
    """
    i_b = tl.program_id(0) // tl.cdiv(N, BN)
    i_n = tl.program_id(0) % tl.cdiv(N, BN) * BN
    o_n = i_n + tl.arange(0, BN)
    _, end = graph_rows(i_b, None, sizes, N)
    m_n = o_n < N
    m_valid = valid_rows(o_n, end, part(mask_ptr, i_b, N))
    p_l = part(logits_ptr, i_b, l_graph)
    p_s = part(s_ptr, i_b, s_graph)
    scale = 1.0
    if temperature_ptr is not None:
        scale = 1 / tl.load(temperature_ptr).to(ACC)
    if ONE_TILE or GIVEN:
        for i_k in range(0, K, BK):
            m_k = i_k + tl.arange(0, BK) < K
            z = block(p_l, i_n, l_row, i_k, m_valid, m_k, BN, BK).to(ACC)
            if not GIVEN:
                z = tl.where(m_k[None, :], z * scale, float("-inf"))
                e = tl.exp(z - tl.max(z, 1)[:, None])
                z = e / tl.sum(e, 1)[:, None]
            store_block(p_s, i_n, s_row, i_k, m_n, m_k, tl.where(m_valid[:, None], z, 0.0), BN, BK)
    else:
        largest = tl.full([BN], float("-inf"), ACC)
        total = tl.zeros([BN], ACC)
        for i_k in range(0, K, BK):
            m_k = i_k + tl.arange(0, BK) < K
            z = block(p_l, i_n, l_row, i_k, m_valid, m_k, BN, BK).to(ACC)
            z = tl.where(m_k[None, :], z * scale, float("-inf"))
            above = tl.maximum(largest, tl.max(z, 1))
            finite = tl.where(above == float("-inf"), 0.0, above)  # nothing but -inf so far adds nothing
            total = total * tl.exp(largest - finite) + tl.sum(tl.exp(z - finite[:, None]), 1)
            largest = above
        for i_k in range(0, K, BK):
            m_k = i_k + tl.arange(0, BK) < K
            z = block(p_l, i_n, l_row, i_k, m_valid, m_k, BN, BK).to(ACC)
            z = tl.exp(z * scale - largest[:, None]) / total[:, None]
            store_block(p_s, i_n, s_row, i_k, m_n, m_k, tl.where(m_valid[:, None], z, 0.0), BN, BK)


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_rows_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_type, a_row, a_col,
    rowptr, col_ptr, value_ptr, carry_ptr, carry_sums_ptr,
    m_ptr, m_graph, m_type, part_adj_ptr, part_vectors_ptr, part_sums_ptr,
    ptr, sizes, mask_ptr, N, B, R, K,
    STEP: tl.constexpr, BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr,
    LONGEST: tl.constexpr, AHEAD: tl.constexpr, ON_CHIP: tl.constexpr, ENTROPY: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr, PRODUCT: tl.constexpr,
):  # fmt: skip
    """M = A S, and of each slot S^T M (if ON_CHIP), S^T 1, S^T d, and the sums behind the scalars of the record.

    S [B, N, K]; A [B, R, N, N], or sparse [N, N]; M [B, R, N, K], or None if nobody needs it; partial sums
    part_adj [slots, R, K, K], part_vectors [slots, 1 + R, K], part_sums [slots, R, K / BK, SUMS].
    A program for a slot of STEP rows of a graph, an edge type and BK columns of S, BN rows at a time: the rows of M
    stay on the chip until they are multiplied by S^T. A is read K / BK times, S once for each BN rows of A.
    Sums in ACC, those of the scalars over slots in float64.
    """
    i_slot, i_k, i_r = side_by_side()
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, STEP)
    if begin >= end:
        return
    i_col = i_k * BK
    o_k = i_col + tl.arange(0, BK)
    m_k = o_k < K
    p_s = part(s_ptr, i_b, s_graph)
    p_mask = part(mask_ptr, i_b, N)
    if a_ptr is not None:
        p_a = part(a_ptr, i_b, a_graph) + i_r.to(tl.int64) * a_type
    if m_ptr is not None:
        p_m = part(m_ptr, i_b, m_graph) + i_r.to(tl.int64) * m_type
    adj = tl.zeros([BK, BK], ACC)
    size = tl.zeros([BK], ACC)
    volume = tl.zeros([BK], ACC)
    nodes = tl.zeros([BN], ACC)
    entropy = tl.zeros([BN], ACC)
    cut = tl.zeros([BN], ACC)
    squares = tl.zeros([BN], ACC)
    degrees = tl.zeros([BN], ACC)
    trace = tl.zeros([BN], ACC)
    for i_n in range(begin, tl.minimum(begin + STEP, end), BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        if a_ptr is not None:
            m, degree, square = dense_rows(
                p_a, a_row, a_col, p_s, s_row, p_mask, i_n, m_n, i_col, m_k, end, BN, BJ, BK, ACC, PRECISION
            )
        else:
            m, degree, square = sparse_rows(
                rowptr, col_ptr, value_ptr, p_s, s_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
                BN, BK, LONGEST, AHEAD, ACC,
            )  # fmt: skip
        if m_ptr is not None:
            store_block(p_m, i_n, K, i_col, m_n, m_k, m, BN, BK)
        s = block(p_s, i_n, s_row, i_col, m_n, m_k, BN, BK)
        p = s.to(ACC)
        if ON_CHIP:
            adj = dot(tl.trans(s), m, adj, PRODUCT)
        size += tl.sum(p, 0)
        volume += tl.sum(p * degree[:, None], 0)
        nodes += m_n.to(ACC)
        if ENTROPY:
            entropy -= tl.sum(p * tl.log(tl.where(p > 0, p, 1.0)), 1)
        cut += degree * tl.sum(p * p, 1)
        squares += square
        degrees += degree
        trace += tl.sum(p * m, 1)
    slot = i_slot.to(tl.int64)
    if ON_CHIP:
        p_adj = part_adj_ptr + (slot * R + i_r) * K * K
        store_block(p_adj, i_col, K, i_col, m_k, m_k, adj, BK, BK)
    p_vectors = part_vectors_ptr + slot * (1 + R) * K + o_k
    if i_r == 0:
        tl.store(p_vectors, size, mask=m_k)
    tl.store(p_vectors + (1 + i_r) * K, volume, mask=m_k)
    # Sums over all columns of S belong to every program of a row, those over rows of A to one of them.
    once = (i_k == 0).to(tl.float64)
    of_s = (i_r == 0).to(tl.float64)
    p_sums = part_sums_ptr + ((slot * R + i_r) * tl.num_programs(1) + i_k) * SUMS
    tl.store(p_sums, tl.sum(nodes, 0).to(tl.float64) * once * of_s)
    tl.store(p_sums + 1, tl.sum(entropy.to(tl.float64), 0) * of_s)
    tl.store(p_sums + 2, tl.sum(cut.to(tl.float64), 0))
    tl.store(p_sums + 3, tl.sum(squares.to(tl.float64), 0) * once)
    tl.store(p_sums + 4, tl.sum(degrees.to(tl.float64), 0) * once)
    tl.store(p_sums + 5, tl.sum(trace.to(tl.float64), 0))


@triton.jit(do_not_specialize=["N", "B"])
def _products_kernel(
    s_ptr, s_graph, s_row, y_ptr, y_graph, y_row, part_ptr, part_slot, ptr, sizes, mask_ptr, N, B, K, C,
    STEP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """S^T Y of each slot, Y on valid rows only.

    S [B, N, K], Y [B, N, C]: X, or M, or S itself; part [slots, .., K, C].
    A program for a slot of STEP rows of a graph, BK rows and BC columns of the product, BN rows at a time.
    Sums in ACC.
    """
    i_slot, i_k, i_c = side_by_side()
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, STEP)
    if begin >= end:
        return
    i_k *= BK
    i_c *= BC
    m_k = i_k + tl.arange(0, BK) < K
    m_c = i_c + tl.arange(0, BC) < C
    p_s = part(s_ptr, i_b, s_graph)
    p_y = part(y_ptr, i_b, y_graph)
    p_mask = part(mask_ptr, i_b, N)
    total = tl.zeros([BK, BC], ACC)
    for i_n in range(begin, tl.minimum(begin + STEP, end), BN):
        m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
        s = block(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK)
        y = block(p_y, i_n, y_row, i_c, m_n, m_c, BN, BC)
        total = dot(tl.trans(s), y, total, PRECISION)
    store_block(part(part_ptr, i_slot, part_slot), i_k, C, i_c, m_k, m_c, total, BK, BC)


@triton.jit
def _sum_slots(
    part_ptr, slot, count, o_q, m_q, WIDTH, BS: tl.constexpr, BQ: tl.constexpr, TYPE: tl.constexpr
):
    """The sum over ``count`` slots from ``slot`` on of elements ``o_q`` of ``[slots, WIDTH]``."""
    total = tl.zeros([BQ], TYPE)
    for i_s in range(0, count, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.sum(tile(part_ptr, slot + o_s, WIDTH, o_q, o_s < count, m_q).to(TYPE), 0)
    return total


@triton.jit
def _square_position(o_q, K, MIRROR: tl.constexpr):
    """Where element ``o_q`` of matrices ``[.., K, K]`` is read: above the diagonal if each is its own transpose."""
    if MIRROR:
        o_matrix = o_q // (K * K)
        o_row = o_q // K % K
        o_col = o_q % K
        return o_matrix * K * K + tl.minimum(o_row, o_col) * K + tl.maximum(o_row, o_col)
    else:
        return o_q


@triton.jit(do_not_specialize=["N", "B", "K_TILES", "ADJ_TILES", "GRAM_TILES", "X_TILES", "VECTOR_TILES"])
def _finish_kernel(
    part_adj_ptr, part_gram_ptr, part_x_ptr, part_vectors_ptr, part_sums_ptr,
    adj_ptr, gram_ptr, x_ptr, vectors_ptr, sums_ptr, gram_squares_ptr,
    ptr, sizes, N, B, R, K, F, K_TILES, ADJ_TILES, GRAM_TILES, X_TILES, VECTOR_TILES,
    STEP_ROWS: tl.constexpr, STEP_PRODUCTS: tl.constexpr, STEP_ADJ: tl.constexpr,
    BS: tl.constexpr, BQ: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The record of each graph from the partial sums of its slots, in their order.

    adj [B, R, K, K], gram [B, K, K], x [B, K, F], vectors [B, 1 + R, K]; sums [B, R, SUMS] and the squared norm of
    gram by tiles, gram_squares [B, GRAM_TILES], in float64.
    A program for a graph and BQ elements of one of these; the last one is for the sums.
    Sums in ACC. A symmetric A makes adj symmetric to the last bit, as gram always is.
    """
    tiles = ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES + 1
    i_b = tl.program_id(0) // tiles
    i_t = tl.program_id(0) % tiles
    b = i_b.to(tl.int64)
    first, end = graph_rows(i_b, ptr, sizes, N)
    nodes = end - first
    o_i = tl.arange(0, BQ)
    slot = first_slot(i_b, ptr, N, STEP_ROWS)
    count = tl.cdiv(nodes, STEP_ROWS)
    slot_products = first_slot(i_b, ptr, N, STEP_PRODUCTS)
    count_products = tl.cdiv(nodes, STEP_PRODUCTS)
    if i_t < ADJ_TILES:
        o_q = i_t * BQ + o_i
        m_q = o_q < R * K * K
        at = _square_position(o_q, K, SYMMETRIC)
        slot_adj = first_slot(i_b, ptr, N, STEP_ADJ)
        total = _sum_slots(part_adj_ptr, slot_adj, tl.cdiv(nodes, STEP_ADJ), at, m_q, R * K * K, BS, BQ, ACC)
        tl.store(adj_ptr + b * R * K * K + o_q, total, mask=m_q)
    elif i_t < ADJ_TILES + GRAM_TILES:
        i_q = i_t - ADJ_TILES
        o_q = i_q * BQ + o_i
        m_q = o_q < K * K
        at = _square_position(o_q, K, True)
        total = _sum_slots(part_gram_ptr, slot_products, count_products, at, m_q, K * K, BS, BQ, ACC)
        tl.store(gram_ptr + b * K * K + o_q, total, mask=m_q)
        wide = total.to(tl.float64)
        tl.store(gram_squares_ptr + b * GRAM_TILES + i_q, tl.sum(wide * wide, 0))
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES) * BQ + o_i
        m_q = o_q < K * F
        total = _sum_slots(part_x_ptr, slot_products, count_products, o_q, m_q, K * F, BS, BQ, ACC)
        tl.store(x_ptr + b * K * F + o_q, total.to(x_ptr.dtype.element_ty), mask=m_q)
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES - X_TILES) * BQ + o_i
        m_q = o_q < (1 + R) * K
        total = _sum_slots(part_vectors_ptr, slot, count, o_q, m_q, (1 + R) * K, BS, BQ, ACC)
        tl.store(vectors_ptr + b * (1 + R) * K + o_q, total, mask=m_q)
    else:
        o_r = tl.arange(0, 8)
        for i_r in range(R):
            total = tl.zeros([8], tl.float64)
            for i_k in range(K_TILES):
                o_q = (i_r * K_TILES + i_k) * SUMS + o_r
                width = R * K_TILES * SUMS
                total += _sum_slots(part_sums_ptr, slot, count, o_q, o_r < SUMS, width, BS, 8, tl.float64)
            tl.store(sums_ptr + (b * R + i_r) * SUMS + o_r, total, mask=o_r < SUMS)


@triton.jit
def mean_divisors(B, N, largest_ptr, MEAN: tl.constexpr):
    """What the total entropy and the link norm are divided by: B N and B N^2, N the rows of the largest graph."""
    rows = tl.full((), 1, tl.float64)
    entries = rows
    if MEAN:
        if largest_ptr is not None:
            largest = tl.load(largest_ptr).to(tl.float64)
        else:
            largest = tl.full((), 1, tl.float64) * N
        rows = tl.maximum(largest * B, 1.0)
        entries = rows * tl.maximum(largest, 1.0)
    return rows, entries


@triton.jit(do_not_specialize=["N", "B", "R", "GRAM_TILES"])
def _scalars_kernel(
    sums_ptr, gram_squares_ptr, scalars_ptr, total_entropy_ptr, link_norm_ptr, largest_ptr, N, B, R, GRAM_TILES,
    BB: tl.constexpr, LINK: tl.constexpr, ENTROPY: tl.constexpr, MEAN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """link_sq = max(0, |A|^2 - 2 tr(adj) + |gram|^2) of each graph; link_norm = sqrt(sum of link_sq); total entropy.

    sums [B, R, SUMS], gram_squares [B, GRAM_TILES], scalars [B, 2 + 4R], link_norm [R].
    One program for each edge type, BB graphs at a time, in their order.
    In float64, as link_sq is a difference of large sums.
    """
    i_r = tl.program_id(0)
    link_total = tl.zeros([BB], tl.float64)
    entropy_total = tl.zeros([BB], tl.float64)
    for i_b in range(0, B, BB):
        o_b = i_b + tl.arange(0, BB)
        m_b = o_b < B
        wide = o_b.to(tl.int64)
        p_sums = sums_ptr + (wide * R + i_r) * SUMS
        adj_sq = tl.load(p_sums + 3, mask=m_b, other=0)
        p_out = scalars_ptr + wide * (2 + 4 * R)
        if i_r == 0:
            entropy = tl.load(p_sums + 1, mask=m_b, other=0)
            entropy_total += entropy
            if not ENTROPY:
                entropy = tl.full([BB], float("nan"), tl.float64)
            tl.store(p_out, tl.load(p_sums, mask=m_b, other=0).to(ACC), mask=m_b)
            tl.store(p_out + 1, entropy.to(ACC), mask=m_b)
        tl.store(p_out + 2 + i_r, tl.load(p_sums + 2, mask=m_b, other=0).to(ACC), mask=m_b)
        tl.store(p_out + 2 + R + i_r, adj_sq.to(ACC), mask=m_b)
        tl.store(p_out + 2 + 2 * R + i_r, tl.load(p_sums + 4, mask=m_b, other=0).to(ACC), mask=m_b)
        link = tl.full([BB], float("nan"), tl.float64)
        if LINK:
            gram_sq = tl.zeros([BB], tl.float64)
            for i_t in range(GRAM_TILES):
                gram_sq += tl.load(gram_squares_ptr + wide * GRAM_TILES + i_t, mask=m_b, other=0)
            link = adj_sq - 2 * tl.load(p_sums + 5, mask=m_b, other=0) + gram_sq
            link = tl.where(link < 0, 0.0, link)  # NaN stays NaN
            link_total += tl.where(m_b, link, 0.0)
        tl.store(p_out + 2 + 3 * R + i_r, link.to(ACC), mask=m_b)
    rows, entries = mean_divisors(B, N, largest_ptr, MEAN)
    link_norm = tl.full((), float("nan"), tl.float64)
    if LINK:
        link_norm = tl.sqrt(tl.sum(link_total, 0)) / entries
    tl.store(link_norm_ptr + i_r, link_norm.to(ACC))
    if i_r == 0:
        total = tl.full((), float("nan"), tl.float64)
        if ENTROPY:
            total = tl.sum(entropy_total, 0) / rows
        tl.store(total_entropy_ptr, total.to(ACC))
