"""The backward of soft pooling: K x K blocks from the gradients of the record, then one product for each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import (
    chunk_rows,
    graph_slice,
    last_at_most,
    pairs_of_program,
    swizzled_program_ids,
)
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import dense_tile
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import contiguous_rows, language_type, workspace
from hierpool_kernels.core.tiles import add_product, load_tile, slice_ptr, store_tile
from hierpool_kernels.soft_pool import Saved, Upstream, gradient_of_square, mean_divisors
from hierpool_kernels.soft_pool_small import launch_small_bwd, small_tiles
from hierpool_kernels.soft_pool_softmax import launch_softmax_bwd
from hierpool_kernels.spmm import launch_dense_degrees, launch_dense_product, launch_spmm

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_blocks_bwd_kernel(
    dadj_ptr, dgram_ptr, gram_ptr, scalars_ptr, dscalars_ptr, dtotal_entropy_ptr, dlink_norm_ptr, link_norm_ptr,
    largest_ptr, core_ptr, of_m_ptr, of_s_ptr, weights_ptr, N, B, clusters_ptr, R, K,
    BK: tl.constexpr, MEAN: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """core = dadj - 2 dlink I; of_m = core^T (+ core if A = A^T); of_s = 4 dlink gram + dgram + dgram^T.

    dadj, core, of_m [B, R, K, K]; gram, dgram, of_s [B, K, K]; scalars, dscalars [B, 2 + 4R]; weights [B, 1 + 3R]: the
    gradients of scalars, dentropy, then dcut, dadj_sq + dlink and dtotal of each edge type, with dadj_sq and dlink
    the gradients of the squares of norms.
    A program for a graph and BK x BK elements. Programs of rows or columns that are no clusters write nothing; others
    read 0 there.
    In ACC.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_row = tl.program_id(1) * BK
    i_col = tl.program_id(2) * BK
    o_row = i_row + tl.arange(0, BK)
    o_col = i_col + tl.arange(0, BK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and (i_row >= clusters) | (i_col >= clusters):
        return
    m_row = o_row < column_count(clusters, K)
    m_col = o_col < column_count(clusters, K)
    first = (tl.program_id(1) == 0) & (tl.program_id(2) == 0)
    rows, entries = mean_divisors(B, N, largest_ptr, MEAN)
    diagonal = (o_row[:, None] == o_col[None, :]).to(ACC)
    dlink_total = tl.zeros((), ACC)
    p_scalars = slice_ptr(scalars_ptr, i_b, 2 + 4 * R)
    p_dscalars = slice_ptr(dscalars_ptr, i_b, 2 + 4 * R)
    p_weights = weights_ptr + i_b * (1 + 3 * R)
    for i_r in range(R):
        dcut = tl.zeros((), ACC)
        dadj_sq = dcut
        dtotal = dcut
        dlink = dcut
        if dscalars_ptr is not None:
            dcut = tl.load(p_dscalars + 2 + i_r)
            dtotal = tl.load(p_dscalars + 2 + 2 * R + i_r)
            dadj_sq = gradient_of_square(p_dscalars + 2 + R + i_r, tl.load(p_scalars + 2 + R + i_r)).to(ACC)
            link = tl.load(p_scalars + 2 + 3 * R + i_r)
            dlink = gradient_of_square(p_dscalars + 2 + 3 * R + i_r, link).to(ACC)
        norm = tl.load(link_norm_ptr + i_r).to(tl.float64) * entries
        if dlink_norm_ptr is not None:
            dlink += (gradient_of_square(dlink_norm_ptr + i_r, norm) / entries).to(ACC)
        dlink = tl.where(norm == norm, dlink, 0.0)  # NaN if it was not computed
        dlink_total += dlink
        at = (i_b * R + i_r) * K * K
        core = -2 * dlink * diagonal
        transposed = core
        if dadj_ptr is not None:
            core += load_tile(dadj_ptr + at, i_row, K, i_col, m_row, m_col, BK, BK)
            transposed += tl.trans(load_tile(dadj_ptr + at, i_col, K, i_row, m_col, m_row, BK, BK))
        if SYMMETRIC:
            transposed += core
        if core_ptr is not None:
            store_tile(core_ptr + at, i_row, K, i_col, o_row < K, o_col < K, core, BK, BK)
        store_tile(of_m_ptr + at, i_row, K, i_col, o_row < K, o_col < K, transposed, BK, BK)
        if first:
            tl.store(p_weights + 1 + i_r, dcut)
            tl.store(p_weights + 1 + R + i_r, dadj_sq + dlink)
            tl.store(p_weights + 1 + 2 * R + i_r, dtotal)
    if of_s_ptr is not None:
        of_s = 4 * dlink_total * load_tile(gram_ptr + i_b * K * K, i_row, K, i_col, m_row, m_col, BK, BK)
        if dgram_ptr is not None:
            of_s += load_tile(dgram_ptr + i_b * K * K, i_row, K, i_col, m_row, m_col, BK, BK)
            of_s += tl.trans(load_tile(dgram_ptr + i_b * K * K, i_col, K, i_row, m_col, m_row, BK, BK))
        store_tile(of_s_ptr + i_b * K * K, i_row, K, i_col, o_row < K, o_col < K, of_s, BK, BK)
    if first:
        dentropy = tl.zeros((), ACC)
        if dscalars_ptr is not None:
            dentropy = tl.load(p_dscalars + 1)
        if dtotal_entropy_ptr is not None:
            dentropy += (tl.load(dtotal_entropy_ptr).to(tl.float64) / rows).to(ACC)
        tl.store(p_weights, dentropy)


@triton.jit
def _gradient_of_s(
    p_s, s_row, p_ds, ds_row, p_x, x_row, p_dx, F, p_m, p_mt, m_type, p_of_m, p_core, p_of_s, p_dvectors, p_degree,
    degree_type, p_weights, R, K, clusters, i_n, m_n, i_k, m_k,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr, PRECISION_X: tl.constexpr,
):  # fmt: skip
    """Rows from ``i_n`` on and columns from ``i_k`` on of dS, before the gradient of the softmax, and of S. Sums are
    over ``clusters``."""
    o_n = i_n + tl.arange(0, BN)
    o_k = i_k + tl.arange(0, BK)
    total = tl.zeros([BN, BK], ACC)
    if p_dx is not None:
        total = add_product(total, p_x, i_n, x_row, F, p_dx, F, i_k, m_n, m_k, BN, BC, BK, True, PRECISION_X)
    for i_r in range(R):
        m = slice_ptr(p_m, i_r, m_type)
        of_m = slice_ptr(p_of_m, i_r, K * K)
        total = add_product(
            total, m, i_n, K, K, of_m, K, i_k, m_n, m_k, BN, BC, BK, False, PRECISION, clusters
        )
        if p_mt is not None:
            mt = slice_ptr(p_mt, i_r, m_type)
            core = slice_ptr(p_core, i_r, K * K)
            total = add_product(
                total, mt, i_n, K, K, core, K, i_k, m_n, m_k, BN, BC, BK, False, PRECISION, clusters
            )
    if p_of_s is not None:
        total = add_product(
            total, p_s, i_n, s_row, K, p_of_s, K, i_k, m_n, m_k, BN, BC, BK, False, PRECISION, clusters
        )
    p = load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    if p_dvectors is not None:
        total += tl.load(p_dvectors + o_k, mask=m_k, other=0)[None, :]
    if p_degree is not None:
        for i_r in range(R):
            degree = tl.load(slice_ptr(p_degree, i_r, degree_type) + o_n, mask=m_n, other=0)
            total += 2 * tl.load(p_weights + 1 + i_r) * degree[:, None] * p
            if p_dvectors is not None:
                total += (
                    degree[:, None] * tl.load(p_dvectors + (1 + i_r) * K + o_k, mask=m_k, other=0)[None, :]
                )
    total -= tl.load(p_weights) * tl.where(p > 0, 1 + tl.log(tl.where(p > 0, p, 1.0)), 0.0)
    if p_ds is not None:
        total += load_tile(p_ds, i_n, ds_row, i_k, m_n, m_k, BN, BK).to(ACC)
    return total, p


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_rows_bwd_kernel(
    s_ptr, s_graph, s_row, ds_ptr, ds_graph, ds_row, x_ptr, x_graph, x_row, dx_ptr, F,
    m_ptr, mt_ptr, m_graph, m_type, of_m_ptr, core_ptr, of_s_ptr, dvectors_ptr, degree_ptr, degree_graph, degree_type,
    weights_ptr, temperature_ptr, out_ptr, out_graph,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, R, K,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr, GIVEN: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, PRECISION_X: tl.constexpr,
):  # fmt: skip
    """dS = [X | M | M' | S] [dx^T; of_m; core; of_s] + terms of each row, and, if BK columns are all there are,
    dL = P (dS - rowsum(P dS)) / T.

    S, out [B, N, K], X [B, N, F], M = A S and M' = A^T S [B, R, N, K] (M' only where A is not symmetric),
    dx [B, K, F], the blocks of `_soft_pool_blocks_bwd_kernel`; out is dL, or dS with GIVEN or more than ONE_TILE.
    A program for BN rows of a graph and BK columns. Rows that are not valid get 0. So do columns that are no
    clusters, but `_soft_pool_softmax_bwd_kernel` reads no tiles of them, which are not written.
    Sums in ACC.
    """
    i_chunk, i_k, _ = swizzled_program_ids()
    i_b, begin, _, last, m_n = chunk_rows(i_chunk, ptr, sizes, mask_ptr, N, B, BN)
    if begin >= last:
        return
    m_out = begin + tl.arange(0, BN) < last
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and i_k * BK >= clusters:
        if GIVEN:
            m_k = i_k * BK + tl.arange(0, BK) < K
            zeros = tl.zeros([BN, BK], ACC)
            store_tile(
                graph_slice(out_ptr, i_b, out_graph, ptr), begin, K, i_k * BK, m_out, m_k, zeros, BN, BK
            )
        return
    p_s = graph_slice(s_ptr, i_b, s_graph, ptr)
    p_ds = graph_slice(ds_ptr, i_b, ds_graph, ptr)
    p_x = graph_slice(x_ptr, i_b, x_graph, ptr)
    p_dx = slice_ptr(dx_ptr, i_b, K * F)
    p_m = graph_slice(m_ptr, i_b, m_graph, ptr)
    p_mt = graph_slice(mt_ptr, i_b, m_graph, ptr)
    p_of_m = slice_ptr(of_m_ptr, i_b, R * K * K)
    p_core = slice_ptr(core_ptr, i_b, R * K * K)
    p_of_s = slice_ptr(of_s_ptr, i_b, K * K)
    p_dvectors = slice_ptr(dvectors_ptr, i_b, (1 + R) * K)
    p_degree = graph_slice(degree_ptr, i_b, degree_graph, ptr)
    p_weights = slice_ptr(weights_ptr, i_b, 1 + 3 * R)
    p_out = graph_slice(out_ptr, i_b, out_graph, ptr)
    i_k *= BK
    o_k = i_k + tl.arange(0, BK)
    ds, p = _gradient_of_s(
        p_s, s_row, p_ds, ds_row, p_x, x_row, p_dx, F, p_m, p_mt, m_type, p_of_m, p_core, p_of_s, p_dvectors,
        p_degree, degree_type, p_weights, R, K, clusters, begin, m_n, i_k, column_mask(o_k, clusters, K),
        BN, BK, BC, ACC, PRECISION, PRECISION_X,
    )  # fmt: skip
    if clusters is not None:  # of what was read beyond the clusters, only S is sure to be 0
        ds = tl.where((o_k < clusters)[None, :], ds, 0.0)
    if ONE_TILE and not GIVEN:
        ds = p * (ds - tl.sum(p * ds, 1)[:, None])
        if temperature_ptr is not None:
            ds /= tl.load(temperature_ptr).to(ACC)
    store_tile(p_out, begin, K, i_k, m_out, o_k < K, tl.where(m_n[:, None], ds, 0.0), BN, BK)


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_row_products_bwd_kernel(
    s_ptr, s_graph, s_row, block_ptr, block_graph, block_type, out_ptr, out_graph, out_type, ptr, sizes, mask_ptr,
    N, B, clusters_ptr, K, C,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, SQUARE: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """S times a matrix of each graph, 0 on rows that are not valid: dX = S dx, and S core for the gradient of A.

    S [B, N, K], block [B, R, K, C], out [B, R, N, C].
    A program for BN rows of a graph, BC columns and an edge type. Of a SQUARE block, programs of columns that are no
    clusters write nothing.
    Sums in ACC.
    """
    i_chunk, i_c, i_r = swizzled_program_ids()
    i_b, begin, _, last, m_n = chunk_rows(i_chunk, ptr, sizes, mask_ptr, N, B, BN)
    i_c *= BC
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and SQUARE & (i_c >= clusters):
        return
    if begin >= last:
        return
    m_out = begin + tl.arange(0, BN) < last
    m_c = column_mask(i_c + tl.arange(0, BC), clusters if SQUARE else None, C)
    p_block = slice_ptr(slice_ptr(block_ptr, i_b, block_graph), i_r, block_type)
    total = add_product(
        tl.zeros([BN, BC], ACC), graph_slice(s_ptr, i_b, s_graph, ptr), begin, s_row, K, p_block, C, i_c, m_n, m_c,
        BN, BK, BC, False, PRECISION, clusters,
    )  # fmt: skip
    store_tile(
        slice_ptr(graph_slice(out_ptr, i_b, out_graph, ptr), i_r, out_type),
        begin,
        C,
        i_c,
        m_out,
        m_c,
        total,
        BN,
        BC,
    )


@triton.jit
def _row_terms(
    p_s, s_row, p_dvolume, dcut, dtotal, i_n, m_n, K, clusters,
    BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The term common to all entries of a row of dA: s_i . dvolume + dcut |s_i|^2 + dtotal."""
    term = tl.zeros([BN], ACC)
    for i_k in range(0, column_count(clusters, K), BK):
        o_k = i_k + tl.arange(0, BK)
        p = load_tile(p_s, i_n, s_row, i_k, m_n, column_mask(o_k, clusters, K), BN, BK).to(ACC)
        term += dcut * tl.sum(p * p, 1)
        if p_dvolume is not None:
            m_k = o_k < column_count(clusters, K)
            term += tl.sum(p * tl.load(p_dvolume + o_k, mask=m_k, other=0)[None, :], 1)
    return term + dtotal


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_dense_edges_bwd_kernel(
    s_ptr, s_graph, s_row, t_ptr, t_graph, t_type, a_ptr, a_graph, a_type, a_row, a_col, dvectors_ptr, weights_ptr,
    out_ptr, sizes, mask_ptr, N, B, clusters_ptr, R, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    VECTOR: tl.constexpr,
):  # fmt: skip
    """dA_ij = t_i . s_j + s_i . dvolume + dcut |s_i|^2 + dtotal + 2 (dadj_sq + dlink) A_ij, 0 unless both are valid.

    S [B, N, K], T = S core [B, R, N, K], A and dA [B, R, N, N].
    A program for BN x BJ entries of a graph and an edge type.
    Sums in ACC.
    """
    i_b, i_n, i_j, m_n, m_j, end = pairs_of_program(sizes, mask_ptr, N, BN, BJ)
    i_r = tl.program_id(2).to(tl.int64)
    o_n = i_n + tl.arange(0, BN)
    o_j = i_j + tl.arange(0, BJ)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_t = slice_ptr(t_ptr, i_b, t_graph) + i_r * t_type
    p_weights = slice_ptr(weights_ptr, i_b, 1 + 3 * R) + 1 + i_r
    p_dvolume = slice_ptr(slice_ptr(dvectors_ptr, i_b, (1 + R) * K), 1 + i_r, K)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    term = _row_terms(
        p_s, s_row, p_dvolume, tl.load(p_weights), tl.load(p_weights + 2 * R), i_n, m_n, K, clusters,
        BN, BK, ACC,
    )  # fmt: skip
    total = tl.zeros([BN, BJ], ACC)
    total = add_product(
        total, p_t, i_n, K, K, p_s, s_row, i_j, m_n, m_j, BN, BK, BJ, True, PRECISION, clusters
    )
    both = m_n[:, None] & m_j[None, :]
    p_a = slice_ptr(slice_ptr(a_ptr, i_b, a_graph), i_r, a_type)
    a = dense_tile(p_a, a_row, a_col, i_n, m_n, i_j, m_j, end, BN, BJ, VECTOR).to(ACC)
    total += term[:, None] + 2 * tl.load(p_weights + R) * a
    p_out = out_ptr + (i_b.to(tl.int64) * R + i_r) * N * N
    store_tile(p_out, i_n, N, i_j, o_n < N, o_j < N, tl.where(both, total, 0.0), BN, BJ)


@triton.jit
def _gather_columns(ptr, o_row, stride, o_k, m_e, clusters, K):
    """Columns ``o_k`` of the rows of the entries, 0 beyond the ``clusters [BE, 1]`` of each."""
    m_k = column_mask(o_k[None, :], clusters, K)
    return tl.load(
        ptr + o_row.to(tl.int64)[:, None] * stride + o_k[None, :], mask=m_e[:, None] & m_k, other=0
    )


@triton.jit(do_not_specialize=["N", "B", "E"])
def _soft_pool_sparse_edges_bwd_kernel(
    s_ptr, s_row, t_ptr, rowptr, col_ptr, value_ptr, dvectors_ptr, weights_ptr, out_ptr, ptr, N, B, E,
    clusters_ptr, K,
    BE: tl.constexpr, BK: tl.constexpr, OF_ROWS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """As `_soft_pool_dense_edges_bwd_kernel`, at the stored entries of a sparse A only.

    S, T = S core [N, K]; A [N, N] in compressed rows; dA [E].
    A program for BE entries, which finds their rows and graphs by bisection, so that the entries of a hub are shared
    among programs. OF_ROWS: there are gradients of volume or cut_degree.
    Sums in ACC.
    """
    o_e = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    m_e = o_e < E
    i = last_at_most(rowptr, N, tl.where(m_e, o_e, 0))
    i_b = last_at_most(ptr, B, i).to(tl.int64)
    j = tl.load(col_ptr + o_e, mask=m_e, other=0)
    p_weights = weights_ptr + i_b * 4 + 1
    total = tl.load(p_weights + 2)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    most = None
    if clusters is not None:
        most = tl.max(clusters, 0)
        clusters = clusters[:, None]
    for i_k in range(0, column_count(most, K), BK):
        o_k = i_k + tl.arange(0, BK)
        t = _gather_columns(t_ptr, i, K, o_k, m_e, clusters, K)
        if OF_ROWS:
            p = _gather_columns(s_ptr, i, s_row, o_k, m_e, clusters, K).to(ACC)
            total += tl.load(p_weights) * tl.sum(p * p, 1)
            if dvectors_ptr is not None:
                dvolume = _gather_columns(dvectors_ptr + K, i_b, 2 * K, o_k, m_e, clusters, K)
                if clusters is not None:
                    dvolume = tl.where(o_k[None, :] < clusters, dvolume, 0.0)
                total += tl.sum(p * dvolume, 1)
        total += tl.sum(t * _gather_columns(s_ptr, j, s_row, o_k, m_e, clusters, K).to(ACC), 1)
    twice = 2 * tl.load(p_weights + 1)
    if value_ptr is not None:
        total += twice * tl.load(value_ptr + o_e, mask=m_e, other=0).to(ACC)
    else:
        total += twice
    tl.store(out_ptr + o_e, total.to(out_ptr.dtype.element_ty), mask=m_e)


# ---- launchers ------------------------------------------------------------------------------------------------------


class _Blocks(NamedTuple):
    """The outputs of `_soft_pool_blocks_bwd_kernel`, flat."""

    core: Tensor | None  # [B, R, K, K]
    of_m: Tensor  # [B, R, K, K]
    of_s: Tensor | None  # [B, K, K]
    weights: Tensor  # [B, 1 + 3 R]


def _make_blocks(
    grads: Upstream, saved: Saved, rows: Rows, r: int, symmetric: bool, mean: bool, needs_core: bool, target: Target
) -> _Blocks:  # fmt: skip
    k, acc = saved.s.size(-1), saved.m.dtype
    b, has_core, has_gram = rows.b, needs_core or not symmetric, saved.gram.size(1) > 0
    core, of_m, of_s, weights = workspace(
        saved.m, acc, has_core * b * r * k * k, b * r * k * k, has_gram * b * k * k, b * (1 + 3 * r)
    )
    blocks = _Blocks(core if has_core else None, of_m, of_s if has_gram else None, weights)
    side = plan.blocks(k, target)
    launch(
        _soft_pool_blocks_bwd_kernel, (b, cdiv(k, side), cdiv(k, side)),
        grads.adj, grads.gram, saved.gram, saved.scalars, grads.scalars, grads.total_entropy, grads.link_norm,
        saved.link_norm, rows.largest() if mean else None, *blocks, rows.n, b, rows.clusters, r, k,
        BK=side, MEAN=mean, SYMMETRIC=symmetric, ACC=language_type(acc), num_warps=4,
    )  # fmt: skip
    return blocks


def _transposed_product(s: Tensor, m: Tensor, edges: Dense | Csr, rows: Rows, target: Target) -> Tensor:
    """M' = A^T S."""
    if isinstance(edges, Dense):
        return launch_dense_product(edges.a.mT, s, rows, m.dtype, target)
    assert edges.rowptr_t is not None
    assert edges.col_t is not None
    return launch_spmm(edges.rowptr_t, edges.col_t, edges.value_t, s, m.dtype, m.dtype, target, rows)


def _degrees(edges: Dense | Csr, rows: Rows, acc: torch.dtype, target: Target) -> Tensor:
    """Row sums of A, ``[B, R, N]`` or ``[N]``."""
    if isinstance(edges, Dense):
        return launch_dense_degrees(edges.a, rows, acc, target)
    if edges.value is None:
        ends = edges.rowptr
        return torch.sub(ends[1:], ends[:-1], out=ends.new_empty(ends.numel() - 1, dtype=acc))
    return launch_spmm(edges.rowptr, edges.col, edges.value, None, acc, acc, target)


def launch_soft_pool_bwd(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None,
    given: bool, symmetric: bool, mean: bool, needs: tuple[bool, bool, bool], target: Target,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to logits, features and entries; of size 0 where they are not needed.

    One launch for small graphs. For others three: blocks, rows of the gradient to the logits, S dx; one more if K is
    more than a tile, one more if A is not symmetric, and one more if the row sums of A have a gradient. The gradient to
    A takes two more, and that of small graphs the blocks.
    """
    grads = Upstream(*(None if t is None else t.contiguous() for t in grads))
    x = contiguous_rows(x)
    s, m = saved.s, saved.m
    acc, r = m.dtype, edges.types
    tiles = small_tiles(edges, rows, s, x, target)
    blocks = None
    if needs[2] or tiles is None:
        blocks = _make_blocks(grads, saved, rows, r, symmetric, mean, needs[2], target)
    dedges = (s if edges.values is None else edges.values).new_empty(0)
    if needs[2]:
        assert blocks is not None
        dedges = _edges_gradient(grads, s, edges, rows, blocks, acc, target)
    if tiles is not None:
        return *launch_small_bwd(
            grads, saved, x, edges, rows, temperature, given, symmetric, mean, needs[:2], tiles, target
        ), dedges
    assert blocks is not None
    dlogits = s.new_empty(0)
    if needs[0]:
        dlogits = _logits_gradient(
            grads, saved, x, edges, rows, blocks, temperature, given, symmetric, target
        )
    dx = x.new_empty(x.shape if needs[1] else 0)
    if grads.x is None:
        dx.zero_()
    elif needs[1]:
        _row_products(s, grads.x, dx, rows, False, acc, target)
    return dlogits, dx, dedges


def _logits_gradient(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, rows: Rows, blocks: _Blocks,
    temperature: Tensor | None, given: bool, symmetric: bool, target: Target,
) -> Tensor:  # fmt: skip
    s, m = saved.s, saved.m
    k, acc, r = s.size(-1), m.dtype, edges.types
    mt = None if symmetric else _transposed_product(s, m, edges, rows, target)
    degree = None
    if grads.vectors is not None or grads.scalars is not None:
        degree = _degrees(edges, rows, acc, target)
    precision = plan.gradient_precision(s.dtype, target)
    tiles, one_tile = plan.rows_backward(k, precision, target)
    out = rows.empty(s, k)
    finished = one_tile or given
    ds = out if finished else rows.empty(m, k)
    m_strides, degree_strides = (0, 0), (0, 0)
    if rows.ptr is None:
        m_strides = (m.stride(0), m.stride(1))
        degree_strides = (0, 0) if degree is None else (degree.stride(0), degree.stride(1))
    of_x = None
    if grads.x is not None and x.size(-1):
        of_x = grads.x
    launch(
        _soft_pool_rows_bwd_kernel, (rows.chunks(tiles.bn), cdiv(k, tiles.bk)),
        s, rows.graph_stride(s), k, grads.s, rows.graph_stride(grads.s), k,
        x, rows.graph_stride(x), x.stride(-2), of_x, x.size(-1),
        m, mt, *m_strides, blocks.of_m, None if symmetric else blocks.core, blocks.of_s, grads.vectors,
        degree, *degree_strides, blocks.weights, temperature, ds, rows.graph_stride(ds),
        *rows.arguments, rows.clusters, r, k,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, ONE_TILE=one_tile, GIVEN=given, ACC=language_type(acc),
        PRECISION=precision, PRECISION_X=plan.product_precision(x.dtype, x.dtype, target),
        **tiles.options(precision, target),
    )  # fmt: skip
    if not finished:
        launch_softmax_bwd(s, ds, rows, temperature, out, acc, target)
    return out


def _row_products(
    s: Tensor, block: Tensor, out: Tensor, rows: Rows, square: bool, acc: torch.dtype, target: Target
) -> None:
    """S times ``block [B, (R,) K, C]`` into ``out [B, (R,) N, C]``; ``square``: columns of the block are clusters."""
    k, c = block.shape[-2:]
    r = block.size(1) if block.dim() == 4 else 1
    precision = plan.product_precision(s.dtype, block.dtype, target)
    tiles = plan.row_products(c, precision, target)
    types = out.dim() == 4
    launch(
        _soft_pool_row_products_bwd_kernel, (rows.chunks(tiles.bn), cdiv(c, tiles.bj), r),
        s, rows.graph_stride(s), k, block, block.stride(0), block.stride(1) if block.dim() == 4 else 0,
        out, rows.graph_stride(out), out.stride(1) if types else 0,
        *rows.arguments, rows.clusters, k, c,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, SQUARE=square and rows.clusters is not None, ACC=language_type(acc),
        PRECISION=precision, **tiles.options(precision, target),
    )  # fmt: skip


def _edges_gradient(
    grads: Upstream, s: Tensor, edges: Dense | Csr, rows: Rows, blocks: _Blocks, acc: torch.dtype, target: Target
) -> Tensor:  # fmt: skip
    """The gradient to A: products of rows of S core and rows of S, and terms of each row."""
    k, r, b, n = s.size(-1), edges.types, rows.b, rows.n
    assert blocks.core is not None
    core = blocks.core[: b * r * k * k].view(b, r, k, k)
    if isinstance(edges, Dense):
        a = edges.a
        t = core.new_empty(b, r, n, k)
        _row_products(s, core, t, rows, True, acc, target)
        precision = plan.product_precision(acc, s.dtype, target)
        tiles = plan.dense_edges(precision, target)
        out = a.new_empty(a.shape)
        launch(
            _soft_pool_dense_edges_bwd_kernel, (b * cdiv(n, tiles.bn), cdiv(n, tiles.bj), r),
            s, rows.graph_stride(s), k, t, t.stride(0), t.stride(1), a, *a.stride(), grads.vectors, blocks.weights,
            out, rows.sizes, rows.mask, n, b, rows.clusters, r, k,
            BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=language_type(acc), PRECISION=precision, VECTOR=edges.vector,
            **tiles.options(precision, target),
        )  # fmt: skip
        return out
    t = core.new_empty(n, k)
    _row_products(s, core[:, 0], t, rows, True, acc, target)
    entries = edges.col.numel()
    like = s if edges.value is None else edges.value
    out = like.new_empty(entries)
    be, bk = plan.entries(k, target)
    launch(
        _soft_pool_sparse_edges_bwd_kernel, (cdiv(entries, be),),
        s, k, t, edges.rowptr, edges.col, edges.value, grads.vectors, blocks.weights, out, rows.ptr,
        n, b, entries, rows.clusters, k,
        BE=be, BK=bk, OF_ROWS=grads.vectors is not None or grads.scalars is not None, ACC=language_type(acc),
        num_warps=4,
    )  # fmt: skip
    return out
