"""The forward of soft pooling: one walk over A, products with S, and the record from partial sums."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan, tuned
from hierpool_kernels.core.adjacency import Csr, Dense, factor_dtype
from hierpool_kernels.core.chunks import (
    first_chunk,
    graph_rows,
    graph_slice,
    locate_chunk,
    swizzled_program_ids,
    valid_rows,
)
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows, chunk_count
from hierpool_kernels.core.rows_of_a import (
    dense_rows,
    scaled_squares_of_dense,
    scaled_squares_of_entries,
    sparse_rows,
    whole_columns,
)
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, language_type, workspace
from hierpool_kernels.core.tiles import dot, gather_tile, load_tile, slice_ptr, store_tile
from hierpool_kernels.soft_pool import SUMS, Options, Outputs, mean_divisors
from hierpool_kernels.soft_pool_small import launch_small_fwd, small_tiles
from hierpool_kernels.soft_pool_softmax import launch_softmax_fwd
from hierpool_kernels.spmm import launch_long_rows

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_rows_fwd_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_type, a_row, a_col,
    rowptr, col_ptr, value_ptr, carry_ptr, carry_sums_ptr,
    m_ptr, m_graph, m_type, part_adj_ptr, part_vectors_ptr, part_sums_ptr,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, R, K,
    CHUNK: tl.constexpr, BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr,
    LONGEST: tl.constexpr, AHEAD: tl.constexpr, ON_CHIP: tl.constexpr, ENTROPY: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr, PRODUCT: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """M = A S, and of each chunk S^T M (if ON_CHIP), S^T 1, S^T d, and the sums behind the scalars of the record.

    S [B, N, K]; A [B, R, N, N], or sparse [N, N]; M [B, R, N, K], or None if it is not needed; partial sums
    part_adj [chunks, R, K, K], part_vectors [chunks, 1 + R, K], part_sums [chunks, R, K / BK, SUMS].
    A program for a chunk of CHUNK rows of a graph, an edge type and BK columns of S, BN rows at a time: rows of M
    stay on the chip until they are multiplied by S^T. A is read K / BK times, S once for each BN rows of A. Programs of
    columns that are no clusters write nothing.
    Sums in ACC, those of the scalars over chunks in float64. Squares that leave the range of ACC are summed again.
    """
    i_chunk, i_k, i_r = swizzled_program_ids()
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    i_col = i_k * BK
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and i_col >= clusters:
        return
    if begin >= end:  # last, so that the compiler knows that there are rows: it spills otherwise
        return
    o_k = i_col + tl.arange(0, BK)
    m_k = column_mask(o_k, clusters, K)
    p_s = slice_ptr(s_ptr, i_b, s_graph)  # with `graph_slice`, a sparse A of K = 512 spills on sm_100
    p_mask = slice_ptr(mask_ptr, i_b, N)
    if a_ptr is not None:
        p_a = slice_ptr(a_ptr, i_b, a_graph) + i_r.to(tl.int64) * a_type
    if m_ptr is not None:
        p_m = graph_slice(m_ptr, i_b, m_graph, ptr) + i_r.to(tl.int64) * m_type
    adj = tl.zeros([BK, BK], ACC)
    size = tl.zeros([BK], ACC)
    volume = tl.zeros([BK], ACC)
    nodes = tl.zeros([BN], ACC)
    entropy = tl.zeros([BN], ACC)
    cut = tl.zeros([BN], ACC)
    squares = tl.zeros([BN], ACC)
    degrees = tl.zeros([BN], ACC)
    trace = tl.zeros([BN], ACC)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        if a_ptr is not None:
            whole = whole_columns(mask_ptr, i_b, N, end, BJ, VECTOR)
            m, degree, square = dense_rows(
                p_a, a_row, a_col, p_s, s_row, p_mask, i_n, m_n, i_col, m_k, whole, end,
                BN, BJ, BK, ACC, PRECISION, VECTOR,
            )  # fmt: skip
        else:
            m, degree, square = sparse_rows(
                rowptr, col_ptr, value_ptr, p_s, s_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
                BN, BK, LONGEST, AHEAD, ACC,
            )  # fmt: skip
        if m_ptr is not None:
            store_tile(p_m, i_n, K, i_col, m_n, m_k, m, BN, BK)
        s = load_tile(p_s, i_n, s_row, i_col, m_n, m_k, BN, BK)
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
    chunk = i_chunk.to(tl.int64)
    if ON_CHIP:
        p_adj = part_adj_ptr + (chunk * R + i_r) * K * K
        store_tile(p_adj, i_col, K, i_col, m_k, m_k, adj, BK, BK)
    p_vectors = part_vectors_ptr + chunk * (1 + R) * K + o_k
    if i_r == 0:
        tl.store(p_vectors, size, mask=m_k)
    tl.store(p_vectors + (1 + i_r) * K, volume, mask=m_k)
    # Sums over columns of S are partial in each program of a row; sums over rows of A are the same in all of them.
    once = (i_k == 0).to(tl.float64)
    of_s = (i_r == 0).to(tl.float64)
    p_sums = part_sums_ptr + ((chunk * R + i_r) * tl.num_programs(1) + i_k) * SUMS
    tl.store(p_sums, tl.sum(nodes, 0).to(tl.float64) * once * of_s)
    tl.store(p_sums + 1, tl.sum(entropy.to(tl.float64), 0) * of_s)
    tl.store(p_sums + 2, tl.sum(cut.to(tl.float64), 0))
    tl.store(p_sums + 4, tl.sum(degrees.to(tl.float64), 0) * once)
    tl.store(p_sums + 5, tl.sum(trace.to(tl.float64), 0))
    square = tl.sum(squares.to(tl.float64), 0)
    if (i_k == 0) & ((square == float("inf")) | (square < 1e-26)):
        # Squares of weights above 1e19 or below 1e-13: again, of weights that are multiplied by a power of two.
        stop = tl.minimum(begin + CHUNK, end)
        large = square == float("inf")
        scale = tl.where(large, 2.0**-64, 2.0**64)
        back = tl.where(large, tl.full((), 2.0**128, tl.float64), tl.full((), 2.0**-128, tl.float64))
        if a_ptr is not None:
            square = back * scaled_squares_of_dense(
                p_a, a_row, a_col, p_mask, begin, stop, end, scale, BN, BJ, ACC, VECTOR
            )
        elif value_ptr is not None:
            square = back * scaled_squares_of_entries(value_ptr, rowptr, begin, stop, scale, ACC)
    tl.store(p_sums + 3, square * once)


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_products_fwd_kernel(
    s_ptr, s_graph, s_row, y_ptr, y_graph, y_row, part_ptr, part_chunk, ptr, sizes, mask_ptr, N, B, clusters_ptr, K, C,
    CHUNK: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, SQUARE: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """S^T Y of each chunk, Y on valid rows only.

    S [B, N, K], Y [B, N, C]: X, or M or S itself, which are SQUARE; part [chunks, .., K, C].
    A program for a chunk of CHUNK rows of a graph, BK rows and BC columns of the product, BN rows at a time. Programs
    of rows or columns that are no clusters write nothing.
    Sums in ACC.
    """
    i_chunk, i_k, i_c = swizzled_program_ids()
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    if begin >= end:
        return
    i_k *= BK
    i_c *= BC
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and (i_k >= clusters) | (SQUARE & (i_c >= clusters)):
        return
    m_k = column_mask(i_k + tl.arange(0, BK), clusters, K)
    m_c = column_mask(i_c + tl.arange(0, BC), clusters if SQUARE else None, C)
    p_s = graph_slice(s_ptr, i_b, s_graph, ptr)
    p_y = graph_slice(y_ptr, i_b, y_graph, ptr)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    total = tl.zeros([BK, BC], ACC)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
        s = load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK)
        y = load_tile(p_y, i_n, y_row, i_c, m_n, m_c, BN, BC)
        total = dot(tl.trans(s), y, total, PRECISION)
    store_tile(slice_ptr(part_ptr, i_chunk, part_chunk), i_k, C, i_c, m_k, m_c, total, BK, BC)


@triton.jit
def _sum_chunks(
    part_ptr, chunk, count, o_q, m_q, WIDTH, clusters,
    BS: tl.constexpr, BQ: tl.constexpr, TYPE: tl.constexpr,
):  # fmt: skip
    """The sum over ``count`` chunks from ``chunk`` on of elements ``o_q`` of ``[chunks, WIDTH]``, 0 where ``m_q`` is
    False, which it may be for all elements of a program only with ``clusters``."""
    total = tl.zeros([BQ], TYPE)
    if clusters is not None:
        count = tl.where(tl.max(m_q.to(tl.int32), 0) > 0, count, 0)
    for i_s in range(0, count, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.sum(gather_tile(part_ptr, chunk + o_s, WIDTH, o_q, o_s < count, m_q).to(TYPE), 0)
    return total


@triton.jit
def _square_position(o_q, K, MIRROR: tl.constexpr):
    """The offset of element ``o_q`` of matrices ``[.., K, K]``; with MIRROR, of its mirror image above the diagonal."""
    if MIRROR:
        o_matrix = o_q // (K * K)
        o_row = o_q // K % K
        o_col = o_q % K
        return o_matrix * K * K + tl.minimum(o_row, o_col) * K + tl.maximum(o_row, o_col)
    else:
        return o_q


@triton.jit
def _exists(o_q, m_q, K, clusters):
    """``m_q``, False for elements ``o_q`` of matrices ``[.., K, K]`` in rows or columns that are no clusters."""
    if clusters is not None:
        m_q = m_q & (o_q // K % K < clusters) & (o_q % K < clusters)
    return m_q


@triton.jit(do_not_specialize=["N", "B", "K_TILES", "ADJ_TILES", "GRAM_TILES", "X_TILES", "VECTOR_TILES"])
def _soft_pool_reduce_fwd_kernel(
    part_adj_ptr, part_gram_ptr, part_x_ptr, part_vectors_ptr, part_sums_ptr,
    adj_ptr, gram_ptr, x_ptr, vectors_ptr, sums_ptr, gram_squares_ptr,
    ptr, sizes, N, B, clusters_ptr, R, K, F, K_TILES, ADJ_TILES, GRAM_TILES, X_TILES, VECTOR_TILES,
    CHUNK_ROWS: tl.constexpr, CHUNK_PRODUCTS: tl.constexpr, CHUNK_ADJ: tl.constexpr, BK: tl.constexpr,
    BS: tl.constexpr, BQ: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The record of each graph from the partial sums of its chunks, in their order.

    adj [B, R, K, K], gram [B, K, K], x [B, K, F], vectors [B, 1 + R, K]; sums [B, R, SUMS] and the squared norm of
    gram by tiles, gram_squares [B, GRAM_TILES], in float64. 0 in rows and columns that are no clusters.
    A program for a graph and BQ elements of one of these; the last program of a graph is for the sums, of which there
    are those of K_TILES tiles of BK columns.
    Sums in ACC. With SYMMETRIC adj is symmetric to the last bit, as gram always is.
    """
    tiles = ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES + 1
    i_b = tl.program_id(0) // tiles
    i_t = tl.program_id(0) % tiles
    b = i_b.to(tl.int64)
    first, end = graph_rows(i_b, ptr, sizes, N)
    nodes = end - first
    o_i = tl.arange(0, BQ)
    chunk = first_chunk(i_b, ptr, N, CHUNK_ROWS)
    count = tl.cdiv(nodes, CHUNK_ROWS)
    chunk_products = first_chunk(i_b, ptr, N, CHUNK_PRODUCTS)
    count_products = tl.cdiv(nodes, CHUNK_PRODUCTS)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if i_t < ADJ_TILES:
        o_q = i_t * BQ + o_i
        m_q = o_q < R * K * K
        at = _square_position(o_q, K, SYMMETRIC)
        m_sum = _exists(o_q, m_q, K, clusters)
        chunk_adj = first_chunk(i_b, ptr, N, CHUNK_ADJ)
        count_adj = tl.cdiv(nodes, CHUNK_ADJ)
        total = _sum_chunks(part_adj_ptr, chunk_adj, count_adj, at, m_sum, R * K * K, clusters, BS, BQ, ACC)
        tl.store(adj_ptr + b * R * K * K + o_q, total, mask=m_q)
    elif i_t < ADJ_TILES + GRAM_TILES:
        i_q = i_t - ADJ_TILES
        o_q = i_q * BQ + o_i
        m_q = o_q < K * K
        at = _square_position(o_q, K, True)
        m_sum = _exists(o_q, m_q, K, clusters)
        total = _sum_chunks(
            part_gram_ptr, chunk_products, count_products, at, m_sum, K * K, clusters, BS, BQ, ACC
        )
        tl.store(gram_ptr + b * K * K + o_q, total, mask=m_q)
        double = total.to(tl.float64)
        tl.store(gram_squares_ptr + b * GRAM_TILES + i_q, tl.sum(double * double, 0))
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES) * BQ + o_i
        m_q = o_q < K * F
        m_sum = o_q < column_count(clusters, K) * F
        total = _sum_chunks(
            part_x_ptr, chunk_products, count_products, o_q, m_sum, K * F, clusters, BS, BQ, ACC
        )
        tl.store(x_ptr + b * K * F + o_q, total.to(x_ptr.dtype.element_ty), mask=m_q)
    elif i_t < ADJ_TILES + GRAM_TILES + X_TILES + VECTOR_TILES:
        o_q = (i_t - ADJ_TILES - GRAM_TILES - X_TILES) * BQ + o_i
        m_q = o_q < (1 + R) * K
        m_sum = m_q
        if clusters is not None:
            m_sum = m_q & (o_q % K < clusters)
        total = _sum_chunks(part_vectors_ptr, chunk, count, o_q, m_sum, (1 + R) * K, clusters, BS, BQ, ACC)
        tl.store(vectors_ptr + b * (1 + R) * K + o_q, total, mask=m_q)
    else:
        o_r = tl.arange(0, 8)
        written = K_TILES
        if clusters is not None:
            written = tl.cdiv(clusters, BK)
        for i_r in range(R):
            total = tl.zeros([8], tl.float64)
            for i_k in range(written):
                o_q = (i_r * K_TILES + i_k) * SUMS + o_r
                width = R * K_TILES * SUMS
                total += _sum_chunks(
                    part_sums_ptr, chunk, count, o_q, o_r < SUMS, width, None, BS, 8, tl.float64
                )
            tl.store(sums_ptr + (b * R + i_r) * SUMS + o_r, total, mask=o_r < SUMS)


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


