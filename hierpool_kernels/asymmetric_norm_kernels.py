"""Kernels of the balance term of the asymmetric Cheeger cut: quantiles of columns, sums over them, and the gradient.

Entries are compared by keys, integers in the order of floats. The quantile of rank r is the largest key that more than
r keys reach. Its bits are found from the highest one down: one by one where a program has all rows of a graph, as many
as ``DIGIT`` at a time where many programs count, each in its slot of rows.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.common import (
    block,
    first_slot,
    graph_rows,
    locate,
    part,
    rows_of_slot,
    store_block,
    valid_rows,
)

DIGIT = tl.constexpr(4)  # bits of a digit
DIGITS = tl.constexpr(16)  # their values
NO_ROW = tl.constexpr(2**31 - 1)


@triton.jit
def _keys(x):
    """Two's complement in place of sign and magnitude, so that -0 is 0; all NaN are the largest. Of 16 bits in 32."""
    WIDTH: tl.constexpr = x.dtype.primitive_bitwidth
    LARGEST: tl.constexpr = (1 << (WIDTH - 1)) - 1
    if WIDTH == 16:
        bits = x.to(tl.int16, bitcast=True).to(tl.int32)
        wide = x.to(tl.float32)
    elif WIDTH == 32:
        bits = x.to(tl.int32, bitcast=True)
        wide = x
    else:
        bits = x.to(tl.int64, bitcast=True)
        wide = x
    negative = (bits < 0).to(bits.dtype)
    key = ((bits & LARGEST) ^ -negative) + negative
    return tl.where(wide != wide, LARGEST, key)


@triton.jit
def _values(key, TYPE: tl.constexpr):
    """The floats of keys."""
    WIDTH: tl.constexpr = TYPE.primitive_bitwidth
    magnitude = tl.where(key < 0, -key, key)
    if WIDTH == 16:
        bits = tl.where(key < 0, magnitude - (1 << 15), magnitude).to(tl.int16)
    else:
        bits = tl.where(key < 0, magnitude + (tl.full((), -1, key.dtype) << (WIDTH - 1)), magnitude)
    return bits.to(TYPE, bitcast=True)


@triton.jit
def _lowest(s_ptr):
    """A key below all others."""
    return -(1 << (s_ptr.dtype.element_ty.primitive_bitwidth - 1))


@triton.jit
def _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN: tl.constexpr, BK: tl.constexpr):
    """Keys of a tile of rows from ``i_n`` on, the lowest one where a row is no node; which rows are."""
    m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
    key = _keys(block(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK))
    return tl.where(m_n[:, None], key, _lowest(p_s)), m_n


@triton.jit
def _slopes(above, K):
    """The derivative of asym: K - 1 where it is taken at 0 or above, -1 below, NaN of NaN."""
    up = tl.zeros_like(above) + (K - 1)
    return tl.where(above >= 0, up, tl.where(above < 0, -1.0, float("nan")))


@triton.jit
def _tile_sums(key, quantile, o_n, m_n, K, TYPE: tl.constexpr, ACC: tl.constexpr):
    """Sums over the rows of a tile of asym and of its derivative, and the first row that has the quantile."""
    above = _values(key, TYPE).to(ACC) - _values(quantile, TYPE).to(ACC)[None, :]
    slope = tl.where(m_n[:, None], _slopes(above, K), 0.0)
    norm = tl.sum(tl.where(m_n[:, None], slope * above, 0.0), 0)
    row = tl.where(m_n[:, None] & (key == quantile[None, :]), o_n[:, None], NO_ROW)
    return norm.to(tl.float64), tl.sum(slope, 0).to(tl.float64), tl.min(row, 0)


