"""The total variation over edges: distances of rows of S at the entries of A, and signs of their differences."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan_losses
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.chunks import chunk_rows, first_chunk, graph_of_chunk, pairs_of_program, valid_rows
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import dense_tile, entry_weights, sign, symmetrized_tile
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, language_type
from hierpool_kernels.core.tiles import load_tile, slice_ptr, store_tile
from hierpool_kernels.edge_distances import _entry_distances, launch_edge_distances, launch_signed_sums

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _pair_distances(
    p_s, s_row, i_n, m_n, i_j, m_j, K, BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """|s_i - s_j|_1 of BN x BJ pairs of rows."""
    total = tl.zeros([BN, BJ], ACC)
    for i_k in range(0, K, BK):
        m_k = i_k + tl.arange(0, BK) < K
        s_n = load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
        s_j = load_tile(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK).to(ACC)
        total += tl.sum(tl.abs(s_n[:, None, :] - s_j[None, :, :]), 2)  # of [BN, BJ, BK]
    return total


@triton.jit
def _store_part(part_ptr, i_chunk, total, count):
    """The sums of a chunk, in float64."""
    p_part = slice_ptr(part_ptr, i_chunk, 2)
    tl.store(p_part, tl.sum(total, 0))
    tl.store(p_part + 1, tl.sum(count, 0).to(tl.float64))


@triton.jit(do_not_specialize=["N", "B"])
def _total_variation_dense_fwd_kernel(
    s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, part_ptr, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """sum of a_ij |s_i - s_j|_1 over the entries of A that are not 0, and their number.

    S [B, N, K], A [B, N, N], part [chunks, 2] in float64.
    A program for a chunk of BN rows of a graph, BJ columns at a time; tiles of A without an entry are only read.
    Terms and sums over BJ of them in ACC, sums over tiles in float64.
    """
    i_chunk = tl.program_id(0)
    i_b, begin, end, _, m_n = chunk_rows(i_chunk, None, sizes, mask_ptr, N, B, BN)
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_a = slice_ptr(a_ptr, i_b, a_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    total = tl.zeros([BN], tl.float64)
    count = tl.zeros([BN], tl.int32)
    for i_j in range(0, end, BJ):
        m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
        a = dense_tile(p_a, a_row, a_col, begin, m_n, i_j, m_j, end, BN, BJ, VECTOR).to(ACC)
        found = tl.sum((a != 0).to(tl.int32), 1)
        count += found
        if tl.sum(found, 0) > 0:
            term = a * _pair_distances(p_s, s_row, begin, m_n, i_j, m_j, K, BN, BJ, BK, ACC)
            total += tl.sum(tl.where(a != 0, term, 0.0), 1).to(tl.float64)
    _store_part(part_ptr, i_chunk, total, count)


@triton.jit(do_not_specialize=["N", "B"])
def _total_variation_sparse_fwd_kernel(
    s_ptr, s_row, rowptr, col_ptr, value_ptr, entry_ptr, part_ptr, N, B, K,
    CHUNK: tl.constexpr, BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """As `_total_variation_dense_fwd_kernel`, of a sparse A.

    S [N, K], A [N, N] in compressed rows, entry_ptr [B + 1]: the first entry of each graph; part [chunks, 2].
    A program for a chunk of CHUNK entries of a graph, BE at a time, whose rows it finds by bisection, so that the
    entries of a hub are shared among programs.
    Terms in ACC, sums over entries in float64.
    """
    i_chunk = tl.program_id(0)
    i_b = graph_of_chunk(i_chunk, entry_ptr, 0, B, CHUNK)
    begin = tl.load(entry_ptr + i_b) + (i_chunk - first_chunk(i_b, entry_ptr, 0, CHUNK)) * CHUNK
    end = tl.minimum(begin + CHUNK, tl.load(entry_ptr + i_b + 1))
    total = tl.zeros([BE], tl.float64)
    count = tl.zeros([BE], tl.int32)
    for i_e in range(begin, end, BE):
        o_e = i_e + tl.arange(0, BE)
        m_e = o_e < end
        weight = entry_weights(value_ptr, o_e, m_e, ACC)
        distance, _ = _entry_distances(s_ptr, s_row, rowptr, col_ptr, o_e, m_e, N, K, BE, BK, ACC)
        total += tl.where(weight != 0, weight * distance, 0.0).to(tl.float64)
        count += (weight != 0).to(tl.int32)
    _store_part(part_ptr, i_chunk, total, count)


@triton.jit(do_not_specialize=["N"])
def _total_variation_reduce_fwd_kernel(
    part_ptr, variation_ptr, entries_ptr, ptr, N, CHUNK: tl.constexpr, BS: tl.constexpr
):  # fmt: skip
    """variation, entries = sums over the chunks of each graph.

    part [chunks, 2]; variation, entries [B].
    A program for a graph, BS chunks at a time, in their order.
    In float64, rounded to the type of the variation.
    """
    i_b = tl.program_id(0)
    begin = first_chunk(i_b, ptr, N, CHUNK)
    end = first_chunk(i_b + 1, ptr, N, CHUNK)
    total = tl.zeros([BS], tl.float64)
    count = tl.zeros([BS], tl.float64)
    for i_s in range(begin, end, BS):
        o_s = i_s + tl.arange(0, BS)
        total += tl.load(part_ptr + 2 * o_s, mask=o_s < end, other=0)
        count += tl.load(part_ptr + 2 * o_s + 1, mask=o_s < end, other=0)
    tl.store(variation_ptr + i_b, tl.sum(total, 0).to(variation_ptr.dtype.element_ty))
    tl.store(entries_ptr + i_b, tl.sum(count, 0).to(entries_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["N", "B"])
def _total_variation_dense_rows_bwd_kernel(
    dvariation_ptr, s_ptr, s_graph, s_row, a_ptr, a_graph, a_row, a_col, out_ptr, out_graph, sizes, mask_ptr, N, B, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """dS_i = dvariation sum_j (a_ij + a_ji) sign(s_i - s_j), 0 on rows that are not valid.

    S, dS [B, N, K], A [B, N, N], dvariation [B].
    A program for a chunk of BN rows of a graph and BK columns of dS, BJ columns of A at a time; tiles of A without an
    entry are only read.
    Sums in ACC.
    """
    i_b, begin, end, last, m_n = chunk_rows(tl.program_id(0), None, sizes, mask_ptr, N, B, BN)
    i_k = tl.program_id(1) * BK
    m_k = i_k + tl.arange(0, BK) < K
    p_s = slice_ptr(s_ptr, i_b, s_graph)
    p_a = slice_ptr(a_ptr, i_b, a_graph)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    own = load_tile(p_s, begin, s_row, i_k, m_n, m_k, BN, BK).to(ACC)
    ds = tl.zeros([BN, BK], ACC)
    for i_j in range(0, end, BJ):
        m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
        w = symmetrized_tile(p_a, a_row, a_col, begin, m_n, i_j, m_j, end, BN, BJ, VECTOR, False, ACC)
        if tl.sum(tl.sum((w != 0).to(tl.int32), 1), 0) > 0:
            s_j = load_tile(p_s, i_j, s_row, i_k, m_j, m_k, BJ, BK).to(ACC)
            ds += tl.sum(w[:, :, None] * sign(own[:, None, :] - s_j[None, :, :]), 1)  # of [BN, BJ, BK]
    ds *= 2 * tl.load(dvariation_ptr + i_b)
    m_out = begin + tl.arange(0, BN) < last
    store_tile(slice_ptr(out_ptr, i_b, out_graph), begin, K, i_k, m_out, m_k, ds, BN, BK)


@triton.jit(do_not_specialize=["N"])
def _total_variation_dense_edges_bwd_kernel(
    dvariation_ptr, s_ptr, s_graph, s_row, out_ptr, sizes, mask_ptr, N, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dA_ij = dvariation |s_i - s_j|_1, 0 unless both nodes are valid.

    S [B, N, K], dA [B, N, N], dvariation [B].
    A program for BN x BJ entries of a graph.
    Sums in ACC.
    """
    i_b, i_n, i_j, m_n, m_j, _ = pairs_of_program(sizes, mask_ptr, N, BN, BJ)
    distance = _pair_distances(slice_ptr(s_ptr, i_b, s_graph), s_row, i_n, m_n, i_j, m_j, K, BN, BJ, BK, ACC)
    out = tl.where(m_n[:, None] & m_j[None, :], tl.load(dvariation_ptr + i_b) * distance, 0.0)
    o_n = i_n + tl.arange(0, BN)
    o_j = i_j + tl.arange(0, BJ)
    store_tile(out_ptr + i_b.to(tl.int64) * N * N, i_n, N, i_j, o_n < N, o_j < N, out, BN, BJ)


