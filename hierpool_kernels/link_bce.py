"""The cross-entropy link loss, from one tile of p = S S^T and one of A at a time.

p is symmetric, so that the terms of (i, j) and (j, i) add up to twice that of p_ij with w = (A_ij + A_ji) / 2. The
gradient to S therefore depends on A only through w, and the loss is a sum over the pairs of one triangle.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan, plan_losses
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import chunk_rows, graph_rows, locate_chunk, pairs_of_program, valid_rows
from hierpool_kernels.core.entries import column_of, entries_of_tile, first_entries, skip_to
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import entry_products, symmetrized_tile
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, language_type
from hierpool_kernels.core.tiles import add_product, dot, load_tile, slice_ptr, store_tile

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _log_complement(q, EPS: tl.constexpr):
    """log(1 - q + eps), corrected for the rounding errors of its argument, which dominate for small q."""
    complement = 1 - q
    total = complement + EPS
    error = (EPS - (total - complement)) + ((1 - complement) - q)
    return tl.log(total) + error / total


@triton.jit
def _term(p, w, EPS: tl.constexpr):
    """The loss of a pair, NaN where p + eps is not positive."""
    q = tl.where(p > 1, 1.0, p)  # NaN stays NaN
    term = -w * tl.log(q + EPS) - (1 - w) * _log_complement(q, EPS)
    return tl.where(p + EPS > 0, term, float("nan"))


@triton.jit
def _slope(p, w, EPS: tl.constexpr):
    """The derivative of a term with respect to p; that of min(p, 1) is 1/2 where p = 1."""
    q = tl.where(p > 1, 1.0, p)
    edge = q + EPS
    no_edge = 1 - q + EPS
    slope = ((1 - w) * edge - w * no_edge) / (edge * no_edge)
    return tl.where(p > 1, 0.0, tl.where(p == 1, 0.5 * slope, slope))


@triton.jit
def _log_odds(p, EPS: tl.constexpr):
    """The derivative of a term with respect to its entry of A, NaN where p + eps is not positive."""
    q = tl.where(p > 1, 1.0, p)
    return tl.where(p + EPS > 0, _log_complement(q, EPS) - tl.log(q + EPS), float("nan"))


@triton.jit
def _scale(dloss_ptr, divisor_ptr, ACC: tl.constexpr):
    """The gradient of the sum over all pairs."""
    return (tl.load(dloss_ptr).to(tl.float64) / tl.load(divisor_ptr)).to(ACC)


@triton.jit(do_not_specialize=["N", "B"])
def _link_bce_fwd_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, rowptr, col_ptr, value_ptr, part_ptr,
    ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr, SYMMETRIC: tl.constexpr,
    TRIANGLE: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """sum over j of -w_ij log(q_ij + eps) - (1 - w_ij) log(1 - q_ij + eps), q_ij = min(s_i . s_j, 1).

    S [B, N, K]; A [B, N, N], or sparse [N, N], of which w is A itself; part [chunks, splits] in float64.
    A program for a chunk of BN rows of a graph and a part of its columns, BJ at a time; with TRIANGLE of the columns
    from its own rows on, those behind them twice.
    Terms and sums over BJ of them in ACC, sums over tiles in float64.
    """
    i_chunk = tl.program_id(0)
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, BN)
    o_n = begin + tl.arange(0, BN)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    m_n = valid_rows(o_n, end, p_mask)
    if TRIANGLE:
        first = begin
    else:
        first, _ = graph_rows(i_b, ptr, sizes, N)
    width = tl.cdiv(tl.cdiv(tl.maximum(end - first, 0), BJ), tl.num_programs(1)) * BJ
    first += tl.program_id(1) * width
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    m_c = tl.arange(0, BC) < K
    if ONE_TILE:
        s = load_tile(p_s, begin, s_row, 0, m_n, m_c, BN, BC)
    if a_ptr is not None:
        p_a = slice_ptr(a_ptr, i_b, a_graph)
    else:
        before, cursor, stop = first_entries(rowptr, begin, end, BN)
        p_col = slice_ptr(col_ptr, before, 1)
        p_value = slice_ptr(value_ptr, before, 1)
        cursor = skip_to(first, p_col, cursor, stop)
        j = column_of(p_col, cursor, stop)
    total = tl.zeros([BN], tl.float64)
    for i_j in range(first, tl.minimum(first + width, end), BJ):
        o_j = i_j + tl.arange(0, BJ)
        m_j = valid_rows(o_j, end, p_mask)
        if a_ptr is not None:
            w = symmetrized_tile(p_a, a_row, a_col, begin, m_n, i_j, m_j, end, BN, BJ, VECTOR, SYMMETRIC, ACC)
        else:
            w, cursor, j = entries_of_tile(p_col, p_value, cursor, stop, j, i_j, BN, BJ, ACC)
        p = tl.zeros([BN, BJ], ACC)
        if ONE_TILE:
            p = dot(s, tl.trans(load_tile(p_s, i_j, s_row, 0, m_j, m_c, BJ, BC)), p, PRECISION)
        else:
            p = add_product(p, p_s, i_j, s_row, K, p_s, s_row, begin, m_j, m_n, BJ, BC, BN, True, PRECISION)
        term = tl.where(m_n[:, None] & m_j[None, :], _term(p, w, EPS), 0.0)
        if TRIANGLE:
            term *= tl.where(o_j >= begin + BN, 2.0, 1.0).to(ACC)[None, :]
        total += tl.sum(term, 1).to(tl.float64)
    tl.store(part_ptr + i_chunk.to(tl.int64) * tl.num_programs(1) + tl.program_id(1), tl.sum(total, 0))


@triton.jit(do_not_specialize=["COUNT"])
def _link_bce_reduce_fwd_kernel(part_ptr, divisor_ptr, loss_ptr, COUNT, BS: tl.constexpr):
    """loss = sum of all partial sums / divisor.

    part [COUNT], divisor and loss [].
    One program, BS partial sums at a time, in their order.
    In float64.
    """
    total = tl.zeros([BS], tl.float64)
    for i_s in range(0, COUNT, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.load(part_ptr + o_s, mask=o_s < COUNT, other=0)
    loss = tl.sum(total, 0) / tl.load(divisor_ptr)
    tl.store(loss_ptr, loss.to(loss_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["N", "B"])
def _link_bce_rows_bwd_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col,
    rowptr, col_ptr, value_ptr, rowptr_t, col_t_ptr, value_t_ptr, out_ptr, out_graph,
    ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, ONE_TILE: tl.constexpr,
    SYMMETRIC: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr, PRECISION_OUT: tl.constexpr,
    VECTOR: tl.constexpr,
):  # fmt: skip
    """dS_i = dloss / divisor sum_j 2 g_ij s_j, g = dmin(p, 1)/dp ((1 - w) / (1 - q + eps) - w / (q + eps)).

    S, dS [B, N, K]; A [B, N, N], or sparse [N, N] and its transpose, unless that is A; dloss, divisor [].
    A program for a chunk of BN rows of a graph and BK columns of dS, BJ columns of p at a time; with ONE_TILE one tile
    of S serves both products, else p is computed again for each BK columns. Rows that are not valid get 0.
    Sums in ACC.
    """
    i_b, begin, end, last, m_n = chunk_rows(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
    if begin >= last:
        return
    m_out = begin + tl.arange(0, BN) < last
    p_mask = slice_ptr(mask_ptr, i_b, N)
    first, _ = graph_rows(i_b, ptr, sizes, N)
    scale = 2 * _scale(dloss_ptr, divisor_ptr, ACC)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    i_k = tl.program_id(1) * BK
    m_k = i_k + tl.arange(0, BK) < K
    if ONE_TILE:
        s = load_tile(p_s, begin, s_row, i_k, m_n, m_k, BN, BK)
    if a_ptr is not None:
        p_a = slice_ptr(a_ptr, i_b, a_graph)
    else:
        before, cursor, stop = first_entries(rowptr, begin, end, BN)
        p_col = slice_ptr(col_ptr, before, 1)
        p_value = slice_ptr(value_ptr, before, 1)
        j = column_of(p_col, cursor, stop)
        if not SYMMETRIC:
            before_t, cursor_t, stop_t = first_entries(rowptr_t, begin, end, BN)
            p_col_t = slice_ptr(col_t_ptr, before_t, 1)
            p_value_t = slice_ptr(value_t_ptr, before_t, 1)
            j_t = column_of(p_col_t, cursor_t, stop_t)
    ds = tl.zeros([BN, BK], ACC)
    for i_j in range(first, tl.where(begin < end, end, first), BJ):
        o_j = i_j + tl.arange(0, BJ)
        m_j = valid_rows(o_j, end, p_mask)
        if a_ptr is not None:
            w = symmetrized_tile(p_a, a_row, a_col, begin, m_n, i_j, m_j, end, BN, BJ, VECTOR, SYMMETRIC, ACC)
        else:
            w, cursor, j = entries_of_tile(p_col, p_value, cursor, stop, j, i_j, BN, BJ, ACC)
            if not SYMMETRIC:
                transposed, cursor_t, j_t = entries_of_tile(
                    p_col_t, p_value_t, cursor_t, stop_t, j_t, i_j, BN, BJ, ACC
                )  # fmt: skip
                w = 0.5 * (w + transposed)
        s_j = load_tile(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK)
        p = tl.zeros([BN, BJ], ACC)
        if ONE_TILE:
            p = dot(s, tl.trans(s_j), p, PRECISION)
        else:
            p = add_product(p, p_s, i_j, s_row, K, p_s, s_row, begin, m_j, m_n, BJ, BC, BN, True, PRECISION)
        g = tl.where(m_n[:, None] & m_j[None, :], scale * _slope(p, w, EPS), 0.0)
        ds = dot(g, s_j, ds, PRECISION_OUT)
    store_tile(slice_ptr(out_ptr, i_b, out_graph), begin, K, i_k, m_out, m_k, ds, BN, BK)


@triton.jit(do_not_specialize=["N"])
def _link_bce_dense_edges_bwd_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_graph, s_row, out_ptr, sizes, mask_ptr, N, K,
    BN: tl.constexpr, BJ: tl.constexpr, BC: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dA_ij = dloss / divisor (log(1 - q_ij + eps) - log(q_ij + eps)), 0 unless both nodes are valid.

    S [B, N, K], dA [B, N, N]; dloss, divisor [].
    A program for BN x BJ entries of a graph.
    Sums in ACC.
    """
    i_b, i_n, i_j, m_n, m_j, _ = pairs_of_program(sizes, mask_ptr, N, BN, BJ)
    o_n = i_n + tl.arange(0, BN)
    o_j = i_j + tl.arange(0, BJ)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p = tl.zeros([BN, BJ], ACC)
    p = add_product(p, p_s, i_j, s_row, K, p_s, s_row, i_n, m_j, m_n, BJ, BC, BN, True, PRECISION)
    odds = _scale(dloss_ptr, divisor_ptr, ACC) * _log_odds(p, EPS)
    odds = tl.where(m_n[:, None] & m_j[None, :], odds, 0.0)
    store_tile(out_ptr + i_b.to(tl.int64) * N * N, i_n, N, i_j, o_n < N, o_j < N, odds, BN, BJ)


