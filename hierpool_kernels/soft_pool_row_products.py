"""Products of rows of S with a matrix of each graph."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
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
from hierpool_kernels.core.tiles import add_product, row_ptr, slice_ptr, store_tile

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["N", "B", "s_graph", "out_graph", "out_type"])
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
        tl.zeros([BC, BN], ACC), graph_slice(s_ptr, i_b, s_graph, s_row, ptr), begin, s_row, K, p_block, C, i_c,
        m_n, m_c, BN, BK, BC, False, PRECISION, clusters,
    )  # fmt: skip
    p_out = row_ptr(graph_slice(out_ptr, i_b, out_graph, C, ptr), i_r.to(tl.int64) * out_type, C)
    store_tile(p_out, begin, C, i_c, m_out, m_c, tl.trans(total), BN, BC)


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_row_products(
    s: Tensor, block: Tensor, out: Tensor, rows: Rows, square: bool, acc: torch.dtype, target: Target
) -> None:
    """S times ``block [B, (R,) K, C]`` into ``out [B, (R,) N, C]``; ``square``: columns of the block are clusters."""
    k, c = block.shape[-2:]
    r = block.size(1) if block.dim() == 4 else 1
    precision = plan.product_precision(s.dtype, block.dtype, target)
    tiles = plan.row_products(c, precision, target)
    launch(
        _soft_pool_row_products_bwd_kernel, (rows.chunks(tiles.bn), cdiv(c, tiles.bj), r),
        s, rows.graph_rows, k, block, block.stride(0), block.stride(1) if block.dim() == 4 else 0,
        out, r * rows.graph_rows, rows.graph_rows,
        *rows.arguments, rows.clusters, k, c,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, SQUARE=square and rows.clusters is not None, ACC=language_type(acc),
        PRECISION=precision, **tiles.options(precision, target),
    )  # fmt: skip