# ---- launchers ------------------------------------------------------------------------------------------------------


def _tiles(s: Tensor, a: Tensor, target: Target) -> plan_losses.VariationTiles:
    """Tiles for a dense A."""
    size = min(t.element_size() for t in (s, a) if t.is_floating_point())
    return plan_losses.variation(s.size(-1), size, target)


def launch_total_variation_fwd(
    s: Tensor, edges: Dense | Csr, rows: Rows, target: Target
) -> tuple[Tensor, Tensor]:
    """The variation and the number of entries of each graph, from two launches: sums of chunks, and their sums."""
    s = contiguous_rows(s)
    k, acc = s.size(-1), accumulation_dtype(s, edges.values)
    if isinstance(edges, Dense):
        tiles = _tiles(s, edges.a, target).sums
        chunk, ptr = tiles.bn, None
        part = s.new_empty(rows.chunks(chunk), 2, dtype=torch.float64)
        launch(
            _total_variation_dense_fwd_kernel, (part.size(0),),
            s, rows.graph_stride(s), s.stride(-2), edges.a, *edges.a.stride(), part,
            rows.sizes, rows.mask, rows.n, rows.b, k,
            BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=language_type(acc), VECTOR=edges.vector,
            **tiles.options(target),
        )  # fmt: skip
    else:
        assert rows.ptr is not None
        entries = edges.col.numel()
        chunk, be, bk = plan_losses.entry_chunks(entries, k, target)
        ptr = edges.rowptr[rows.ptr].to(torch.int64)
        part = s.new_empty(Rows.ragged(ptr, entries).chunks(chunk), 2, dtype=torch.float64)
        launch(
            _total_variation_sparse_fwd_kernel, (part.size(0),),
            s, s.stride(-2), edges.rowptr, edges.col, edges.value, ptr, part, rows.n, rows.b, k,
            CHUNK=chunk, BE=be, BK=bk, ACC=language_type(acc), num_warps=4,
        )  # fmt: skip
    variation, count = (s.new_empty(rows.b, dtype=acc) for _ in range(2))
    launch(
        _total_variation_reduce_fwd_kernel, (rows.b,),
        part, variation, count, ptr, rows.n, CHUNK=chunk, BS=128, num_warps=4,
    )  # fmt: skip
    return variation, count


