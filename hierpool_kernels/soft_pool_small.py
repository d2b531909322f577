"""Soft pooling of batches of small graphs: a program for each graph, in one launch each way.

A launch takes the host longer than the arithmetic of a small graph takes a device.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense, factor_dtype
from hierpool_kernels.core.chunks import graph_rows, valid_rows
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.row_sums import SUMS, add_row_sums, no_row_sums, squares_of_rows, store_row_sums
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import dense_rows, sparse_rows, whole_columns
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import dot, factor, load_tile, row_ptr, slice_ptr, store_tile
from hierpool_kernels.soft_pool import Outputs, Saved, Upstream, gradient_of_square, mean_divisors

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _softmax_of_graph(
    p_l, l_row, p_s, temperature_ptr, p_mask, first, last, end, o_k, m_k, exists, K,
    BN: tl.constexpr, BK: tl.constexpr, GIVEN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Store S of a graph, 0 on rows and columns that do not exist."""
    scale = 1.0
    if temperature_ptr is not None:
        scale = 1 / tl.load(temperature_ptr).to(ACC)
    for i_n in range(first, last, BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        z = load_tile(p_l, i_n, l_row, 0, m_n, m_k, BN, BK).to(ACC)
        if not GIVEN:
            z = tl.where(exists[None, :], z * scale, float("-inf"))
            e = tl.exp(z - tl.max(z, 1)[:, None])
            z = e / tl.sum(e, 1)[:, None]
        z = tl.where(m_n[:, None] & exists[None, :], z, 0.0)
        store_tile(p_s, i_n, K, 0, o_n < last, o_k < K, z, BN, BK)


@triton.jit
def _last_row(ptr, end, N):
    """The row after the last of a graph that is written, padding included."""
    if ptr is not None:
        return end
    else:
        return N


@triton.jit(do_not_specialize=["N", "l_graph", "x_graph", "a_graph", "s_graph"])
def _soft_pool_small_fwd_kernel(
    logits_ptr, l_graph, l_row, x_ptr, x_graph, x_row, a_ptr, a_graph, a_row, a_col, rowptr, col_ptr, value_ptr,
    temperature_ptr, s_ptr, s_graph, m_ptr, adj_ptr, gram_ptr, pooled_ptr, vectors_ptr, sums_ptr, gram_squares_ptr,
    ptr, sizes, mask_ptr, N, clusters_ptr, K, F,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, BF: tl.constexpr, AHEAD: tl.constexpr, GIVEN: tl.constexpr,
    ENTROPY: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, PRODUCT_M: tl.constexpr,
    PRODUCT_S: tl.constexpr, PRODUCT_X: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """S, M = A S, and of each graph S^T M, S^T S, S^T X, S^T 1, S^T d and the sums behind the scalars of the record.

    L, S, M [B, N, K], X [B, N, F], A [B, N, N], or sparse [N, N]; adj, gram [B, K, K], pooled [B, K, F], vectors
    [B, 2, K]; sums [B, SUMS] and the squared norm of gram [B] in float64. M and gram are None if they are not needed.
    A program for a graph, BN rows at a time, first for S, which it reads again; BK >= K, BF >= F.
    Sums in ACC. Squares that leave the range of ACC are summed again. With SYMMETRIC adj is symmetric to the last bit,
    as gram always is.
    """
    i_b = tl.program_id(0).to(tl.int64)
    first, end = graph_rows(i_b, ptr, sizes, N)
    last = _last_row(ptr, end, N)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    p_s = row_ptr(s_ptr, i_b * s_graph, K)
    p_m = row_ptr(m_ptr, i_b * s_graph, K)
    p_a = row_ptr(a_ptr, i_b * a_graph, VECTOR)
    o_k = tl.arange(0, BK)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    m_k = column_mask(o_k, clusters, K)
    exists = o_k < column_count(clusters, K)
    _softmax_of_graph(
        row_ptr(logits_ptr, i_b * l_graph, l_row), l_row, p_s, temperature_ptr, p_mask, first, last, end, o_k, m_k,
        exists, K, BN, BK, GIVEN, ACC,
    )  # fmt: skip
    tl.debug_barrier()  # S is read by other threads than have written it
    o_f = tl.arange(0, BF)
    adj = tl.zeros([BK, BK], ACC)
    gram = tl.zeros([BK, BK], ACC)
    pooled = tl.zeros([BK, BF], ACC)
    sums = no_row_sums(BN, BK, ACC)
    whole = whole_columns(mask_ptr, i_b, N, end, BJ, VECTOR)
    for i_n in range(first, end, BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        if a_ptr is not None:
            m, degree, square = dense_rows(
                p_a, a_row, a_col, p_s, K, p_mask, i_n, m_n, 0, m_k, whole, end,
                BN, BJ, BK, ACC, PRECISION, VECTOR,
            )  # fmt: skip
        else:
            m, degree, square = sparse_rows(
                rowptr, col_ptr, value_ptr, s_ptr, K, None, None, o_n, m_n, o_k, m_k, K, BN, BK, 1, AHEAD, ACC,
            )  # fmt: skip
        m = factor(m, ACC, PRODUCT_M)
        if p_m is not None:
            store_tile(p_m, i_n, K, 0, m_n, m_k, m, BN, BK)
        s = load_tile(p_s, i_n, K, 0, m_n, m_k, BN, BK)
        x = factor(
            load_tile(row_ptr(x_ptr, i_b * x_graph, x_row), i_n, x_row, 0, m_n, o_f < F, BN, BF),
            ACC,
            PRODUCT_X,
        )
        rounded = factor(s, ACC, PRODUCT_S)
        p = rounded.to(ACC)
        adj = dot(tl.trans(rounded), m, adj, PRODUCT_M)
        if gram_ptr is not None:
            gram = dot(tl.trans(rounded), rounded, gram, PRODUCT_S)
        pooled = dot(tl.trans(rounded), x, pooled, PRODUCT_X)
        sums = add_row_sums(sums, s, p, m, m_n, degree, square, ENTROPY, ACC)
    both = exists[:, None] & exists[None, :]
    upper = o_k[:, None] <= o_k[None, :]
    if SYMMETRIC:
        adj = tl.where(upper, adj, tl.trans(adj))
    store_tile(slice_ptr(adj_ptr, i_b, K * K), 0, K, 0, o_k < K, o_k < K, tl.where(both, adj, 0.0), BK, BK)
    if gram_ptr is not None:
        gram = tl.where(both, tl.where(upper, gram, tl.trans(gram)), 0.0)
        store_tile(slice_ptr(gram_ptr, i_b, K * K), 0, K, 0, o_k < K, o_k < K, gram, BK, BK)
        tl.store(gram_squares_ptr + i_b, tl.sum(tl.sum(gram * gram, 1).to(tl.float64), 0))
    pooled = tl.where(exists[:, None], pooled, 0.0)
    store_tile(slice_ptr(pooled_ptr, i_b, K * F), 0, F, 0, o_k < K, o_f < F, pooled, BK, BF)
    p_vectors = vectors_ptr + i_b * 2 * K + o_k
    tl.store(p_vectors, tl.where(exists, sums[0], 0.0), mask=o_k < K)
    tl.store(p_vectors + K, tl.where(exists, sums[1], 0.0), mask=o_k < K)
    square = squares_of_rows(
        tl.sum(sums[5].to(tl.float64), 0), p_a, a_row, a_col, p_mask, rowptr, value_ptr, first, end, end,
        BN, BJ, ACC, VECTOR,
    )  # fmt: skip
    store_row_sums(sums_ptr + i_b * SUMS, sums, square, 1, 1)


@triton.jit(do_not_specialize=["N", "B", "s_graph", "x_graph", "a_graph", "dx_graph"])
def _soft_pool_small_bwd_kernel(
    ds_ptr, dpooled_ptr, dadj_ptr, dgram_ptr, dvectors_ptr, dscalars_ptr, dtotal_entropy_ptr, dlink_norm_ptr,
    s_ptr, s_graph, gram_ptr, scalars_ptr, link_norm_ptr, m_ptr, x_ptr, x_graph, x_row, a_ptr, a_graph, a_row, a_col,
    rowptr, value_ptr, rowptr_t, col_t, value_t_ptr, temperature_ptr, largest_ptr, dlogits_ptr, dx_ptr, dx_graph,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, K, F,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, BF: tl.constexpr, AHEAD: tl.constexpr, MEAN: tl.constexpr,
    GIVEN: tl.constexpr, SYMMETRIC: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, PRODUCT_A: tl.constexpr,
    PRODUCT_X: tl.constexpr, PRODUCT_S: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """The gradients of the logits (GIVEN: of S) and of the features.

    dS = X dpooled^T + M (core^T, + core if A = A^T) + A^T S core (if not) + S of_s + terms of each row, with the blocks
    of `_soft_pool_blocks_bwd_kernel`; dL = P (dS - rowsum(P dS)) / T; dX = S dpooled.
    S, M, dS, dL [B, N, K], X, dX [B, N, F], A [B, N, N], or sparse [N, N] with its transpose; gram, dadj, dgram
    [B, K, K], dpooled [B, K, F], dvectors [B, 2, K], scalars and dscalars [B, 6]. dL, dX and gradients of results are
    None if they are not needed.
    A program for a graph, BN rows at a time; BK >= K, BF >= F. Rows and columns that do not exist get 0.
    Sums in ACC.
    """
    i_b = tl.program_id(0).to(tl.int64)
    first, end = graph_rows(i_b, ptr, sizes, N)
    last = _last_row(ptr, end, N)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    p_s = row_ptr(s_ptr, i_b * s_graph, K)
    p_m = row_ptr(m_ptr, i_b * s_graph, K)
    p_a = row_ptr(a_ptr, i_b * a_graph, VECTOR)
    o_k = tl.arange(0, BK)
    o_f = tl.arange(0, BF)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    m_k = column_mask(o_k, clusters, K)
    exists = o_k < column_count(clusters, K)
    rows, entries = mean_divisors(B, N, largest_ptr, MEAN)
    dcut = tl.zeros((), ACC)
    dlink = dcut
    dentropy = dcut
    if dscalars_ptr is not None:
        p_dscalars = dscalars_ptr + i_b * 6
        dcut += tl.load(p_dscalars + 2)
        dlink += gradient_of_square(p_dscalars + 5, tl.load(scalars_ptr + i_b * 6 + 5)).to(ACC)
        dentropy += tl.load(p_dscalars + 1)
    if dlink_norm_ptr is not None:
        norm = tl.load(link_norm_ptr).to(tl.float64) * entries
        dlink += (gradient_of_square(dlink_norm_ptr, norm) / entries).to(ACC)
    if dtotal_entropy_ptr is not None:
        dentropy += (tl.load(dtotal_entropy_ptr).to(tl.float64) / rows).to(ACC)
    dlink = tl.where(dlink == dlink, dlink, 0.0)  # NaN if the link loss was not computed
    core = -2 * dlink * (o_k[:, None] == o_k[None, :]).to(ACC)
    if dadj_ptr is not None:
        core += load_tile(slice_ptr(dadj_ptr, i_b, K * K), 0, K, 0, exists, exists, BK, BK)
    of_m = tl.trans(core)
    if SYMMETRIC:
        of_m += core
    core = factor(core, ACC, PRECISION)
    of_m = factor(of_m, ACC, PRECISION)
    if gram_ptr is not None:
        of_s = 4 * dlink * load_tile(slice_ptr(gram_ptr, i_b, K * K), 0, K, 0, exists, exists, BK, BK)
        if dgram_ptr is not None:
            dgram = load_tile(slice_ptr(dgram_ptr, i_b, K * K), 0, K, 0, exists, exists, BK, BK)
            of_s += dgram + tl.trans(dgram)
        of_s = factor(of_s, ACC, PRECISION)
    whole = whole_columns(mask_ptr, i_b, N, end, BJ, VECTOR)
    for i_n in range(first, last, BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        s = load_tile(p_s, i_n, K, 0, m_n, m_k, BN, BK)
        if dpooled_ptr is not None:
            dpooled = load_tile(slice_ptr(dpooled_ptr, i_b, K * F), 0, F, 0, exists, o_f < F, BK, BF)
        if dlogits_ptr is not None:
            m = load_tile(p_m, i_n, K, 0, m_n, m_k, BN, BK)
            total = dot(m, of_m, tl.zeros([BN, BK], ACC), PRECISION)
            if dpooled_ptr is not None:
                x = load_tile(row_ptr(x_ptr, i_b * x_graph, x_row), i_n, x_row, 0, m_n, o_f < F, BN, BF)
                x = factor(x, ACC, PRODUCT_X)
                total = dot(x, tl.trans(factor(dpooled, ACC, PRODUCT_X)), total, PRODUCT_X)
            if not SYMMETRIC:
                if a_ptr is not None:
                    turned, _, _ = dense_rows(
                        p_a, a_col, a_row, p_s, K, p_mask, i_n, m_n, 0, m_k, whole, end,
                        BN, BJ, BK, ACC, PRODUCT_A, VECTOR,
                    )  # fmt: skip
                else:
                    turned, _, _ = sparse_rows(
                        rowptr_t, col_t, value_t_ptr, s_ptr, K, None, None, o_n, m_n, o_k, m_k, K,
                        BN, BK, 1, AHEAD, ACC,
                    )  # fmt: skip
                total = dot(factor(turned, ACC, PRECISION), core, total, PRECISION)
            if gram_ptr is not None:
                total = dot(factor(s, ACC, PRECISION), of_s, total, PRECISION)
            p = s.to(ACC)
            if dvectors_ptr is not None:
                total += tl.load(dvectors_ptr + i_b * 2 * K + o_k, mask=exists, other=0)[None, :]
            if (dvectors_ptr is not None) | (dscalars_ptr is not None):
                if a_ptr is not None:
                    _, degree, _ = dense_rows(
                        p_a, a_row, a_col, None, 0, p_mask, i_n, m_n, 0, m_k, whole, end,
                        BN, BJ, BK, ACC, PRODUCT_A, VECTOR,
                    )  # fmt: skip
                else:
                    _, degree, _ = sparse_rows(
                        rowptr, None, value_ptr, None, 0, None, None, o_n, m_n, o_k, m_k, K, BN, BK, 1, AHEAD, ACC,
                    )  # fmt: skip
                total += 2 * dcut * degree[:, None] * p
                if dvectors_ptr is not None:
                    dvolume = tl.load(dvectors_ptr + (i_b * 2 + 1) * K + o_k, mask=exists, other=0)
                    total += degree[:, None] * dvolume[None, :]
            total -= dentropy * tl.where(p > 0, 1 + tl.log(tl.where(p > 0, p, 1.0)), 0.0)
            if ds_ptr is not None:
                total += load_tile(row_ptr(ds_ptr, i_b * s_graph, K), i_n, K, 0, m_n, m_k, BN, BK).to(ACC)
            total = tl.where(exists[None, :], total, 0.0)
            if not GIVEN:
                total = p * (total - tl.sum(p * total, 1)[:, None])
                if temperature_ptr is not None:
                    total /= tl.load(temperature_ptr).to(ACC)
            total = tl.where(m_n[:, None], total, 0.0)
            store_tile(row_ptr(dlogits_ptr, i_b * s_graph, K), i_n, K, 0, o_n < last, o_k < K, total, BN, BK)
        if dx_ptr is not None:
            if dpooled_ptr is not None:
                dpooled = factor(dpooled, ACC, PRODUCT_S)
                dx = dot(factor(s, ACC, PRODUCT_S), dpooled, tl.zeros([BN, BF], ACC), PRODUCT_S)
            else:
                dx = tl.zeros([BN, BF], ACC)
            store_tile(row_ptr(dx_ptr, i_b * dx_graph, F), i_n, F, 0, o_n < last, o_f < F, dx, BN, BF)


# ---- launchers ------------------------------------------------------------------------------------------------------


def small_tiles(
    edges: Dense | Csr, rows: Rows, s: Tensor, x: Tensor, target: Target
) -> plan.SmallTiles | None:
    """The tiles of a batch whose graphs are each for one program; ``None`` if they are too large for it.

    The host does not know the largest of several ragged graphs: what counts is their mean size. Kernels of matrices of
    different dtypes would spill.
    """
    values = edges.values
    same = values is None or values.dtype is s.dtype or not values.is_floating_point()
    if edges.types > 1 or not rows.b or x.dtype is not s.dtype or not same:
        return None
    n = rows.n if rows.ptr is None or rows.b == 1 else 2 * cdiv(rows.n, rows.b)
    return plan.small(n, s.size(-1), x.size(-1), s.dtype, target)


def launch_small_fwd(
    logits: Tensor, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None, given: bool,
    symmetric: bool, entropy: bool, out: Outputs, sums: Tensor, squares: Tensor, tiles: plan.SmallTiles,
    target: Target,
) -> None:  # fmt: skip
    """Fill ``out``, but for its scalars, ``sums [B, SUMS]`` and the squared norms of the grams, ``[B]``."""
    s, k, f, acc = out.s, logits.size(-1), x.size(-1), out.vectors.dtype
    m, gram = (t if t.numel() else None for t in (out.m, out.gram))
    launch(
        _soft_pool_small_fwd_kernel, (rows.b,),
        logits, rows.rows_between(logits), logits.stride(-2), x, rows.rows_between(x), x.stride(-2),
        *_adjacency(edges), temperature, s, rows.graph_rows, m, out.adj, gram, out.x, out.vectors, sums, squares,
        rows.ptr, rows.sizes, rows.mask, rows.n, rows.clusters, k, f,
        GIVEN=given, ENTROPY=entropy, SYMMETRIC=symmetric, ACC=language_type(acc),
        PRECISION=_precision_of_a(edges, s, target), PRODUCT_M=plan.product_precision(s.dtype, acc, target),
        PRODUCT_S=plan.product_precision(s.dtype, s.dtype, target),
        PRODUCT_X=plan.product_precision(s.dtype, x.dtype, target), VECTOR=edges.vector, **tiles.options(target),
    )  # fmt: skip


def _adjacency(edges: Dense | Csr) -> tuple[Any, ...]:
    """The kernel arguments of A: pointer, strides of graphs, rows and columns; ``rowptr``, ``col``, ``value``."""
    if isinstance(edges, Csr):
        return edges.arguments(3)
    strides = edges.strides
    return edges.a, strides[0], *strides[-2:], None, None, None


def _precision_of_a(edges: Dense | Csr, s: Tensor, target: Target) -> str:
    """The precision of A S, of a dense A."""
    return (
        "ieee"
        if isinstance(edges, Csr)
        else plan.product_precision(factor_dtype(edges.a, s), s.dtype, target)
    )


def launch_small_bwd(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None, given: bool,
    symmetric: bool, mean: bool, needs: tuple[bool, bool], tiles: plan.SmallTiles, target: Target,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of logits and features; of size 0 where they are not needed."""
    s, gram, scalars, link_norm, m = saved
    dlogits = s.new_empty(s.shape if needs[0] else 0)
    dx = x.new_empty(x.shape if needs[1] else 0)
    *dense, rowptr, _, value = _adjacency(edges)
    transpose = (edges.rowptr_t, edges.col_t, edges.value_t) if isinstance(edges, Csr) else (None,) * 3
    launch(
        _soft_pool_small_bwd_kernel, (rows.b,),
        *grads, s, rows.graph_rows, gram if gram.numel() else None, scalars, link_norm, m,
        x, rows.rows_between(x), x.stride(-2), *dense, rowptr, value, *transpose, temperature,
        rows.largest() if mean else None, dlogits if needs[0] else None, dx if needs[1] else None,
        rows.graph_rows,
        *rows.arguments, rows.clusters, s.size(-1), x.size(-1),
        MEAN=mean, GIVEN=given, SYMMETRIC=symmetric, ACC=language_type(m.dtype),
        PRECISION=plan.gradient_precision(s.dtype, target), PRODUCT_A=_precision_of_a(edges, s, target),
        PRODUCT_X=plan.product_precision(x.dtype, x.dtype, target),
        PRODUCT_S=plan.product_precision(s.dtype, x.dtype, target), VECTOR=edges.vector, **tiles.options(target),
    )  # fmt: skip
    return dlogits, dx