class _Plan(NamedTuple):
    """How A, and rows for the products with S, are divided, and what the partial sums need."""

    walk: plan.WalkTiles
    sparse: plan.SparseTiles | None
    precision: str
    k_tiles: int
    chunk: int  # of the products
    adj_chunk: int  # of S^T M
    cut: plan.ReduceTiles
    tiles: tuple[int, ...]  # of S^T M, S^T S, S^T X and the vectors, in the sums over chunks
    sizes: tuple[int, ...]  # of the first fields of `_Partial`
    doubles: tuple[int, ...]  # of the others


@tuned.kept
def _planned(
    k: int, f: int, r: int, b: int, n: int, ragged: bool, entries: int, factor: torch.dtype, s: torch.dtype,
    gram: bool, target: Target,
) -> _Plan:  # fmt: skip
    """``entries`` are those of a sparse A, of a ragged batch; ``factor``: the dtype in which A is multiplied by S."""
    sparse, precision = None, "ieee"
    if ragged:
        walk, sparse = plan.sparse_rows(b, n, entries, k, target)
    else:
        precision = plan.product_precision(factor, s, target)
        walk = plan.dense_rows(b, n, r, k, precision, target)
    chunk = plan.products_chunk(b, n, k, min(f, k) or k, ragged, target)
    k_tiles, gram_size = cdiv(k, walk.tiles.bk), k if gram else 0
    adj_chunk = walk.chunk if walk.on_chip else chunk
    chunks, adj_chunks, walks = (chunk_count(b, n, ragged, size) for size in (chunk, adj_chunk, walk.chunk))
    cut = plan.reduce(k * max(r * k, f), target)
    pooled = r * k * k, gram_size * gram_size, k * f, (1 + r) * k
    tiles = tuple(cdiv(size, cut.bq) for size in pooled)
    sizes = adj_chunks * pooled[0], chunks * pooled[1], chunks * pooled[2], walks * pooled[3]
    doubles = walks * r * k_tiles * SUMS.value, b * r * SUMS.value, b * tiles[1]
    return _Plan(walk, sparse, precision, k_tiles, chunk, adj_chunk, cut, tiles, sizes, doubles)