def launch_total_variation_bwd(
    dvariation: Tensor, s: Tensor, edges: Dense | Csr, rows: Rows, needs: tuple[bool, bool], target: Target
) -> tuple[Tensor, Tensor]:
    """Gradients to S and to the entries of A; of size 0 where they are not needed. A sparse A must have its transpose,
    unless it is symmetric."""
    s, dvariation = contiguous_rows(s), dvariation.contiguous()
    like = s if edges.values is None else edges.values
    ds, dedges = s.new_empty(0), like.new_empty(0)
    if needs[0] and isinstance(edges, Dense):
        ds = _dense_gradient_of_s(dvariation, s, edges, rows, target)
    elif needs[0]:
        assert isinstance(edges, Csr)
        acc = accumulation_dtype(s, edges.value)
        ds = launch_signed_sums(edges, s, acc, target, dvariation, rows)
    if needs[1] and isinstance(edges, Dense):
        dedges = _dense_gradient_of_a(dvariation, s, edges, rows, target)
    elif needs[1]:
        assert isinstance(edges, Csr)
        acc = accumulation_dtype(s, edges.value)
        dedges = launch_edge_distances(edges.rowptr, edges.col, s, acc, like.dtype, target, dvariation, rows)
    return ds, dedges


def _dense_gradient_of_s(dvariation: Tensor, s: Tensor, edges: Dense, rows: Rows, target: Target) -> Tensor:
    k, acc = s.size(-1), language_type(accumulation_dtype(s, edges.a))
    tiles = _tiles(s, edges.a, target).signs
    out = rows.empty(s, k)
    launch(
        _total_variation_dense_rows_bwd_kernel, (rows.chunks(tiles.bn), cdiv(k, tiles.bk)),
        dvariation, s, rows.graph_stride(s), s.stride(-2), edges.a, *edges.a.stride(), out, rows.graph_stride(out),
        rows.sizes, rows.mask, rows.n, rows.b, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=acc, VECTOR=edges.vector, **tiles.options(target),
    )  # fmt: skip
    return out


def _dense_gradient_of_a(dvariation: Tensor, s: Tensor, edges: Dense, rows: Rows, target: Target) -> Tensor:
    k, n, acc = s.size(-1), rows.n, language_type(accumulation_dtype(s, edges.a))
    tiles = _tiles(s, edges.a, target).sums
    out = edges.a.new_empty(edges.a.shape)
    launch(
        _total_variation_dense_edges_bwd_kernel, (rows.b * cdiv(n, tiles.bn), cdiv(n, tiles.bj)),
        dvariation, s, rows.graph_stride(s), s.stride(-2), out, rows.sizes, rows.mask, n, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=acc, **tiles.options(target),
    )  # fmt: skip
    return out
