"""The softmax of soft pooling, and its gradient where a row of S is more than a tile."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.chunks import chunk_rows, graph_rows, valid_rows
from hierpool_kernels.core.clusters import column_count, column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type
from hierpool_kernels.core.tiles import in_tf32, load_tile, row_ptr, slice_ptr, store_tile

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _store_zeros(
    p_out, i_n, out_row, m_n, clusters, K, BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr
):
    """Zeros in the tiles of columns that no cluster reaches."""
    for i_k in range(tl.cdiv(clusters, BK) * BK, K, BK):
        store_tile(p_out, i_n, out_row, i_k, m_n, i_k + tl.arange(0, BK) < K, tl.zeros([BN, BK], ACC), BN, BK)


@triton.jit
def _store_rows(
    p_s, s_row, p_turned, N, i_n, i_k, m_n, m_k, s, BN: tl.constexpr, BK: tl.constexpr, ROUND: tl.constexpr
):  # fmt: skip
    """Store a tile of S, of S^T, or of both."""
    if p_s is not None:
        store_tile(p_s, i_n, s_row, i_k, m_n, m_k, s, BN, BK)
    if p_turned is not None:
        if ROUND:
            s = in_tf32(s)
        store_tile(p_turned, i_k, N, i_n, m_k, m_n, tl.trans(s), BK, BN)


@triton.jit(do_not_specialize=["N", "B", "l_graph", "s_graph"])
def _soft_pool_softmax_fwd_kernel(
    logits_ptr, l_graph, l_row, s_ptr, s_graph, s_row, turned_ptr, temperature_ptr, ptr, sizes, mask_ptr, N, B,
    clusters_ptr, K,
    BN: tl.constexpr, BK: tl.constexpr, ONE_TILE: tl.constexpr, GIVEN: tl.constexpr, ROUND: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """S = m softmax(L / T), 0 on rows that are not valid; NaN, as in torch, where all of L is -inf; and S^T for the
    products with it, with ROUND in TF32.

    L, S [B, N, K], S^T [B, K, N], for which N is a multiple of 16; both may be None. Without ``clusters_ptr`` the nodes
    of a ragged batch are one graph.
    A program for BN rows of a graph: of BK >= K columns, or of BK at a time, first for the online maximum and sum of
    each row, and then for S.
    In ACC; S is rounded once, to its own dtype.
    """
    if turned_ptr is not None:
        N = N // 16 * 16  # this is N, of which the compiler does not know that it is a multiple
    if clusters_ptr is not None:
        i_b, i_n, _, last, m_valid = chunk_rows(tl.program_id(0), ptr, sizes, mask_ptr, N, B, BN)
        if i_n >= last:
            return
        m_n = i_n + tl.arange(0, BN) < last
    else:
        i_b = tl.program_id(0) // tl.cdiv(N, BN)
        i_n = tl.program_id(0) % tl.cdiv(N, BN) * BN
        o_n = i_n + tl.arange(0, BN)
        _, end = graph_rows(i_b, None, sizes, N)
        m_n = o_n < N
        m_valid = valid_rows(o_n, end, slice_ptr(mask_ptr, i_b, N))
    b = i_b.to(tl.int64)
    p_l = row_ptr(logits_ptr, b * l_graph, l_row)
    p_s = row_ptr(s_ptr, b * s_graph, s_row)
    p_turned = slice_ptr(turned_ptr, i_b, K * N)
    clusters = graph_clusters(i_b, clusters_ptr, K)
    columns = column_count(clusters, K)
    scale = 1.0
    if temperature_ptr is not None:
        scale = 1 / tl.load(temperature_ptr).to(ACC)
    if ONE_TILE or GIVEN:
        for i_k in range(0, columns, BK):
            o_k = i_k + tl.arange(0, BK)
            m_k = o_k < columns
            z = load_tile(p_l, i_n, l_row, i_k, m_valid, column_mask(o_k, clusters, K), BN, BK).to(ACC)
            if not GIVEN:
                z = tl.where(m_k[None, :], z * scale, float("-inf"))
                e = tl.exp(z - tl.max(z, 1)[:, None])
                z = e / tl.sum(e, 1)[:, None]
            if clusters is not None:
                z = tl.where(m_k[None, :], z, 0.0)
            z = tl.where(m_valid[:, None], z, 0.0)
            _store_rows(p_s, s_row, p_turned, N, i_n, i_k, m_n, o_k < K, z, BN, BK, ROUND)
    else:
        largest = tl.full([BN], float("-inf"), ACC)
        total = tl.zeros([BN], ACC)
        for i_k in range(0, columns, BK):
            o_k = i_k + tl.arange(0, BK)
            z = load_tile(p_l, i_n, l_row, i_k, m_valid, column_mask(o_k, clusters, K), BN, BK).to(ACC)
            z = tl.where((o_k < columns)[None, :], z * scale, float("-inf"))
            above = tl.maximum(largest, tl.max(z, 1))
            finite = tl.where(above == float("-inf"), 0.0, above)  # all of the row is -inf so far
            total = total * tl.exp(largest - finite) + tl.sum(tl.exp(z - finite[:, None]), 1)
            largest = above
        for i_k in range(0, columns, BK):
            o_k = i_k + tl.arange(0, BK)
            z = load_tile(p_l, i_n, l_row, i_k, m_valid, column_mask(o_k, clusters, K), BN, BK).to(ACC)
            z = tl.exp(z * scale - largest[:, None]) / total[:, None]
            if clusters is not None:
                z = tl.where((o_k < clusters)[None, :], z, 0.0)
            z = tl.where(m_valid[:, None], z, 0.0)
            _store_rows(p_s, s_row, p_turned, N, i_n, i_k, m_n, o_k < K, z, BN, BK, ROUND)
    if clusters is not None and p_s is not None:
        _store_zeros(p_s, i_n, s_row, m_n, clusters, K, BN, BK, ACC)


@triton.jit(do_not_specialize=["N", "B"])
def _soft_pool_softmax_bwd_kernel(
    s_ptr, ds_ptr, temperature_ptr, out_ptr, ptr, N, B, clusters_ptr, K,
    BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dL = P (dS - rowsum(P dS)) / T, where K is more than a tile of `_soft_pool_rows_bwd_kernel`.

    S, dS, dL [N, K], contiguous, of all nodes; with ``clusters_ptr`` [B, N, K], or ragged. dL may take the place of dS.
    A program for BN rows, with ``clusters_ptr`` of a graph, BK columns at a time, first for the sums of rows.
    In ACC.
    """
    if clusters_ptr is not None:
        i_b, i_n, _, last, _ = chunk_rows(tl.program_id(0), ptr, None, None, N, B, BN)
        if i_n >= last:
            return
        m_n = i_n + tl.arange(0, BN) < last
        clusters = graph_clusters(i_b, clusters_ptr, K)
        if ptr is None:
            i_n = i_b.to(tl.int64) * N + i_n
    else:
        i_n = tl.program_id(0) * BN
        m_n = i_n + tl.arange(0, BN) < N
        clusters = None
    columns = column_count(clusters, K)
    along = tl.zeros([BN], ACC)
    for i_k in range(0, columns, BK):
        m_k = column_mask(i_k + tl.arange(0, BK), clusters, K)
        p = load_tile(s_ptr, i_n, K, i_k, m_n, m_k, BN, BK).to(ACC)
        along += tl.sum(p * load_tile(ds_ptr, i_n, K, i_k, m_n, m_k, BN, BK), 1)
    if temperature_ptr is not None:
        scale = 1 / tl.load(temperature_ptr).to(ACC)
    else:
        scale = 1.0
    for i_k in range(0, columns, BK):
        o_k = i_k + tl.arange(0, BK)
        m_k = column_mask(o_k, clusters, K)
        p = load_tile(s_ptr, i_n, K, i_k, m_n, m_k, BN, BK).to(ACC)
        dl = p * (load_tile(ds_ptr, i_n, K, i_k, m_n, m_k, BN, BK) - along[:, None]) * scale
        if clusters is not None:  # the sums of a row may be NaN
            dl = tl.where((o_k < clusters)[None, :], dl, 0.0)
        store_tile(out_ptr, i_n, K, i_k, m_n, o_k < K, dl, BN, BK)
    if clusters is not None:
        _store_zeros(out_ptr, i_n, K, m_n, clusters, K, BN, BK, ACC)


