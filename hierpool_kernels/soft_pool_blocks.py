"""The K x K blocks of the gradients of soft pooling."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.clusters import column_count, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type, workspace
from hierpool_kernels.core.tiles import load_tile, slice_ptr, store_tile
from hierpool_kernels.soft_pool import Saved, Upstream, gradient_of_square, mean_divisors

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


# ---- launchers ------------------------------------------------------------------------------------------------------


class Blocks(NamedTuple):
    """The outputs of `_soft_pool_blocks_bwd_kernel`, flat."""

    core: Tensor | None  # [B, R, K, K]
    of_m: Tensor  # [B, R, K, K]
    of_s: Tensor | None  # [B, K, K]
    weights: Tensor  # [B, 1 + 3 R]


def launch_blocks(
    grads: Upstream, saved: Saved, rows: Rows, r: int, symmetric: bool, mean: bool, needs_core: bool, target: Target
) -> Blocks:  # fmt: skip
    k, acc = saved.s.size(-1), saved.m.dtype
    b, has_core, has_gram = rows.b, needs_core or not symmetric, saved.gram.size(1) > 0
    core, of_m, of_s, weights = workspace(
        saved.m, acc, has_core * b * r * k * k, b * r * k * k, has_gram * b * k * k, b * (1 + 3 * r)
    )
    blocks = Blocks(core if has_core else None, of_m, of_s if has_gram else None, weights)
    side = plan.blocks(k, target)
    launch(
        _soft_pool_blocks_bwd_kernel, (b, cdiv(k, side), cdiv(k, side)),
        grads.adj, grads.gram, saved.gram, saved.scalars, grads.scalars, grads.total_entropy, grads.link_norm,
        saved.link_norm, rows.largest() if mean else None, *blocks, rows.n, b, rows.clusters, r, k,
        BK=side, MEAN=mean, SYMMETRIC=symmetric, ACC=language_type(acc), num_warps=4,
    )  # fmt: skip
    return blocks
