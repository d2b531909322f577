"""Products of S^T with node tensors, of each chunk of rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.chunks import (
    graph_slice,
    locate_chunk,
    swizzled_program_ids,
    valid_rows,
)
from hierpool_kernels.core.clusters import column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import (
    dot,
    factor,
    load_tile,
    settled,
    slice_ptr,
    store_tile,
    turned_factor,
)

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit(do_not_specialize=["N", "B", "STEPS", "s_graph", "y_graph"])
def _soft_pool_products_fwd_kernel(
    s_ptr, s_graph, s_row, turned_ptr, y_ptr, y_graph, y_row, part_ptr, part_chunk, ptr, sizes, mask_ptr, N, B,
    clusters_ptr, K, C, STEPS,
    BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, SQUARE: tl.constexpr,
    UPPER: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """S^T Y of each chunk, Y on valid rows only.

    S [B, N, K], Y [B, N, C]: X, or M, which is SQUARE, or None, which is S; part [chunks, .., K, C]. With S^T [B, K, N]
    S is read from it.
    A program for a chunk of STEPS BN rows of a graph, BK rows and BC columns of the product, BN rows at a time.
    Programs of rows or columns that are no clusters write nothing, and with UPPER those of tiles below the diagonal.
    Sums in ACC.
    """
    i_chunk, i_k, i_c = swizzled_program_ids()
    CHUNK = STEPS * BN
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK)
    if begin >= end:
        return
    i_k *= BK
    i_c *= BC
    if UPPER and i_k >= i_c + BC:
        return
    clusters = graph_clusters(i_b, clusters_ptr, K)
    if clusters is not None and (i_k >= clusters) | (SQUARE & (i_c >= clusters)):
        return
    m_k = column_mask(i_k + tl.arange(0, BK), clusters, K)
    m_c = column_mask(i_c + tl.arange(0, BC), clusters if SQUARE else None, C)
    p_s = graph_slice(s_ptr, i_b, s_graph, s_row, ptr)
    p_y = graph_slice(y_ptr, i_b, y_graph, y_row, ptr)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    total = tl.zeros([BC, BK], ACC)  # of Y^T S
    if turned_ptr is not None:
        width = N // 16 * 16  # this is N, of which the compiler does not know that it is a multiple
        p_turned = slice_ptr(turned_ptr, i_b, K * width)
    for i_n in range(begin, tl.minimum(begin + CHUNK, end), BN):
        o_n = i_n + tl.arange(0, BN)
        m_n = valid_rows(o_n, end, p_mask)
        if turned_ptr is not None:
            m_read = o_n < tl.cdiv(end, 16) * 16  # S is 0 in rows that are not nodes
            s = tl.trans(load_tile(p_turned, i_k, width, i_n, m_k, m_read, BK, BN))
            if y_ptr is None:
                total = dot(load_tile(p_turned, i_c, width, i_n, m_c, m_read, BC, BN), s, total, PRECISION)
            else:
                y = load_tile(p_y, i_n, y_row, i_c, m_n, m_c, BN, BC)
                total = dot(turned_factor(y, m_n, ACC, PRECISION), settled(s), total, PRECISION)
        else:
            s = factor(load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK), ACC, PRECISION)
            if y_ptr is None:
                y = load_tile(p_s, i_n, s_row, i_c, m_n, m_c, BN, BC)
            else:
                y = load_tile(p_y, i_n, y_row, i_c, m_n, m_c, BN, BC)
            total = dot(turned_factor(y, m_n, ACC, PRECISION), s, total, PRECISION)
    store_tile(slice_ptr(part_ptr, i_chunk, part_chunk), i_k, C, i_c, m_k, m_c, tl.trans(total), BK, BC)


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_products(
    s: Tensor, turned: Tensor | None, y: Tensor | None, part: Tensor, stride: int, rows: Rows, chunk: int, square: bool,
    upper: bool, acc: torch.dtype, target: Target,
) -> None:  # fmt: skip
    """S^T Y of each chunk into ``part``, ``stride`` elements apart, Y being S if it is None.

    ``square``: columns of Y are clusters; ``upper``: only what is on or above the diagonal is needed.
    """
    other = s if y is None else y
    k, c = s.size(-1), other.size(-1)
    precision = plan.product_precision(s.dtype, other.dtype, target)
    tiles = plan.products(k, c, precision, target)
    y_strides = (0, 0) if y is None else (rows.rows_between(y), y.stride(-2))
    launch(
        _soft_pool_products_fwd_kernel, (rows.chunks(chunk), cdiv(k, tiles.bk), cdiv(c, tiles.bj)),
        s, rows.graph_rows, k, turned, y, *y_strides, part, stride,
        *rows.arguments, rows.clusters, k, c, chunk // tiles.bn,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, SQUARE=square and rows.clusters is not None,
        UPPER=upper and k > min(tiles.bk, tiles.bj), ACC=language_type(acc), PRECISION=precision,
        **tiles.options(precision, target),
    )  # fmt: skip
