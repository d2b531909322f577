"""The gradient of soft pooling to the entries of A."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import (
    last_at_most,
    pairs_of_program,
)
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import dense_tile
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import add_product, load_tile, slice_ptr, store_tile
from hierpool_kernels.soft_pool import Upstream
from hierpool_kernels.soft_pool_blocks import Blocks
from hierpool_kernels.soft_pool_row_products import launch_row_products

# ---- kernels --------------------------------------------------------------------------------------------------------


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
        total, p_s, i_j, s_row, K, p_t, K, i_n, m_j, m_n, BJ, BK, BN, True, PRECISION, clusters
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


def launch_edges_gradient(
    grads: Upstream, s: Tensor, edges: Dense | Csr, rows: Rows, blocks: Blocks, acc: torch.dtype, target: Target
) -> Tensor:  # fmt: skip
    """The gradient to A: products of rows of S core and rows of S, and terms of each row."""
    k, r, b, n = s.size(-1), edges.types, rows.b, rows.n
    assert blocks.core is not None
    core = blocks.core[: b * r * k * k].view(b, r, k, k)
    if isinstance(edges, Dense):
        a = edges.a
        t = core.new_empty(b, r, n, k)
        launch_row_products(s, core, t, rows, True, acc, target)
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
    launch_row_products(s, core[:, 0], t, rows, True, acc, target)
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