@triton.jit
def _store_results(
    norm_ptr, quantile_ptr, row_ptr, slope_ptr, at, m_k, norm, quantile, row, slope, TYPE: tl.constexpr
):  # fmt: skip
    """Those of columns of a graph: 0, and the row -1, where no row has the quantile, as there is none."""
    some = row != NO_ROW
    tl.store(norm_ptr + at, norm.to(norm_ptr.dtype.element_ty), mask=m_k)
    tl.store(slope_ptr + at, (-slope).to(slope_ptr.dtype.element_ty), mask=m_k)
    tl.store(quantile_ptr + at, _values(tl.where(some, quantile, 0), TYPE), mask=m_k)
    tl.store(row_ptr + at, tl.where(some, row, -1).to(tl.int64), mask=m_k)


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_graphs_kernel(
    s_ptr, s_graph, s_row, norm_ptr, quantile_ptr, row_ptr, slope_ptr, ptr, sizes, mask_ptr, N, K,
    BN: tl.constexpr, BK: tl.constexpr, ONE_TILE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """q, norm = sum asym(s - q), slope = dnorm / dq and the first row that has q, for each column.

    S [B, N, K]; norm, q, row, slope [B, K].
    A program for a graph and BK columns, whose first BN rows stay on the chip; others, which there are none of with
    ONE_TILE, are read again for every bit.
    Sums over a tile in ACC, over tiles in float64.
    """
    i_b = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    TYPE: tl.constexpr = s_ptr.dtype.element_ty
    BITS: tl.constexpr = TYPE.primitive_bitwidth
    first, end = graph_rows(i_b, ptr, sizes, N)
    p_s = part(s_ptr, i_b, s_graph)
    p_mask = part(mask_ptr, i_b, N)
    key, m_n = _key_tile(p_s, s_row, first, i_k, end, m_k, p_mask, BN, BK)
    nodes = m_n.to(tl.int32)
    if not ONE_TILE:
        for i_n in range(first + BN, end, BN):
            nodes += valid_rows(i_n + tl.arange(0, BN), end, p_mask).to(tl.int32)
    n = tl.sum(nodes, 0)
    rank = tl.minimum(n // K, n - 1)
    quantile = tl.full([BK], 0, key.dtype) + _lowest(s_ptr)
    for i_bit in range(0, BITS):
        higher = quantile + (tl.full((), 1, key.dtype) << (BITS - 1 - i_bit))  # the first time, 0
        count = tl.sum((key >= higher[None, :]).to(tl.int32), 0)
        if not ONE_TILE:
            for i_n in range(first + BN, end, BN):
                more, _ = _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
                count += tl.sum((more >= higher[None, :]).to(tl.int32), 0)
        quantile = tl.where(count > rank, higher, quantile)
    o_n = tl.arange(0, BN)
    norm, slope, row = _tile_sums(key, quantile, o_n, m_n, K, TYPE, ACC)
    if not ONE_TILE:
        for i_n in range(first + BN, end, BN):
            more, m_more = _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
            sums = _tile_sums(more, quantile, i_n - first + o_n, m_more, K, TYPE, ACC)
            norm += sums[0]
            slope += sums[1]
            row = tl.minimum(row, sums[2])
    at = i_b.to(tl.int64) * K + o_k
    _store_results(
        norm_ptr, quantile_ptr, row_ptr, slope_ptr, at, m_k, norm, quantile, row, slope, TYPE
    )  # fmt: skip


@triton.jit(do_not_specialize=["SHIFT", "N", "B"])
def _asymmetric_norm_count_kernel(
    s_ptr, s_graph, s_row, prefix_ptr, count_ptr, SHIFT, ptr, sizes, mask_ptr, N, B, K,
    STEP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """How many keys of a slot have each value of the digit from bit SHIFT on, among those that begin as q does.

    S [B, N, K]; prefix [B, K], q as far as it is known, or None for the first digit; count [slots, DIGITS, K].
    A program for a slot of STEP rows of a graph and BK columns, BN rows at a time.
    Counts in integers, of an element in 8 bits each.
    """
    i_slot = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, STEP)
    if begin >= end:
        return
    p_s = part(s_ptr, i_b, s_graph)
    p_mask = part(mask_ptr, i_b, N)
    if prefix_ptr is not None:
        prefix = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=m_k, other=0) >> SHIFT >> DIGIT
    low = tl.zeros([BN, BK], tl.int64)  # values 0 to 7
    high = tl.zeros([BN, BK], tl.int64)
    for i_n in range(begin, tl.minimum(begin + STEP, end), BN):
        key, m_n = _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
        digit = key >> SHIFT
        counted = m_n[:, None]
        if prefix_ptr is not None:
            counted = counted & (digit >> DIGIT == prefix[None, :])
            digit = digit & (DIGITS - 1)
        else:
            digit = (digit & (DIGITS - 1)) ^ (DIGITS // 2)  # the highest bit of a key is its sign
        one = tl.where(counted, tl.full((), 1, tl.int64) << (digit & 7).to(tl.int64) * 8, 0)
        low += tl.where(digit < 8, one, 0)
        high += tl.where(digit < 8, 0, one)
    p_count = count_ptr + i_slot.to(tl.int64) * DIGITS * K + o_k
    for value in tl.static_range(DIGITS // 2):
        tl.store(p_count + value * K, tl.sum((low >> 8 * value & 255).to(tl.int32), 0), mask=m_k)
        p_high = p_count + (value + DIGITS // 2) * K
        tl.store(p_high, tl.sum((high >> 8 * value & 255).to(tl.int32), 0), mask=m_k)


@triton.jit(do_not_specialize=["SHIFT", "N"])
def _asymmetric_norm_digit_kernel(
    count_ptr, prefix_ptr, rank_ptr, SHIFT, ptr, sizes, N, K,
    STEP: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr, LOWEST: tl.constexpr,
):  # fmt: skip
    """The digit of q from bit SHIFT on, and its rank among the keys that have it; with LOWEST, a key, the first digit.

    count [slots, DIGITS, K]; prefix, rank [B, K].
    A program for a graph and BK columns, BS slots at a time.
    In integers.
    """
    i_b = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    m_k = o_k < K
    o_d = tl.arange(0, DIGITS)
    first, end = graph_rows(i_b, ptr, sizes, N)
    slots = tl.cdiv(end - first, STEP)
    p_count = count_ptr + first_slot(i_b, ptr, N, STEP) * DIGITS * K
    total = tl.zeros([BS, DIGITS, BK], tl.int32)
    for i_s in range(0, slots, BS):
        o_s = i_s + tl.arange(0, BS)
        o_count = (o_s.to(tl.int64)[:, None] * DIGITS + o_d[None, :]) * K
        mask = (o_s < slots)[:, None, None] & m_k[None, None, :]
        total += tl.load(p_count + o_count[:, :, None] + o_k[None, None, :], mask=mask, other=0)
    count = tl.sum(total, 0)  # [DIGITS, BK]
    reach = tl.cumsum(count, 0, reverse=True)  # of this value or a larger one
    at = i_b.to(tl.int64) * K + o_k
    if LOWEST is not None:
        n = tl.max(reach, 0)
        rank = tl.minimum(n // K, n - 1)
        prefix = tl.full([BK], LOWEST, prefix_ptr.dtype.element_ty)
    else:
        rank = tl.load(rank_ptr + at, mask=m_k, other=0)
        prefix = tl.load(prefix_ptr + at, mask=m_k, other=0)
    digit = tl.sum((reach > rank[None, :]).to(tl.int32), 0) - 1
    larger = tl.sum(tl.where(o_d[:, None] > digit[None, :], count, 0), 0)
    tl.store(rank_ptr + at, rank - larger, mask=m_k)
    tl.store(prefix_ptr + at, prefix + (digit.to(prefix.dtype) << SHIFT), mask=m_k)


@triton.jit(do_not_specialize=["N", "B"])
def _asymmetric_norm_sums_kernel(
    s_ptr, s_graph, s_row, prefix_ptr, part_ptr, part_row_ptr, ptr, sizes, mask_ptr, N, B, K,
    STEP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sums of asym(s - q) and of its derivative over a slot, and the first row that has q.

    S [B, N, K]; prefix [B, K], the keys of q; part [slots, 2, K] in float64, part_row [slots, K].
    A program for a slot of STEP rows of a graph and BK columns, BN rows at a time.
    Sums over a tile in ACC, over tiles in float64.
    """
    i_slot = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    TYPE: tl.constexpr = s_ptr.dtype.element_ty
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, STEP)
    if begin >= end:
        return
    first, _ = graph_rows(i_b, ptr, sizes, N)
    p_s = part(s_ptr, i_b, s_graph)
    p_mask = part(mask_ptr, i_b, N)
    quantile = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=m_k, other=0)
    norm = tl.zeros([BK], tl.float64)
    slope = tl.zeros([BK], tl.float64)
    row = tl.full([BK], NO_ROW, tl.int32)
    for i_n in range(begin, tl.minimum(begin + STEP, end), BN):
        key, m_n = _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
        sums = _tile_sums(key, quantile, i_n - first + tl.arange(0, BN), m_n, K, TYPE, ACC)
        norm += sums[0]
        slope += sums[1]
        row = tl.minimum(row, sums[2])
    p_part = part_ptr + i_slot.to(tl.int64) * 2 * K + o_k
    tl.store(p_part, norm, mask=m_k)
    tl.store(p_part + K, slope, mask=m_k)
    tl.store(part_row_ptr + i_slot.to(tl.int64) * K + o_k, row, mask=m_k)


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_finish_kernel(
    part_ptr, part_row_ptr, prefix_ptr, norm_ptr, quantile_ptr, row_ptr, slope_ptr, ptr, sizes, N, K,
    STEP: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """What `_asymmetric_norm_graphs_kernel` makes, from the sums of slots.

    part [slots, 2, K] in float64, part_row [slots, K], prefix [B, K], the keys of q; norm, q, row, slope [B, K].
    A program for a graph and BK columns, BS slots at a time, in their order.
    Sums in float64.
    """
    i_b = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    m_k = o_k < K
    first, end = graph_rows(i_b, ptr, sizes, N)
    slots = tl.cdiv(end - first, STEP)
    begin = first_slot(i_b, ptr, N, STEP)
    norm = tl.zeros([BS, BK], tl.float64)
    slope = tl.zeros([BS, BK], tl.float64)
    row = tl.full([BS, BK], NO_ROW, tl.int32)
    for i_s in range(0, slots, BS):
        o_s = i_s + tl.arange(0, BS)
        mask = (o_s < slots)[:, None] & m_k[None, :]
        o_part = (begin + o_s)[:, None] * K + o_k[None, :]
        p_part = part_ptr + (begin + o_s)[:, None] * 2 * K + o_k[None, :]
        norm += tl.load(p_part, mask=mask, other=0)
        slope += tl.load(p_part + K, mask=mask, other=0)
        row = tl.minimum(row, tl.load(part_row_ptr + o_part, mask=mask, other=NO_ROW))
    at = i_b.to(tl.int64) * K + o_k
    quantile = tl.load(prefix_ptr + at, mask=m_k, other=0)
    _store_results(
        norm_ptr, quantile_ptr, row_ptr, slope_ptr, at, m_k, tl.sum(norm, 0), quantile, tl.min(row, 0),
        tl.sum(slope, 0), quantile_ptr.dtype.element_ty,
    )  # fmt: skip


@triton.jit(do_not_specialize=["N", "B"])
def _asymmetric_norm_bwd_kernel(
    dnorm_ptr, s_ptr, s_graph, s_row, quantile_ptr, row_ptr, slope_ptr, out_ptr, out_graph,
    ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dS = dnorm asym'(s - q), and dnorm slope more in the first row that has q.

    S, dS [B, N, K]; q, row, slope [B, K]; dnorm [B].
    A program for a slot of BN rows of a graph and BK columns. Rows that are not valid get 0.
    In ACC.
    """
    i_b, begin, _, last, m_n = rows_of_slot(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
    if begin >= last:
        return
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    o_n = begin + tl.arange(0, BN)
    first, _ = graph_rows(i_b, ptr, sizes, N)
    at = i_b.to(tl.int64) * K + o_k
    quantile = tl.load(quantile_ptr + at, mask=m_k, other=0).to(ACC)
    row = tl.load(row_ptr + at, mask=m_k, other=-1)
    through = tl.load(slope_ptr + at, mask=m_k, other=0)
    s = block(part(s_ptr, i_b, s_graph), begin, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    slope = _slopes(s - quantile[None, :], K)
    slope += tl.where((o_n - first)[:, None] == row[None, :], through[None, :], 0.0)
    ds = tl.where(m_n[:, None], tl.load(dnorm_ptr + i_b) * slope, 0.0)
    store_block(part(out_ptr, i_b, out_graph), begin, K, i_k, o_n < last, m_k, ds, BN, BK)