@triton.jit(do_not_specialize=["N", "E"])
def _link_bce_sparse_edges_bwd_kernel(
    dloss_ptr, divisor_ptr, s_ptr, s_row, rowptr, col_ptr, out_ptr, N, E, K,
    BE: tl.constexpr, BK: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """As `_link_bce_dense_edges_bwd_kernel`, at the stored entries of a sparse A only.

    S [N, K]; rows and columns of A [N, N] compressed; dA [E]; dloss, divisor [].
    A program for BE entries, which finds their rows by bisection.
    Sums in ACC.
    """
    p, o_e, m_e = entry_products(s_ptr, s_row, s_ptr, s_row, rowptr, col_ptr, N, E, K, BE, BK, ACC)
    odds = _scale(dloss_ptr, divisor_ptr, ACC) * _log_odds(p, EPS)
    tl.store(out_ptr + o_e, odds.to(out_ptr.dtype.element_ty), mask=m_e)


# ---- launchers ------------------------------------------------------------------------------------------------------


def _divisor(rows: Rows, like: Tensor, normalize: str | None) -> Tensor:
    """The divisor of the sum over all pairs, at least 1: float64, on the device, as only the device may know it."""
    if normalize is None:
        return like.new_ones((), dtype=torch.float64)
    largest = rows.largest()
    if normalize == "numel" and largest is not None:
        return (largest.double().square() * rows.b).clamp(min=1)
    if normalize == "numel" or (largest is None and rows.sizes is None):
        return like.new_full((), max(rows.b * rows.n**2, 1), dtype=torch.float64)
    if rows.ptr is not None:
        counts = rows.ptr.diff()
    elif rows.mask is not None:
        counts = rows.mask.sum(1)
    else:
        assert rows.sizes is not None
        counts = rows.sizes
    return counts.double().square().sum().clamp(min=1)


def _probability_precision(s: Tensor, target: Target) -> str:
    """The precision of p = S S^T. TF32 is not enough: near p = 1 the loss depends on 1 - p."""
    precision = plan.product_precision(s.dtype, s.dtype, target)
    return "tf32x3" if precision == "tf32" else precision


def _tiles(
    s: Tensor, edges: Dense | Csr, rows: Rows, precision: str, target: Target
) -> plan_losses.LinkTiles:
    total = rows.n if rows.ptr is not None else rows.b * rows.n
    return plan_losses.link_bce(total, rows.n, s.size(-1), precision, isinstance(edges, Dense), target)


def launch_link_bce_fwd(
    s: Tensor, edges: Dense | Csr, rows: Rows, eps: float, normalize: str | None, symmetric: bool, target: Target
) -> Tensor:  # fmt: skip
    """The loss, 0-d, from two launches: sums of chunks, and their sum."""
    s = contiguous_rows(s)
    k, acc = s.size(-1), accumulation_dtype(s, edges.values)
    precision = _probability_precision(s, target)
    cut = _tiles(s, edges, rows, precision, target)
    tiles, chunks = cut.sums, rows.chunks(cut.sums.bn)
    part = s.new_empty(chunks, cut.splits, dtype=torch.float64)
    launch(
        _link_bce_fwd_kernel, (chunks, cut.splits),
        s, rows.graph_stride(s), s.stride(-2), *edges.arguments(3), part, *rows.arguments, k,
        BN=tiles.bn, BJ=tiles.bj, BC=tiles.bk, ONE_TILE=cut.one_tile, SYMMETRIC=symmetric,
        TRIANGLE=symmetric or isinstance(edges, Dense), EPS=eps, ACC=language_type(acc), PRECISION=precision,
        VECTOR=edges.vector, **tiles.options(precision, target),
    )  # fmt: skip
    loss = s.new_empty((), dtype=acc)
    divisor = _divisor(rows, s, normalize)
    launch(_link_bce_reduce_fwd_kernel, (1,), part, divisor, loss, part.numel(), BS=1024, num_warps=4)
    return loss


def launch_link_bce_bwd(
    dloss: Tensor, s: Tensor, edges: Dense | Csr, rows: Rows, eps: float, normalize: str | None, symmetric: bool,
    needs: tuple[bool, bool], target: Target,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients to S and to the entries of A; of size 0 where they are not needed."""
    s = contiguous_rows(s)
    divisor = _divisor(rows, s, normalize)
    like = s if edges.values is None else edges.values
    ds, dedges = s.new_empty(0), like.new_empty(0)
    if needs[0]:
        ds = _gradient_of_s(dloss, divisor, s, edges, rows, eps, symmetric, target)
    if needs[1]:
        dedges = _gradient_of_a(dloss, divisor, s, edges, rows, eps, target)
    return ds, dedges


def _gradient_of_s(
    dloss: Tensor, divisor: Tensor, s: Tensor, edges: Dense | Csr, rows: Rows, eps: float, symmetric: bool,
    target: Target,
) -> Tensor:  # fmt: skip
    k, acc = s.size(-1), accumulation_dtype(s, edges.values)
    precision = _probability_precision(s, target)
    cut = _tiles(s, edges, rows, precision, target)
    tiles = cut.rows
    transposed = edges[3:] if isinstance(edges, Csr) else (None, None, None)
    out = rows.empty(s, k)
    launch(
        _link_bce_rows_bwd_kernel, (rows.chunks(tiles.bn), cdiv(k, tiles.bk)),
        dloss, divisor, s, rows.graph_stride(s), s.stride(-2), *edges.arguments(3), *transposed,
        out, rows.graph_stride(out), *rows.arguments, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, BC=cut.sums.bk, ONE_TILE=cut.one_tile, SYMMETRIC=symmetric,
        EPS=eps, ACC=language_type(acc), PRECISION=precision, PRECISION_OUT=plan.gradient_precision(s.dtype, target),
        VECTOR=edges.vector, **cut.rows_options(precision, isinstance(edges, Dense), target),
    )  # fmt: skip
    return out


def _gradient_of_a(
    dloss: Tensor, divisor: Tensor, s: Tensor, edges: Dense | Csr, rows: Rows, eps: float, target: Target
) -> Tensor:
    k, n, acc = s.size(-1), rows.n, language_type(accumulation_dtype(s, edges.values))
    if isinstance(edges, Dense):
        precision = _probability_precision(s, target)
        tiles = _tiles(s, edges, rows, precision, target).edges
        out = edges.a.new_empty(edges.a.shape)
        launch(
            _link_bce_dense_edges_bwd_kernel, (rows.b * cdiv(n, tiles.bn), cdiv(n, tiles.bj)),
            dloss, divisor, s, rows.graph_stride(s), s.stride(-2), out, rows.sizes, rows.mask, n, k,
            BN=tiles.bn, BJ=tiles.bj, BC=tiles.bk, EPS=eps, ACC=acc, PRECISION=precision,
            **tiles.options(precision, target),
        )  # fmt: skip
        return out
    entries = edges.col.numel()
    out = (s if edges.value is None else edges.value).new_empty(entries)
    be, bk = plan.entries(k, target)
    launch(
        _link_bce_sparse_edges_bwd_kernel, (cdiv(entries, be),),
        dloss, divisor, s, s.stride(-2), edges.rowptr, edges.col, out, n, entries, k,
        BE=be, BK=bk, EPS=eps, ACC=acc, num_warps=4,
    )  # fmt: skip
    return out
