"""The record of soft pooling from the partial sums of chunks."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.chunks import (
    first_chunk,
    graph_rows,
)
from hierpool_kernels.core.clusters import column_count, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.row_sums import SUMS
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import (
    gather_tile,
    slice_ptr,
    store_tile,
)
from hierpool_kernels.soft_pool import Options, Outputs, mean_divisors
from hierpool_kernels.soft_pool_partial import Division, Partial

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _sum_of_chunks(p_part, count, width, o_q, m_q, total, BS: tl.constexpr):
    """``total`` and elements ``o_q`` of ``count`` partial sums, ``width`` elements apart, in their order; BS of them
    are loaded before the first is added."""
    for i_s in range(0, count, BS):
        for i in tl.static_range(BS):
            p_chunk = slice_ptr(p_part, i_s + i, width)
            total += tl.load(p_chunk + o_q, mask=m_q & (i_s + i < count), other=0)
    return total


@triton.jit
def _reduce_symmetric(
    p_part, count, width, p_out, p_squares, i_t, K, clusters, BQ: tl.constexpr, BS: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """Tile ``i_t`` of BQ x BQ elements of a symmetric matrix [K, K] and its mirror image, of which only elements on or
    above the diagonal are read, and the sum of their squares in float64; nothing and 0 for a tile below it."""
    across = tl.cdiv(K, BQ)
    i_row = i_t // across * BQ
    i_col = i_t % across * BQ
    o_row = i_row + tl.arange(0, BQ)
    o_col = i_col + tl.arange(0, BQ)
    squares = tl.zeros((), tl.float64)
    if i_row <= i_col:
        if clusters is not None:
            count = tl.where(i_col < clusters, count, 0)
        columns = column_count(clusters, K)
        m_q = (o_row < columns)[:, None] & (o_col < columns)[None, :]
        total = tl.zeros([BQ, BQ], ACC)
        total = _sum_of_chunks(p_part, count, width, o_row[:, None] * K + o_col[None, :], m_q, total, BS)
        turned = tl.trans(total)
        if i_row < i_col:
            store_tile(p_out, i_col, K, i_row, o_col < K, o_row < K, turned, BQ, BQ)
        else:
            total = tl.where(o_row[:, None] <= o_col[None, :], total, turned)
        store_tile(p_out, i_row, K, i_col, o_row < K, o_col < K, total, BQ, BQ)
        if p_squares is not None:
            double = total.to(tl.float64)
            squares = tl.sum(tl.sum(double * double, 1), 0) * tl.where(i_row < i_col, 2, 1)
    if p_squares is not None:
        tl.store(p_squares + i_t, squares)


@triton.jit(
    do_not_specialize=[
        "N", "B", "K_TILES", "ADJ_TILES", "GRAM_TILES", "X_TILES", "VECTOR_TILES", "CHUNK_ROWS", "CHUNK_PRODUCTS",
        "CHUNK_ADJ",
    ]
)  # fmt: skip
def _soft_pool_reduce_fwd_kernel(
    part_adj_ptr, part_gram_ptr, part_x_ptr, part_vectors_ptr, part_sums_ptr,
    adj_ptr, gram_ptr, x_ptr, vectors_ptr, sums_ptr, gram_squares_ptr,
    ptr, sizes, N, B, clusters_ptr, R, K, F, K_TILES, ADJ_TILES, GRAM_TILES, X_TILES, VECTOR_TILES,
    CHUNK_ROWS, CHUNK_PRODUCTS, CHUNK_ADJ,
    BK: tl.constexpr, BS: tl.constexpr, BQ: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The record of each graph from the partial sums of its chunks, in their order.

    adj [B, R, K, K], gram [B, K, K], x [B, K, F], vectors [B, 1 + R, K]; sums [B, R, SUMS] and the squared norm of
    gram by tiles, gram_squares [B, GRAM_TILES], in float64. 0 in rows and columns that are no clusters.
    A program for a graph and BQ x BQ elements of one of these, a tile of a symmetric matrix and elements in their order
    of the others; the last program of a graph is for the sums, of which there are those of K_TILES tiles of BK columns.
    Sums in ACC. With SYMMETRIC adj is symmetric to the last bit, as gram always is.
    """
    tiles = ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES + 1
    i_b = tl.program_id(0) // tiles
    i_t = tl.program_id(0) % tiles
    b = i_b.to(tl.int64)
    first, end = graph_rows(i_b, ptr, sizes, N)
    nodes = end - first
    chunk = first_chunk(i_b, ptr, N, CHUNK_ROWS)
    count = tl.cdiv(nodes, CHUNK_ROWS)
    chunk_products = first_chunk(i_b, ptr, N, CHUNK_PRODUCTS)
    count_products = tl.cdiv(nodes, CHUNK_PRODUCTS)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    columns = column_count(clusters, K)
    o_i = tl.arange(0, BQ * BQ)
    zero = tl.zeros([BQ * BQ], ACC)
    if i_t < ADJ_TILES:
        p_part = slice_ptr(part_adj_ptr, first_chunk(i_b, ptr, N, CHUNK_ADJ), R * K * K)
        count_adj = tl.cdiv(nodes, CHUNK_ADJ)
        p_adj = slice_ptr(adj_ptr, b, R * K * K)
        if SYMMETRIC:
            of_type = ADJ_TILES // R
            p_part += i_t // of_type * K * K
            p_adj += i_t // of_type * K * K
            _reduce_symmetric(
                p_part, count_adj, R * K * K, p_adj, None, i_t % of_type, K, clusters, BQ, BS, ACC
            )
        else:
            o_q = i_t * BQ * BQ + o_i
            m_q = o_q < R * K * K
            m_sum = m_q
            if clusters is not None:
                m_sum = m_q & (o_q // K % K < clusters) & (o_q % K < clusters)
            tl.store(
                p_adj + o_q, _sum_of_chunks(p_part, count_adj, R * K * K, o_q, m_sum, zero, BS), mask=m_q
            )
    elif i_t < ADJ_TILES + GRAM_TILES:
        _reduce_symmetric(
            slice_ptr(part_gram_ptr, chunk_products, K * K), count_products, K * K, slice_ptr(gram_ptr, b, K * K),
            gram_squares_ptr + b * GRAM_TILES, i_t - ADJ_TILES, K, clusters, BQ, BS, ACC,
        )  # fmt: skip
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES) * BQ * BQ + o_i
        p_part = slice_ptr(part_x_ptr, chunk_products, K * F)
        total = _sum_of_chunks(p_part, count_products, K * F, o_q, o_q < columns * F, zero, BS)
        tl.store(slice_ptr(x_ptr, b, K * F) + o_q, total.to(x_ptr.dtype.element_ty), mask=o_q < K * F)
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES - X_TILES) * BQ * BQ + o_i
        m_q = o_q < (1 + R) * K
        m_sum = m_q
        if clusters is not None:
            m_sum = m_q & (o_q % K < clusters)
        p_part = slice_ptr(part_vectors_ptr, chunk, (1 + R) * K)
        total = _sum_of_chunks(p_part, count, (1 + R) * K, o_q, m_sum, zero, BS)
        tl.store(slice_ptr(vectors_ptr, b, (1 + R) * K) + o_q, total, mask=m_q)
    else:
        written = K_TILES
        if clusters is not None:
            written = tl.cdiv(clusters, BK)
        _reduce_sums(part_sums_ptr, chunk, count, sums_ptr, b, R, K_TILES, written)


