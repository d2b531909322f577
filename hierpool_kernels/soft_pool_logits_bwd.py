"""The gradient of soft pooling to the logits, as one product for each row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import (
    chunk_rows,
    graph_slice,
    swizzled_program_ids,
)
from hierpool_kernels.core.clusters import column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import add_product, load_tile, row_ptr, slice_ptr, store_tile
from hierpool_kernels.soft_pool import Saved, Upstream
from hierpool_kernels.soft_pool_blocks import Blocks
from hierpool_kernels.soft_pool_softmax import launch_softmax_bwd
from hierpool_kernels.spmm import launch_dense_degrees, launch_dense_product, launch_spmm

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _gradient_of_s(
    p_s, p_ds, p_x, x_row, p_dx, F, p_m, p_mt, p_of_m, p_of_mt, p_of_s, p_dvectors, p_degree, p_weights,
    N, R, K, clusters, i_n, m_n, i_k, m_k,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr, PRECISION_X: tl.constexpr,
):  # fmt: skip
    """Rows from ``i_n`` on and columns from ``i_k`` on of dS, before the gradient of the softmax, and of S. Sums are
    over ``clusters``."""
    o_n = i_n + tl.arange(0, BN)
    o_k = i_k + tl.arange(0, BK)
    total = tl.zeros([BK, BN], ACC)
    if p_dx is not None:
        total = add_product(total, p_x, i_n, x_row, F, p_dx, F, i_k, m_n, m_k, BN, BC, BK, True, PRECISION_X)
    for i_r in range(R):
        first = (i_r + tl.full((), 0, tl.int64)) * N
        m = row_ptr(p_m, first, K)
        of_m = slice_ptr(p_of_m, i_r, K * K)
        total = add_product(
            total, m, i_n, K, K, of_m, K, i_k, m_n, m_k, BN, BC, BK, True, PRECISION, clusters
        )
        if p_mt is not None:
            mt = row_ptr(p_mt, first, K)
            of_mt = slice_ptr(p_of_mt, i_r, K * K)
            total = add_product(
                total, mt, i_n, K, K, of_mt, K, i_k, m_n, m_k, BN, BC, BK, True, PRECISION, clusters
            )
    if p_of_s is not None:
        total = add_product(
            total, p_s, i_n, K, K, p_of_s, K, i_k, m_n, m_k, BN, BC, BK, True, PRECISION, clusters
        )
    total = tl.trans(total)
    p = load_tile(p_s, i_n, K, i_k, m_n, m_k, BN, BK).to(ACC)
    if p_dvectors is not None:
        total += tl.load(p_dvectors + o_k, mask=m_k, other=0)[None, :]
    if p_degree is not None:
        for i_r in range(R):
            degree = tl.load(slice_ptr(p_degree, i_r, N) + o_n, mask=m_n, other=0)
            total += 2 * tl.load(p_weights + 1 + i_r) * degree[:, None] * p
            if p_dvectors is not None:
                total += (
                    degree[:, None] * tl.load(p_dvectors + (1 + i_r) * K + o_k, mask=m_k, other=0)[None, :]
                )
    total -= tl.load(p_weights) * tl.where(p > 0, 1 + tl.log(tl.where(p > 0, p, 1.0)), 0.0)
    if p_ds is not None:
        total += load_tile(p_ds, i_n, K, i_k, m_n, m_k, BN, BK).to(ACC)
    return total, p


@triton.jit(do_not_specialize=["N", "B", "x_graph"])
def _soft_pool_rows_bwd_kernel(
    s_ptr, ds_ptr, x_ptr, x_graph, x_row, dx_ptr, F,
    m_ptr, mt_ptr, of_m_ptr, of_mt_ptr, of_s_ptr, dvectors_ptr, degree_ptr, weights_ptr, temperature_ptr, out_ptr,
    ptr, sizes, mask_ptr, N, B, clusters_ptr, R, K,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr, GIVEN: tl.constexpr,
    ACC: tl.constexpr, PRECISION: tl.constexpr, PRECISION_X: tl.constexpr,
):  # fmt: skip
    """dS = [X | M | M' | S] [dx | of_m | of_mt | of_s]^T + terms of each row, and, if BK columns are all there are,
    dL = P (dS - rowsum(P dS)) / T.

    S, out [B, N, K], X [B, N, F], M = A S and M' = A^T S [B, R, N, K] (M' only where A is not symmetric), dx [B, K, F];
    of the blocks of `_soft_pool_blocks_bwd_kernel`, whose transposes are read: of_m, if A is symmetric, else core and
    of_m in the places of of_m and of_mt; of_s. The block is the left factor, so that the terms of sums are side by side
    in both; out is dL, or dS with GIVEN or more than ONE_TILE.
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
            store_tile(graph_slice(out_ptr, i_b, N, K, ptr), begin, K, i_k * BK, m_out, m_k, zeros, BN, BK)
        return
    p_s = graph_slice(s_ptr, i_b, N, K, ptr)
    p_ds = graph_slice(ds_ptr, i_b, N, K, ptr)
    p_x = graph_slice(x_ptr, i_b, x_graph, x_row, ptr)
    p_dx = slice_ptr(dx_ptr, i_b, K * F)
    p_m = graph_slice(m_ptr, i_b, R * N, K, ptr)
    p_mt = graph_slice(mt_ptr, i_b, R * N, K, ptr)
    p_of_m = slice_ptr(of_m_ptr, i_b, R * K * K)
    p_of_mt = slice_ptr(of_mt_ptr, i_b, R * K * K)
    p_of_s = slice_ptr(of_s_ptr, i_b, K * K)
    p_dvectors = slice_ptr(dvectors_ptr, i_b, (1 + R) * K)
    p_degree = graph_slice(degree_ptr, i_b, R * N, 1, ptr)
    p_weights = slice_ptr(weights_ptr, i_b, 1 + 3 * R)
    p_out = graph_slice(out_ptr, i_b, N, K, ptr)
    i_k *= BK
    o_k = i_k + tl.arange(0, BK)
    ds, p = _gradient_of_s(
        p_s, p_ds, p_x, x_row, p_dx, F, p_m, p_mt, p_of_m, p_of_mt, p_of_s, p_dvectors, p_degree, p_weights,
        N, R, K, clusters, begin, m_n, i_k, column_mask(o_k, clusters, K),
        BN, BK, BC, ACC, PRECISION, PRECISION_X,
    )  # fmt: skip
    if clusters is not None:  # of what was read beyond the clusters, only S is sure to be 0
        ds = tl.where((o_k < clusters)[None, :], ds, 0.0)
    if ONE_TILE and not GIVEN:
        ds = p * (ds - tl.sum(p * ds, 1)[:, None])
        if temperature_ptr is not None:
            ds /= tl.load(temperature_ptr).to(ACC)
    store_tile(p_out, begin, K, i_k, m_out, o_k < K, tl.where(m_n[:, None], ds, 0.0), BN, BK)


# ---- launchers ------------------------------------------------------------------------------------------------------


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


def launch_logits_gradient(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, rows: Rows, blocks: Blocks,
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
    of_x = None
    if grads.x is not None and x.size(-1):
        of_x = grads.x
    launch(
        _soft_pool_rows_bwd_kernel, (rows.chunks(tiles.bn), cdiv(k, tiles.bk)),
        s, grads.s, x, rows.rows_between(x), x.stride(-2), of_x, x.size(-1),
        m, mt, *((blocks.of_m, None) if symmetric else (blocks.core, blocks.of_m)), blocks.of_s, grads.vectors, degree,
        blocks.weights, temperature, ds,
        *rows.arguments, rows.clusters, r, k,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, ONE_TILE=one_tile, GIVEN=given, ACC=language_type(acc),
        PRECISION=precision, PRECISION_X=plan.product_precision(x.dtype, x.dtype, target),
        **plan.rows_backward_options(tiles, precision, target),
    )  # fmt: skip
    if not finished:
        launch_softmax_bwd(s, ds, rows, temperature, out, acc, target)
    return out