# ---- launchers ------------------------------------------------------------------------------------------------------


def _programs(rows: Rows, bn: int, by_graph: bool) -> tuple[int, Tensor | None, int, int]:
    """The number of programs of ``bn`` rows, and the kernel arguments ``ptr, N, B``: of all graphs, or of one that has
    the rows of all."""
    if by_graph:
        return rows.chunks(bn), rows.ptr, rows.n, rows.b
    nodes = rows.n if rows.ptr is not None else rows.b * rows.n
    return cdiv(nodes, bn), None, nodes, 1


def launch_softmax_fwd(
    logits: Tensor, rows: Rows, temperature: Tensor | None, given: bool, acc: torch.dtype, target: Target,
    turned: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """S, ``[B, N, K]`` or ``[N, K]``, and, if it is to be ``turned``, S^T ``[B, K, N]`` as products take it."""
    s = rows.empty(logits, logits.size(-1))
    other = logits.new_empty(rows.b, logits.size(-1), rows.n) if turned else None
    _softmax_fwd(logits, s, other, rows, temperature, given, acc, target)
    return s, other


def launch_transpose(s: Tensor, rows: Rows, acc: torch.dtype, target: Target) -> Tensor:
    """S^T ``[B, K, N]`` of a padded batch, as :func:`launch_softmax_fwd` makes it."""
    turned = s.new_empty(rows.b, s.size(-1), rows.n)
    _softmax_fwd(s, None, turned, rows, None, True, acc, target)
    return turned


def _softmax_fwd(
    logits: Tensor, s: Tensor | None, turned: Tensor | None, rows: Rows, temperature: Tensor | None, given: bool,
    acc: torch.dtype, target: Target,
) -> None:  # fmt: skip
    """Fill S and S^T."""
    k = logits.size(-1)
    tiles = plan.softmax(k, target)
    programs, ptr, n, b = _programs(rows, tiles.bn, rows.ptr is None or rows.clusters is not None)
    launch(
        _soft_pool_softmax_fwd_kernel, (programs,),
        logits, rows.rows_between(logits), logits.stride(-2), s, rows.graph_rows, k, turned, temperature,
        ptr, rows.sizes, rows.mask, n, b, rows.clusters, k,
        BN=tiles.bn, BK=tiles.bk, ONE_TILE=tiles.one_tile, GIVEN=given,
        ROUND=turned is not None and plan.product_precision(logits.dtype, logits.dtype, target) == "tf32",
        ACC=language_type(acc), num_warps=tiles.warps,
    )  # fmt: skip


def launch_softmax_bwd(
    s: Tensor,
    ds: Tensor,
    rows: Rows,
    temperature: Tensor | None,
    out: Tensor,
    acc: torch.dtype,
    target: Target,
) -> None:
    """The gradient to the logits into ``out``, from ``ds``, the gradient to S."""
    k = s.size(-1)
    tiles = plan.softmax(k, target)
    programs, ptr, n, b = _programs(rows, tiles.bn, rows.clusters is not None)
    launch(
        _soft_pool_softmax_bwd_kernel, (programs,), s, ds, temperature, out, ptr, n, b, rows.clusters, k,
        BN=tiles.bn, BK=tiles.bk, ACC=language_type(acc), num_warps=tiles.warps,
    )  # fmt: skip
