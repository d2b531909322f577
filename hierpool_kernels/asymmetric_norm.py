"""The balance term of the asymmetric Cheeger cut: quantiles of columns, sums over them, and the gradient.

One program finds the bits of a quantile one at a time, from the highest down, where it has all rows of a graph. Many
programs count in chunks of rows of larger graphs: ``asymmetric_norm_radix.py``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.asymmetric_norm_radix import launch_radix_select
from hierpool_kernels.core import plan_losses
from hierpool_kernels.core.chunks import chunk_rows, graph_rows, valid_rows
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.quantiles import key_tile, lowest_key, slopes, store_results, tile_sums
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, language_type
from hierpool_kernels.core.tiles import load_tile, slice_ptr, store_tile

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["N"])
def _asymmetric_norm_fwd_kernel(
    s_ptr, s_graph, s_row, norm_ptr, quantile_ptr, row_ptr, slope_ptr, ptr, sizes, mask_ptr, N, clusters_ptr, K,
    BN: tl.constexpr, BK: tl.constexpr, ONE_TILE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """q, norm = sum asym(s - q), slope = dnorm / dq and the first row that has q, for each column.

    S [B, N, K]; norm, q, row, slope [B, K].
    A program for a graph and BK columns, whose first BN rows stay on the chip; others, which there are none of with
    ONE_TILE, are read again for every bit. Programs of columns that are no clusters have no rows.
    Sums over a tile in ACC, over tiles in float64.
    """
    i_b = tl.program_id(0)
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    m_k = o_k < K
    TYPE: tl.constexpr = s_ptr.dtype.element_ty
    BITS: tl.constexpr = TYPE.primitive_bitwidth
    first, end = graph_rows(i_b, ptr, sizes, N)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    count_k = column_count(clusters, K)
    if clusters is not None:
        end = tl.where(i_k < clusters, end, first)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    key, m_n = key_tile(p_s, s_row, first, i_k, end, m_k, p_mask, BN, BK)
    nodes = m_n.to(tl.int32)
    if not ONE_TILE:
        for i_n in range(first + BN, end, BN):
            nodes += valid_rows(i_n + tl.arange(0, BN), end, p_mask).to(tl.int32)
    n = tl.sum(nodes, 0)
    rank = tl.minimum(n // count_k, n - 1)
    quantile = tl.full([BK], 0, key.dtype) + lowest_key(s_ptr)
    for i_bit in range(0, BITS):
        higher = quantile + (tl.full((), 1, key.dtype) << (BITS - 1 - i_bit))  # the first time, 0
        count = tl.sum((key >= higher[None, :]).to(tl.int32), 0)
        if not ONE_TILE:
            for i_n in range(first + BN, end, BN):
                more, _ = key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
                count += tl.sum((more >= higher[None, :]).to(tl.int32), 0)
        quantile = tl.where(count > rank, higher, quantile)
    o_n = tl.arange(0, BN)
    norm, slope, row = tile_sums(key, quantile, o_n, m_n, count_k, TYPE, ACC)
    if not ONE_TILE:
        for i_n in range(first + BN, end, BN):
            more, m_more = key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN, BK)
            sums = tile_sums(more, quantile, i_n - first + o_n, m_more, count_k, TYPE, ACC)
            norm += sums[0]
            slope += sums[1]
            row = tl.minimum(row, sums[2])
    store_results(
        norm_ptr, quantile_ptr, row_ptr, slope_ptr, i_b, o_k, clusters, K, norm, quantile, row, slope, TYPE
    )


@triton.jit(do_not_specialize=["N", "B"])
def _asymmetric_norm_bwd_kernel(
    dnorm_ptr, s_ptr, s_graph, s_row, quantile_ptr, row_ptr, slope_ptr, out_ptr, out_graph,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, K,
    BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dS = dnorm asym'(s - q), and dnorm slope more in the first row that has q.

    S, dS [B, N, K]; q, row, slope [B, K]; dnorm [B].
    A program for a chunk of BN rows of a graph and BK columns. Rows that are not valid and columns that are no clusters
    get 0.
    In ACC.
    """
    i_b, begin, _, last, m_n = chunk_rows(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
    if begin >= last:
        return
    i_k = tl.program_id(1) * BK
    o_k = i_k + tl.arange(0, BK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    m_k = column_mask(o_k, clusters, K)
    o_n = begin + tl.arange(0, BN)
    first, _ = graph_rows(i_b, ptr, sizes, N)
    at = i_b.to(tl.int64) * K + o_k
    quantile = tl.load(quantile_ptr + at, mask=m_k, other=0).to(ACC)
    row = tl.load(row_ptr + at, mask=m_k, other=-1)
    through = tl.load(slope_ptr + at, mask=m_k, other=0)
    s = load_tile(slice_ptr(s_ptr, i_b, s_graph), begin, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    slope = slopes(s - quantile[None, :], column_count(clusters, K))
    slope += tl.where((o_n - first)[:, None] == row[None, :], through[None, :], 0.0)
    ds = tl.where(m_n[:, None], tl.load(dnorm_ptr + i_b) * slope, 0.0)
    if clusters is not None:
        ds = tl.where((o_k < clusters)[None, :], ds, 0.0)
    store_tile(slice_ptr(out_ptr, i_b, out_graph), begin, K, i_k, o_n < last, o_k < K, ds, BN, BK)


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
    cut = plan_losses.quantile(b, rows.n, k, rows.ptr is not None, target)
    if cut.chunk:
        launch_radix_select(s, rows, cut, outputs)
    else:
        launch(
            _asymmetric_norm_fwd_kernel, (b, cdiv(k, cut.bk)),
            s, rows.graph_stride(s), s.stride(-2), *outputs, rows.ptr, rows.sizes, rows.mask, rows.n, rows.clusters,
            k,
            BN=cut.bn, BK=cut.bk, ONE_TILE=cut.one_tile, ACC=language_type(acc), num_warps=cut.warps,
        )  # fmt: skip
    return norms.sum(1), quantile, row, slope


def launch_asymmetric_norm_bwd(
    dnorm: Tensor, s: Tensor, quantile: Tensor, row: Tensor, slope: Tensor, rows: Rows, target: Target
) -> Tensor:
    """The gradient to S, from one launch."""
    s = contiguous_rows(s)
    k, (bn, bk) = s.size(-1), plan_losses.quantile_backward(s.size(-1), target)
    out = rows.empty(s, k)
    saved = (quantile.contiguous(), row.contiguous(), slope.contiguous())
    launch(
        _asymmetric_norm_bwd_kernel, (rows.chunks(bn), cdiv(k, bk)),
        dnorm.contiguous(), s, rows.graph_stride(s), s.stride(-2), *saved, out, rows.graph_stride(out),
        *rows.arguments, rows.clusters, k, BN=bn, BK=bk, ACC=language_type(slope.dtype), num_warps=4,
    )  # fmt: skip
    return out