class _Partial(NamedTuple):
    """Flat partial sums of chunks, then sums of graphs in float64."""

    adj: Tensor  # [chunks, R, K, K]
    gram: Tensor  # [chunks, K, K]
    x: Tensor  # [chunks, K, F]
    vectors: Tensor  # [chunks of the walk, 1 + R, K]
    sums: Tensor  # [chunks of the walk, R, tiles of K, SUMS]
    graph_sums: Tensor  # [B, R, SUMS]
    squares: Tensor  # [B, tiles of the gram]


def _walk(
    s: Tensor, edges: Dense | Csr, m: Tensor | None, rows: Rows, entropy: bool, acc: torch.dtype, planned: _Plan,
    partial: _Partial, target: Target,
) -> None:  # fmt: skip
    """M = A S into ``m``, and the partial sums that need rows of M or A."""
    k, r = s.size(-1), edges.types
    walk, sparse, precision, k_tiles, *_ = planned
    tiles = walk.tiles
    carry: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(edges, Csr):
        assert sparse is not None
        carry = launch_long_rows(edges.rowptr, edges.col, edges.value, s, acc, sparse, rows)
    m_strides = (0, 0) if m is None or rows.ptr is not None else (m.stride(0), m.stride(1))
    launch(
        _soft_pool_rows_fwd_kernel, (rows.chunks(walk.chunk), k_tiles, r),
        s, rows.graph_stride(s), k, *edges.arguments(4), *carry, m, *m_strides,
        partial.adj, partial.vectors, partial.sums, *rows.arguments, rows.clusters, r, k,
        CHUNK=walk.chunk, BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, LONGEST=sparse.longest if sparse else 0,
        AHEAD=sparse.ahead if sparse else 1, ON_CHIP=walk.on_chip, ENTROPY=entropy, ACC=language_type(acc),
        PRECISION=precision, PRODUCT=plan.product_precision(s.dtype, acc, target), VECTOR=edges.vector,
        **walk.options(precision, sparse is None, target),
    )  # fmt: skip