@triton.jit
def _reduce_sums(part_sums_ptr, chunk, count, sums_ptr, b, R, K_TILES, written, BS: tl.constexpr = 16):
    """The sums of a graph, of the ``written`` of K_TILES tiles of columns, BS chunks at a time."""
    o_i = tl.arange(0, 8)
    for i_r in range(R):
        total = tl.zeros([8], tl.float64)
        for i_k in range(written):
            o_q = (i_r * K_TILES + i_k) * SUMS + o_i
            for i_s in range(0, count, BS):
                o_s = i_s + tl.arange(0, BS)
                width = R * K_TILES * SUMS
                part = gather_tile(part_sums_ptr, chunk + o_s, width, o_q, o_s < count, o_i < SUMS)
                total += tl.sum(part, 0)
        tl.store(sums_ptr + (b * R + i_r) * SUMS + o_i, total, mask=o_i < SUMS)


@triton.jit(do_not_specialize=["N", "B", "R", "GRAM_TILES"])
def _soft_pool_scalars_fwd_kernel(
    sums_ptr, gram_squares_ptr, scalars_ptr, total_entropy_ptr, link_norm_ptr, largest_ptr, N, B, R, GRAM_TILES,
    BB: tl.constexpr, BT: tl.constexpr, LINK: tl.constexpr, ENTROPY: tl.constexpr, MEAN: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """|A| and |A - S S^T| of each graph, the latter the root of max(0, |A|^2 - 2 tr(adj) + |gram|^2); link_norm, the
    root of the sum of the squares; total entropy.

    sums [B, R, SUMS], gram_squares [B, GRAM_TILES], scalars [B, 2 + 4R], link_norm [R].
    One program for each edge type, BB graphs at a time, in their order, of each BT tiles of gram at a time.
    In float64, which has room for the squares, one of which is a difference of large sums.
    """
    i_r = tl.program_id(0)
    link_total = tl.zeros([BB], tl.float64)
    entropy_total = tl.zeros([BB], tl.float64)
    for i_b in range(0, B, BB):
        o_b = i_b + tl.arange(0, BB)
        m_b = o_b < B
        o_b = o_b.to(tl.int64)
        p_sums = sums_ptr + (o_b * R + i_r) * SUMS
        adj_sq = tl.load(p_sums + 3, mask=m_b, other=0)
        p_out = scalars_ptr + o_b * (2 + 4 * R)
        if i_r == 0:
            entropy = tl.load(p_sums + 1, mask=m_b, other=0)
            entropy_total += entropy
            if not ENTROPY:
                entropy = tl.full([BB], float("nan"), tl.float64)
            tl.store(p_out, tl.load(p_sums, mask=m_b, other=0).to(ACC), mask=m_b)
            tl.store(p_out + 1, entropy.to(ACC), mask=m_b)
        tl.store(p_out + 2 + i_r, tl.load(p_sums + 2, mask=m_b, other=0).to(ACC), mask=m_b)
        tl.store(p_out + 2 + R + i_r, tl.sqrt(adj_sq).to(ACC), mask=m_b)
        tl.store(p_out + 2 + 2 * R + i_r, tl.load(p_sums + 4, mask=m_b, other=0).to(ACC), mask=m_b)
        link = tl.full([BB], float("nan"), tl.float64)
        if LINK:
            gram_sq = tl.zeros([BB], tl.float64)
            for i_t in range(0, GRAM_TILES, BT):
                o_t = i_t + tl.arange(0, BT)
                squares = gather_tile(gram_squares_ptr, o_b, GRAM_TILES, o_t, m_b, o_t < GRAM_TILES)
                gram_sq += tl.sum(squares, 1)
            link = adj_sq - 2 * tl.load(p_sums + 5, mask=m_b, other=0) + gram_sq
            link = tl.where(link < 0, 0.0, link)  # NaN stays NaN
            link_total += tl.where(m_b, link, 0.0)
        tl.store(p_out + 2 + 3 * R + i_r, tl.sqrt(link).to(ACC), mask=m_b)
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


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_reduce(
    out: Outputs, partial: Partial, planned: Division, rows: Rows, symmetric: bool, options: Options,
    acc: torch.dtype, target: Target,
) -> None:  # fmt: skip
    """The record from the partial sums of chunks."""
    (b, k, f), r, acc_type = out.x.shape, out.vectors.size(1) - 1, language_type(acc)
    walk, cut, tiles = planned.walk, planned.cut, planned.tiles
    launch(
        _soft_pool_reduce_fwd_kernel, (b * (sum(tiles) + 1),),
        partial.adj, partial.gram, partial.x, partial.vectors, partial.sums,
        out.adj, out.gram, out.x, out.vectors, partial.graph_sums, partial.squares,
        rows.ptr, rows.sizes, rows.n, b, rows.clusters, r, k, f, planned.k_tiles, *tiles,
        walk.chunk, planned.chunk, planned.adj_chunk,
        BK=0 if rows.clusters is None else walk.tiles.bk, BS=cut.bs, BQ=cut.bq, SYMMETRIC=symmetric, ACC=acc_type,
        num_warps=cut.warps, **plan.registers(cut.warps, target),
    )  # fmt: skip
    launch_scalars(out, partial.graph_sums, partial.squares, tiles[1], rows, options, acc, target)


def launch_scalars(
    out: Outputs, sums: Tensor, squares: Tensor, gram_tiles: int, rows: Rows, options: Options, acc: torch.dtype,
    target: Target,
) -> None:  # fmt: skip
    """The scalars, the total entropy and the link norm from the sums of graphs."""
    r, (bb, bt) = out.vectors.size(1) - 1, plan.graphs_and_tiles(gram_tiles, target)
    launch(
        _soft_pool_scalars_fwd_kernel, (r,),
        sums, squares, out.scalars, out.total_entropy, out.link_norm, rows.largest() if options.mean else None,
        rows.n, rows.b, r, gram_tiles,
        BB=bb, BT=bt, LINK=options.link, ENTROPY=options.entropy, MEAN=options.mean,
        ACC=language_type(acc), num_warps=4,
    )  # fmt: skip
