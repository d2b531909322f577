"""The balance term of the asymmetric Cheeger cut: quantiles of columns, sums over them, and the gradient.

Entries are compared by keys: integers in the order of the floats. The quantile of rank r is the largest key that more
than r keys are at least equal to. Its bits are found from the highest down: one at a time where one program has all
rows of a graph, ``DIGIT`` at a time (a radix select) where many programs count, each in its chunk of rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.chunks import chunk_rows, first_chunk, graph_rows, locate_chunk, valid_rows
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, language_type
from hierpool_kernels.core.tiles import load_tile, slice_ptr, store_tile

# ---- kernels --------------------------------------------------------------------------------------------------------

DIGIT = tl.constexpr(4)  # bits of a digit
DIGITS = tl.constexpr(16)  # their values
NO_ROW = tl.constexpr(2**31 - 1)


@triton.jit
def _keys(x):
    """Keys of floats: sign and magnitude as two's complement, so that -0 equals 0. NaN is the largest.

    Those of 16-bit floats have 32 bits.
    """
    WIDTH: tl.constexpr = x.dtype.primitive_bitwidth
    LARGEST: tl.constexpr = (1 << (WIDTH - 1)) - 1
    if WIDTH == 16:
        bits = x.to(tl.int16, bitcast=True).to(tl.int32)
        number = x.to(tl.float32)
    elif WIDTH == 32:
        bits = x.to(tl.int32, bitcast=True)
        number = x
    else:
        bits = x.to(tl.int64, bitcast=True)
        number = x
    negative = (bits < 0).to(bits.dtype)
    key = ((bits & LARGEST) ^ -negative) + negative
    return tl.where(number != number, LARGEST, key)


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
    """Keys of a tile of rows from ``i_n`` on, the lowest key on rows that are not nodes; the mask of the nodes."""
    m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
    key = _keys(load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK))
    return tl.where(m_n[:, None], key, _lowest(p_s)), m_n


@triton.jit
def _slopes(above, K):
    """The derivative of asym: K - 1 from 0 on, -1 below, NaN of NaN."""
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
    """Store the results of a graph; of a graph without nodes, 0 and row -1."""
    found = row != NO_ROW
    tl.store(norm_ptr + at, norm.to(norm_ptr.dtype.element_ty), mask=m_k)
    tl.store(slope_ptr + at, (-slope).to(slope_ptr.dtype.element_ty), mask=m_k)
    tl.store(quantile_ptr + at, _values(tl.where(found, quantile, 0), TYPE), mask=m_k)
    tl.store(row_ptr + at, tl.where(found, row, -1).to(tl.int64), mask=m_k)


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_fwd_kernel(
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
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
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
def _asymmetric_norm_count_fwd_kernel(
    s_ptr, s_graph, s_row, prefix_ptr, count_ptr, SHIFT, ptr, sizes, mask_ptr, N, B, K,
    CHUNK: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """How many keys of a chunk have each value of the digit from bit SHIFT on, among those that begin as q does.

    S [B, N, K]; prefix [B, K], q as far as it is known, or None for the first digit; count [chunks, DIGITS, K].
    A program for a chunk of CHUNK rows of a graph and BK columns, BN rows at a time.
    Counts in integers, of an element in 8 bits each.
    """
    i_chunk = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    if begin >= end:
        return
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    if prefix_ptr is not None:
        prefix = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=m_k, other=0) >> SHIFT >> DIGIT
    low = tl.zeros([BN, BK], tl.int64)  # values 0 to 7
    high = tl.zeros([BN, BK], tl.int64)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
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
    p_count = count_ptr + i_chunk.to(tl.int64) * DIGITS * K + o_k
    for value in tl.static_range(DIGITS // 2):
        tl.store(p_count + value * K, tl.sum((low >> 8 * value & 255).to(tl.int32), 0), mask=m_k)
        p_high = p_count + (value + DIGITS // 2) * K
        tl.store(p_high, tl.sum((high >> 8 * value & 255).to(tl.int32), 0), mask=m_k)


@triton.jit(do_not_specialize=["SHIFT", "N"])
def _asymmetric_norm_digit_fwd_kernel(
    count_ptr, prefix_ptr, rank_ptr, SHIFT, ptr, sizes, N, K,
    CHUNK: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr, LOWEST: tl.constexpr,
):  # fmt: skip
    """The digit of q from bit SHIFT on, and its rank among the keys that have it; with LOWEST, a key, the first digit.

    count [chunks, DIGITS, K]; prefix, rank [B, K].
    A program for a graph and BK columns, BS chunks at a time.
    In integers.
    """
    i_b = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    m_k = o_k < K
    o_d = tl.arange(0, DIGITS)
    first, end = graph_rows(i_b, ptr, sizes, N)
    chunks = tl.cdiv(end - first, CHUNK)
    p_count = count_ptr + first_chunk(i_b, ptr, N, CHUNK) * DIGITS * K
    total = tl.zeros([BS, DIGITS, BK], tl.int32)
    for i_s in range(0, chunks, BS):
        o_s = i_s + tl.arange(0, BS)
        o_count = (o_s.to(tl.int64)[:, None] * DIGITS + o_d[None, :]) * K
        mask = (o_s < chunks)[:, None, None] & m_k[None, None, :]
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
def _asymmetric_norm_sums_fwd_kernel(
    s_ptr, s_graph, s_row, prefix_ptr, part_ptr, part_row_ptr, ptr, sizes, mask_ptr, N, B, K,
    CHUNK: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sums of asym(s - q) and of its derivative over a chunk, and the first row that has q.

    S [B, N, K]; prefix [B, K], the keys of q; part [chunks, 2, K] in float64, part_row [chunks, K].
    A program for a chunk of CHUNK rows of a graph and BK columns, BN rows at a time.
    Sums over a tile in ACC, over tiles in float64.
    """
    i_chunk = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    TYPE: tl.constexpr = s_ptr.dtype.element_ty
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    if begin >= end:
        return
    first, _ = graph_rows(i_b, ptr, sizes, N)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    quantile = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=m_k, other=0)
    norm = tl.zeros([BK], tl.float64)
    slope = tl.zeros([BK], tl.float64)
    row = tl.full([BK], NO_ROW, tl.int32)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        key, m_n = _key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
        sums = _tile_sums(key, quantile, i_n - first + tl.arange(0, BN), m_n, K, TYPE, ACC)
        norm += sums[0]
        slope += sums[1]
        row = tl.minimum(row, sums[2])
    p_part = part_ptr + i_chunk.to(tl.int64) * 2 * K + o_k
    tl.store(p_part, norm, mask=m_k)
    tl.store(p_part + K, slope, mask=m_k)
    tl.store(part_row_ptr + i_chunk.to(tl.int64) * K + o_k, row, mask=m_k)


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_reduce_fwd_kernel(
    part_ptr, part_row_ptr, prefix_ptr, norm_ptr, quantile_ptr, row_ptr, slope_ptr, ptr, sizes, N, K,
    CHUNK: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """What `_asymmetric_norm_fwd_kernel` makes, from the sums of chunks.

    part [chunks, 2, K] in float64, part_row [chunks, K], prefix [B, K], the keys of q; norm, q, row, slope [B, K].
    A program for a graph and BK columns, BS chunks at a time, in their order.
    Sums in float64.
    """
    i_b = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    m_k = o_k < K
    first, end = graph_rows(i_b, ptr, sizes, N)
    chunks = tl.cdiv(end - first, CHUNK)
    begin = first_chunk(i_b, ptr, N, CHUNK)
    norm = tl.zeros([BS, BK], tl.float64)
    slope = tl.zeros([BS, BK], tl.float64)
    row = tl.full([BS, BK], NO_ROW, tl.int32)
    for i_s in range(0, chunks, BS):
        o_s = i_s + tl.arange(0, BS)
        mask = (o_s < chunks)[:, None] & m_k[None, :]
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
    A program for a chunk of BN rows of a graph and BK columns. Rows that are not valid get 0.
    In ACC.
    """
    i_b, begin, _, last, m_n = chunk_rows(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
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
    s = load_tile(slice_ptr(s_ptr, i_b, s_graph), begin, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    slope = _slopes(s - quantile[None, :], K)
    slope += tl.where((o_n - first)[:, None] == row[None, :], through[None, :], 0.0)
    ds = tl.where(m_n[:, None], tl.load(dnorm_ptr + i_b) * slope, 0.0)
    store_tile(slice_ptr(out_ptr, i_b, out_graph), begin, K, i_k, o_n < last, m_k, ds, BN, BK)


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_asymmetric_norm_fwd(s: Tensor, rows: Rows, target: Target) -> tuple[Tensor, ...]:
    """The norm ``[B]``; the quantile, its row and the derivative with respect to it, each ``[B, K]``.

    One launch where a program has all rows of a graph, else two for every four bits of an entry and two more; then a
    sum over columns by torch.
    """
    s = contiguous_rows(s)
    b, k, acc = rows.b, s.size(-1), accumulation_dtype(s)
    norms, slope = s.new_empty(b, k, dtype=acc), s.new_empty(b, k, dtype=acc)
    quantile, row = s.new_empty(b, k), s.new_empty(b, k, dtype=torch.int64)
    outputs = (norms, quantile, row, slope)
    cut = plan.quantile(b, rows.n, k, rows.ptr is not None, target)
    if cut.chunk:
        _radix_select(s, rows, cut, outputs)
    else:
        launch(
            _asymmetric_norm_fwd_kernel, (b, cdiv(k, cut.bk)),
            s, rows.graph_stride(s), s.stride(-2), *outputs, rows.ptr, rows.sizes, rows.mask, rows.n, k,
            BN=cut.bn, BK=cut.bk, ONE_TILE=cut.one_tile, ACC=language_type(acc), num_warps=cut.warps,
        )  # fmt: skip
    return norms.sum(1), quantile, row, slope


def _radix_select(s: Tensor, rows: Rows, cut: plan.QuantileTiles, outputs: tuple[Tensor, ...]) -> None:
    """The outputs for graphs of many chunks."""
    b, k, chunks, chunk = rows.b, s.size(-1), rows.chunks(cut.chunk), cut.chunk
    bits, where = 8 * s.element_size(), (rows.ptr, rows.sizes, rows.n)
    prefix = s.new_empty(b, k, dtype=torch.int64 if bits == 64 else torch.int32)
    rank = s.new_empty(b, k, dtype=torch.int32)
    count = s.new_empty(chunks, DIGITS.value, k, dtype=torch.int32)
    of_chunks = (s, rows.graph_stride(s), s.stride(-2))
    tiles = {"CHUNK": chunk, "BN": cut.bn, "BK": cut.bk, "num_warps": cut.warps}
    for shift in range(bits - DIGIT.value, -1, -DIGIT.value):
        lowest = -(1 << (bits - 1)) if shift == bits - DIGIT.value else None
        launch(
            _asymmetric_norm_count_fwd_kernel, (chunks, cdiv(k, cut.bk)),
            *of_chunks, None if lowest else prefix, count, shift, *rows.arguments, k, **tiles,
        )  # fmt: skip
        launch(
            _asymmetric_norm_digit_fwd_kernel, (b, cdiv(k, cut.bc)),
            count, prefix, rank, shift, *where, k, CHUNK=chunk, BS=cut.bs, BK=cut.bc, LOWEST=lowest, num_warps=4,
        )  # fmt: skip
    parts = s.new_empty(chunks, 2, k, dtype=torch.float64)
    part_rows = s.new_empty(chunks, k, dtype=torch.int32)
    launch(
        _asymmetric_norm_sums_fwd_kernel, (chunks, cdiv(k, cut.bk)),
        *of_chunks, prefix, parts, part_rows, *rows.arguments, k, **tiles, ACC=language_type(outputs[0].dtype),
    )  # fmt: skip
    launch(
        _asymmetric_norm_reduce_fwd_kernel, (b, cdiv(k, cut.bc)),
        parts, part_rows, prefix, *outputs, *where, k, CHUNK=chunk, BS=cut.bs, BK=cut.bc, num_warps=4,
    )  # fmt: skip


def launch_asymmetric_norm_bwd(
    dnorm: Tensor, s: Tensor, quantile: Tensor, row: Tensor, slope: Tensor, rows: Rows, target: Target
) -> Tensor:
    """The gradient to S, from one launch."""
    s = contiguous_rows(s)
    k, (bn, bk) = s.size(-1), plan.quantile_backward(s.size(-1), target)
    out = rows.empty(s, k)
    saved = (quantile.contiguous(), row.contiguous(), slope.contiguous())
    launch(
        _asymmetric_norm_bwd_kernel, (rows.chunks(bn), cdiv(k, bk)),
        dnorm.contiguous(), s, rows.graph_stride(s), s.stride(-2), *saved, out, rows.graph_stride(out),
        *rows.arguments, k, BN=bn, BK=bk, ACC=language_type(slope.dtype), num_warps=4,
    )  # fmt: skip
    return out