def _products(
    s: Tensor, y: Tensor, part: Tensor, stride: int, rows: Rows, chunk: int, square: bool, acc: torch.dtype,
    target: Target,
) -> None:  # fmt: skip
    """S^T Y of each chunk into ``part``, ``stride`` elements apart; ``square``: columns of Y are clusters."""
    k, c = s.size(-1), y.size(-1)
    precision = plan.product_precision(s.dtype, y.dtype, target)
    tiles = plan.products(k, c, precision, target)
    launch(
        _soft_pool_products_fwd_kernel, (rows.chunks(chunk), cdiv(k, tiles.bk), cdiv(c, tiles.bj)),
        s, rows.graph_stride(s), k, y, rows.graph_stride(y), y.stride(-2), part, stride,
        *rows.arguments, rows.clusters, k, c,
        CHUNK=chunk, BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, SQUARE=square and rows.clusters is not None,
        ACC=language_type(acc), PRECISION=precision, **tiles.options(precision, target),
    )  # fmt: skip


def _outputs(
    s: Tensor, x: Tensor, m: Tensor | None, rows: Rows, r: int, options: Options, acc: torch.dtype
) -> Outputs:
    """Uninitialized, but for S."""
    k, b, empty = s.size(-1), rows.b, s.new_empty
    gram_size, types = k if options.gram else 0, () if rows.ptr is not None else (r,)
    if m is None or not options.save:
        m = empty((*(() if rows.ptr is not None else (b, r)), 0, k), dtype=acc)
    return Outputs(
        s, x.new_empty(b, k, x.size(-1)), empty(b, *types, k, k, dtype=acc), empty(b, gram_size, gram_size, dtype=acc),
        empty(b, 1 + r, k, dtype=acc), empty(b, 2 + 4 * r, dtype=acc), empty((), dtype=acc), empty(types, dtype=acc), m,
    )  # fmt: skip


