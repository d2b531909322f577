"""The walk of soft pooling over A: M = A S, and what needs rows of M or of A."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import (
    locate_chunk,
    swizzled_program_ids,
    valid_rows,
)
from hierpool_kernels.core.clusters import column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.row_sums import SUMS, add_row_sums, no_row_sums, squares_of_rows, store_row_sums
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import dense_rows, sparse_rows, whole_columns
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import (
    dot,
    factor,
    load_tile,
    row_ptr,
    slice_ptr,
    store_tile,
)
from hierpool_kernels.soft_pool_partial import Division, Partial
from hierpool_kernels.spmm import launch_long_rows

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(
    do_not_specialize=["N", "B", "s_graph", "a_graph", "a_type", "m_graph", "m_type"],
    do_not_specialize_on_alignment=["STEPS"],
)
def _soft_pool_rows_fwd_kernel(
    s_ptr, s_graph, s_row, turned_ptr, a_ptr, a_graph, a_type, a_row, a_col,
    rowptr, col_ptr, value_ptr, carry_ptr, carry_sums_ptr,
    m_ptr, m_graph, m_type, part_adj_ptr, part_vectors_ptr, part_sums_ptr,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, R, K, STEPS,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, LONGEST: tl.constexpr, AHEAD: tl.constexpr,
    ON_CHIP: tl.constexpr, ENTROPY: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, PRODUCT: tl.constexpr,
    VECTOR: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """M = A S, and of each chunk S^T M (if ON_CHIP), S^T 1, S^T d, and the sums behind the scalars of the record.

    S [B, N, K]; S^T [B, K, N], or None where products do not need it; A [B, R, N, N], or sparse [N, N]; M [B, R, N, K],
    or None if it is not needed; partial sums part_adj [chunks, R, K, K], part_vectors [chunks, 1 + R, K], part_sums
    [chunks, R, K / BK, SUMS].
    A program for a chunk of STEPS BN rows of a graph, an edge type and BK columns of S, BN rows at a time: rows of M
    stay on the chip until they are multiplied by S^T. A is read K / BK times, S once for each BN rows of A. Programs of
    columns that are no clusters write nothing.
    Sums in ACC, those of the scalars over chunks in float64. Squares that leave the range of ACC are summed again.
    """
    i_chunk, i_k, i_r = swizzled_program_ids()
    CHUNK = STEPS * BN
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    i_col = i_k * BK
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and i_col >= clusters:
        return
    if begin >= end:  # last, so that the compiler knows that there are rows: it spills otherwise
        return
    o_k = i_col + tl.arange(0, BK)
    m_k = column_mask(o_k, clusters, K)
    b = i_b.to(tl.int64)
    p_s = row_ptr(s_ptr, b * s_graph, K)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    p_a = row_ptr(a_ptr, b * a_graph + i_r.to(tl.int64) * a_type, VECTOR)
    if m_ptr is not None:
        p_m = row_ptr(m_ptr, b * m_graph + i_r.to(tl.int64) * m_type, K)
    adj = tl.zeros([BK, BK], ACC)
    sums = no_row_sums(BN, BK, ACC)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        if a_ptr is not None:
            whole = whole_columns(mask_ptr, i_b, N, end, BJ, VECTOR)
            if turned_ptr is not None:
                # This is N, of which the compiler does not know that it is a multiple.
                nodes_of_a = N // VECTOR * VECTOR
                p_turned = slice_ptr(turned_ptr, i_b, K * nodes_of_a)
                m, degree, square = dense_rows(
                    p_a, a_row, a_col, p_turned, nodes_of_a, p_mask, i_n, m_n, i_col, m_k, whole, end,
                    BN, BJ, BK, ACC, PRECISION, VECTOR, True, ACROSS,
                )  # fmt: skip
            else:
                m, degree, square = dense_rows(
                    p_a, a_row, a_col, p_s, s_row, p_mask, i_n, m_n, i_col, m_k, whole, end,
                    BN, BJ, BK, ACC, PRECISION, VECTOR, False, ACROSS,
                )  # fmt: skip
        else:
            m, degree, square = sparse_rows(
                rowptr, col_ptr, value_ptr, p_s, s_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
                BN, BK, LONGEST, AHEAD, ACC,
            )  # fmt: skip
        m = factor(m, ACC, PRODUCT)
        if m_ptr is not None:
            store_tile(p_m, i_n, K, i_col, m_n, m_k, m, BN, BK)
        s = load_tile(p_s, i_n, s_row, i_col, m_n, m_k, BN, BK)
        rounded = factor(s, ACC, PRODUCT)
        p = rounded.to(ACC)
        if ON_CHIP:
            adj = dot(tl.trans(rounded), m, adj, PRODUCT)
        sums = add_row_sums(sums, s, p, m, m_n, degree, square, ENTROPY, ACC)
    chunk = i_chunk.to(tl.int64)
    if ON_CHIP:
        p_adj = part_adj_ptr + (chunk * R + i_r) * K * K
        store_tile(p_adj, i_col, K, i_col, m_k, m_k, adj, BK, BK)
    p_vectors = part_vectors_ptr + chunk * (1 + R) * K + o_k
    if i_r == 0:
        tl.store(p_vectors, sums[0], mask=m_k)
    tl.store(p_vectors + (1 + i_r) * K, sums[1], mask=m_k)
    # Sums over columns of S are partial in each program of a row; sums over rows of A are the same in all of them.
    once = (i_k == 0).to(tl.float64)
    of_s = (i_r == 0).to(tl.float64)
    p_sums = part_sums_ptr + ((chunk * R + i_r) * tl.num_programs(1) + i_k) * SUMS
    square = tl.sum(sums[5].to(tl.float64), 0)
    if i_k == 0:
        square = squares_of_rows(
            square, p_a, a_row, a_col, p_mask, rowptr, value_ptr, begin, tl.minimum(begin + CHUNK, end), end,
            BN, BJ, ACC, VECTOR,
        )  # fmt: skip
    store_row_sums(p_sums, sums, square, of_s, once)


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_walk(
    s: Tensor, turned: Tensor | None, edges: Dense | Csr, m: Tensor | None, rows: Rows, entropy: bool,
    acc: torch.dtype, planned: Division, partial: Partial, target: Target,
) -> None:  # fmt: skip
    """M = A S into ``m``, and the partial sums that need rows of M or A."""
    k, r = s.size(-1), edges.types
    walk, sparse, precision, k_tiles, *_ = planned
    tiles = walk.tiles
    carry: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(edges, Csr):
        assert sparse is not None
        carry = launch_long_rows(edges.rowptr, edges.col, edges.value, s, acc, sparse, rows)
    launch(
        _soft_pool_rows_fwd_kernel, (rows.chunks(walk.chunk), k_tiles, r),
        s, rows.graph_rows, k, turned, *edges.arguments(4, True), *carry, m, r * rows.graph_rows, rows.graph_rows,
        partial.adj, partial.vectors, partial.sums, *rows.arguments, rows.clusters, r, k,
        walk.chunk // tiles.bn,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, LONGEST=sparse.longest if sparse else 0,
        AHEAD=sparse.ahead if sparse else 1, ON_CHIP=walk.on_chip, ENTROPY=entropy, ACC=language_type(acc),
        PRECISION=precision, PRODUCT=plan.product_precision(s.dtype, acc, target), VECTOR=edges.vector,
        ACROSS=edges.across, **walk.options(precision, sparse is None, target),
    )  # fmt: skip
