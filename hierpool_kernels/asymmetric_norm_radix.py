"""The forward of the asymmetric norm for graphs of many chunks of rows: a radix select, ``DIGIT`` bits at a time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan_losses
from hierpool_kernels.core.chunks import first_chunk, graph_rows, locate_chunk
from hierpool_kernels.core.clusters import column_count, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.quantiles import NO_ROW, key_tile, store_results, tile_sums
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import slice_ptr

# ---- kernels --------------------------------------------------------------------------------------------------------

DIGIT = tl.constexpr(4)  # bits of a digit
DIGITS = tl.constexpr(16)  # their values


@triton.jit(do_not_specialize=["SHIFT", "N", "B"])
def _asymmetric_norm_count_fwd_kernel(
    s_ptr, s_graph, s_row, prefix_ptr, count_ptr, SHIFT, ptr, sizes, mask_ptr, N, B, clusters_ptr, K,
    CHUNK: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """How many keys of a chunk have each value of the digit from bit SHIFT on, among those that begin as q does.

    S [B, N, K]; prefix [B, K], q as far as it is known, or None for the first digit; count [chunks, DIGITS, K].
    A program for a chunk of CHUNK rows of a graph and BK columns, BN rows at a time. Programs of columns that are no
    clusters write nothing.
    Counts in integers, of an element in 8 bits each.
    """
    i_chunk = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and i_k >= clusters:
        return
    if begin >= end:
        return
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    if prefix_ptr is not None:
        p_prefix = prefix_ptr + i_b.to(tl.int64) * K + o_k
        prefix = tl.load(p_prefix, mask=o_k < column_count(clusters, K), other=0) >> SHIFT >> DIGIT
    low = tl.zeros([BN, BK], tl.int64)  # values 0 to 7
    high = tl.zeros([BN, BK], tl.int64)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        key, m_n = key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
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
    count_ptr, prefix_ptr, rank_ptr, SHIFT, ptr, sizes, N, clusters_ptr, K,
    CHUNK: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr, LOWEST: tl.constexpr,
):  # fmt: skip
    """The digit of q from bit SHIFT on, and its rank among the keys that have it; with LOWEST, a key, the first digit.

    count [chunks, DIGITS, K]; prefix, rank [B, K].
    A program for a graph and BK columns, BS chunks at a time. Programs of columns that are no clusters write nothing.
    In integers.
    """
    i_b = tl.program_id(0)
    o_k = tl.program_id(1) * BK + tl.arange(0, BK)
    m_k = o_k < K
    o_d = tl.arange(0, DIGITS)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and tl.program_id(1) * BK >= clusters:
        return
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
        rank = tl.minimum(n // column_count(clusters, K), n - 1)
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
    s_ptr, s_graph, s_row, prefix_ptr, part_ptr, part_row_ptr, ptr, sizes, mask_ptr, N, B, clusters_ptr, K,
    CHUNK: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The sums of asym(s - q) and of its derivative over a chunk, and the first row that has q.

    S [B, N, K]; prefix [B, K], the keys of q; part [chunks, 2, K] in float64, part_row [chunks, K].
    A program for a chunk of CHUNK rows of a graph and BK columns, BN rows at a time. Programs of columns that are no
    clusters write nothing.
    Sums over a tile in ACC, over tiles in float64.
    """
    i_chunk = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    TYPE: tl.constexpr = s_ptr.dtype.element_ty
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and i_k >= clusters:
        return
    if begin >= end:
        return
    count_k = column_count(clusters, K)
    first, _ = graph_rows(i_b, ptr, sizes, N)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    quantile = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=o_k < count_k, other=0)
    norm = tl.zeros([BK], tl.float64)
    slope = tl.zeros([BK], tl.float64)
    row = tl.full([BK], NO_ROW, tl.int32)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        key, m_n = key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
        sums = tile_sums(key, quantile, i_n - first + tl.arange(0, BN), m_n, count_k, TYPE, ACC)
        norm += sums[0]
        slope += sums[1]
        row = tl.minimum(row, sums[2])
    p_part = part_ptr + i_chunk.to(tl.int64) * 2 * K + o_k
    tl.store(p_part, norm, mask=m_k)
    tl.store(p_part + K, slope, mask=m_k)
    tl.store(part_row_ptr + i_chunk.to(tl.int64) * K + o_k, row, mask=m_k)


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_reduce_fwd_kernel(
    part_ptr, part_row_ptr, prefix_ptr, norm_ptr, quantile_ptr, row_ptr, slope_ptr, ptr, sizes, N, clusters_ptr, K,
    CHUNK: tl.constexpr, BS: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """What `_asymmetric_norm_fwd_kernel` makes, from the sums of chunks.

    part [chunks, 2, K] in float64, part_row [chunks, K], prefix [B, K], the keys of q; norm, q, row, slope [B, K].
    A program for a graph and BK columns, BS chunks at a time, in their order. Programs of columns that are no clusters
    have no chunks.
    Sums in float64.
    """
    i_b = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    m_k = o_k < column_count(clusters, K)
    first, end = graph_rows(i_b, ptr, sizes, N)
    chunks = tl.cdiv(end - first, CHUNK)
    if clusters is not None:
        chunks = tl.where(i_k < clusters, chunks, 0)
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
    quantile = tl.load(prefix_ptr + i_b.to(tl.int64) * K + o_k, mask=m_k, other=0)
    store_results(
        norm_ptr, quantile_ptr, row_ptr, slope_ptr, i_b, o_k, clusters, K, tl.sum(norm, 0), quantile,
        tl.min(row, 0), tl.sum(slope, 0), quantile_ptr.dtype.element_ty,
    )  # fmt: skip


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_radix_select(
    s: Tensor, rows: Rows, cut: plan_losses.QuantileTiles, outputs: tuple[Tensor, ...]
) -> None:
    """The outputs for graphs of many chunks."""
    b, k, chunks, chunk = rows.b, s.size(-1), rows.chunks(cut.chunk), cut.chunk
    bits, where = 8 * s.element_size(), (rows.ptr, rows.sizes, rows.n, rows.clusters)
    prefix = s.new_empty(b, k, dtype=torch.int64 if bits == 64 else torch.int32)
    rank = s.new_empty(b, k, dtype=torch.int32)
    count = s.new_empty(chunks, DIGITS.value, k, dtype=torch.int32)
    of_chunks = (s, rows.graph_stride(s), s.stride(-2))
    tiles = {"CHUNK": chunk, "BN": cut.bn, "BK": cut.bk, "num_warps": cut.warps}
    for shift in range(bits - DIGIT.value, -1, -DIGIT.value):
        lowest = -(1 << (bits - 1)) if shift == bits - DIGIT.value else None
        launch(
            _asymmetric_norm_count_fwd_kernel, (chunks, cdiv(k, cut.bk)),
            *of_chunks, None if lowest else prefix, count, shift, *rows.arguments, rows.clusters, k,
            **tiles,
        )  # fmt: skip
        launch(
            _asymmetric_norm_digit_fwd_kernel, (b, cdiv(k, cut.bc)),
            count, prefix, rank, shift, *where, k, CHUNK=chunk, BS=cut.bs, BK=cut.bc, LOWEST=lowest, num_warps=4,
        )  # fmt: skip
    parts = s.new_empty(chunks, 2, k, dtype=torch.float64)
    part_rows = s.new_empty(chunks, k, dtype=torch.int32)
    launch(
        _asymmetric_norm_sums_fwd_kernel, (chunks, cdiv(k, cut.bk)),
        *of_chunks, prefix, parts, part_rows, *rows.arguments, rows.clusters, k,
        **tiles, ACC=language_type(outputs[0].dtype),
    )  # fmt: skip
    launch(
        _asymmetric_norm_reduce_fwd_kernel, (b, cdiv(k, cut.bc)),
        parts, part_rows, prefix, *outputs, *where, k, CHUNK=chunk, BS=cut.bs, BK=cut.bc, num_warps=4,
    )  # fmt: skip