def launch_soft_pool_fwd(
    logits: Tensor, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None, given: bool,
    symmetric: bool, options: Options, target: Target,
) -> Outputs:  # fmt: skip
    """All outputs of the operator.

    Two launches for small graphs. For others six: softmax, walk over A, products of S with X and with S (and with M, if
    K is more than a tile), sums over chunks, scalars; one more for a sparse A that may have long rows. One allocation
    beside those of the outputs.
    """
    logits, x = contiguous_rows(logits), contiguous_rows(x)
    k, f, r, b, n = logits.size(-1), x.size(-1), edges.types, rows.b, rows.n
    _check_sizes(k, f, r)
    acc = accumulation_dtype(logits, x, edges.values)
    if (tiles := small_tiles(edges, rows, logits, x, target)) is not None:
        s = rows.empty(logits, k)
        m = s.new_empty((n, k) if rows.ptr is not None else (b, r, n, k), dtype=acc) if options.save else None
        out = _outputs(s, x, m, rows, r, options, acc)
        sums, squares = workspace(s, torch.float64, b * SUMS.value, b)
        launch_small_fwd(
            logits,
            x,
            edges,
            rows,
            temperature,
            given,
            symmetric,
            options.entropy,
            out,
            sums,
            squares,
            tiles,
            target,
        )
        _scalars(out, sums, squares, 1, rows, options, acc, target)
        return out
    s = launch_softmax_fwd(logits, rows, temperature, given, acc, target)
    ragged, entries, factor = rows.ptr is not None, 0, s.dtype
    if isinstance(edges, Dense):
        factor = factor_dtype(edges.a, s)
    else:
        entries = edges.col.numel()
    planned = _planned(k, f, r, b, n, ragged, entries, factor, s.dtype, options.gram, target)
    chunk, on_chip = planned.chunk, planned.walk.on_chip
    partial = _Partial(*workspace(s, acc, *planned.sizes, doubles=planned.doubles))
    m = None
    if options.save or not on_chip:
        m = s.new_empty((n, k) if ragged else (b, r, n, k), dtype=acc)
    _walk(s, edges, m, rows, options.entropy, acc, planned, partial, target)
    if f:
        _products(s, x, partial.x, k * f, rows, chunk, False, acc, target)
    if options.gram:
        _products(s, s, partial.gram, k * k, rows, chunk, True, acc, target)
    if not on_chip:
        assert m is not None
        for i_r in range(r):
            part, y = partial.adj[i_r * k * k :], m if ragged else m[:, i_r]
            _products(s, y, part, r * k * k, rows, chunk, True, acc, target)
    out = _outputs(s, x, m, rows, r, options, acc)
    _reduce(out, partial, planned, rows, symmetric, options, acc, target)
    return out


def _check_sizes(k: int, f: int, r: int) -> None:
    """The K x K and K x F elements of a graph have 32-bit offsets."""
    largest = max(r * k * k, (1 + r) * k, k * f)
    if largest >= 1 << 31:
        raise ValueError(
            f"s, x and adj must have fewer than 2^31 pooled elements R K K and K F of a graph, got K = {k}, F = {f},"
            f" R = {r}"
        )


def _reduce(
    out: Outputs, partial: _Partial, planned: _Plan, rows: Rows, symmetric: bool, options: Options,
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
        CHUNK_ROWS=walk.chunk, CHUNK_PRODUCTS=planned.chunk, CHUNK_ADJ=planned.adj_chunk,
        BK=0 if rows.clusters is None else walk.tiles.bk, BS=cut.bs, BQ=cut.bq, SYMMETRIC=symmetric, ACC=acc_type,
        num_warps=4, **plan.registers(4, target),
    )  # fmt: skip
    _scalars(out, partial.graph_sums, partial.squares, tiles[1], rows, options, acc, target)


def _scalars(
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
