"""Products with A: A S, A^T S, row sums, and inner products of rows at the entries of a sparse A."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan, plan_walk
from hierpool_kernels.core.adjacency import factor_dtype, strides_of, vector_of
from hierpool_kernels.core.chunks import graph_rows, last_at_most, swizzled_program_ids, valid_rows
from hierpool_kernels.core.clusters import column_mask, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import (
    _long_rows_kernel,
    dense_rows,
    entry_products,
    sparse_rows,
    whole_columns,
)
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import contiguous_rows, language_type, workspace
from hierpool_kernels.core.tiles import row_ptr, slice_ptr, store_tile
from hierpool_kernels.soft_pool_softmax import launch_transpose


@triton.jit(do_not_specialize=["N", "B"])
def _spmm_kernel(
    rowptr, col_ptr, value_ptr, x_ptr, x_row, carry_ptr, carry_sums_ptr, out_ptr, degree_ptr, N,
    ptr, clusters_ptr, B, K,
    BN: tl.constexpr, BK: tl.constexpr, LONGEST: tl.constexpr, AHEAD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A X of a sparse A, or without X the row sums of A.

    A [N, N] in compressed rows, X and out [N, K], degree [N].
    A program for BN rows and BK columns. Programs of columns that are no clusters of any of their rows write nothing.
    Sums in ACC, rounded to the type of out.
    """
    i_n = tl.program_id(0) * BN
    i_k = tl.program_id(1) * BK
    o_n = i_n + tl.arange(0, BN)
    o_k = i_k + tl.arange(0, BK)
    m_n = o_n < N
    clusters = None
    if clusters_ptr is not None:
        clusters = tl.max(graph_clusters(last_at_most(ptr, B, o_n), clusters_ptr, K), 0)
        if i_k >= clusters:
            return
    m_k = column_mask(o_k, clusters, K)
    total, degree, _ = sparse_rows(
        rowptr, col_ptr, value_ptr, x_ptr, x_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
        BN, BK, LONGEST, AHEAD, ACC,
    )  # fmt: skip
    if x_ptr is not None:
        store_tile(out_ptr, i_n, K, i_k, m_n, m_k, total, BN, BK)
    else:
        tl.store(degree_ptr + o_n, degree, mask=m_n)


@triton.jit(do_not_specialize=["N", "a_graph", "a_type", "s_graph", "out_graph", "out_type"])
def _dense_product_kernel(
    a_ptr, a_graph, a_type, a_row, a_col, s_ptr, s_graph, s_row, out_ptr, out_graph, out_type, degree_ptr,
    sizes, mask_ptr, N, clusters_ptr, K,
    BN: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr, PRECISION: tl.constexpr,
    VECTOR: tl.constexpr, TURNED: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """A S on valid rows and columns (A^T S with the strides of A exchanged), or without S the row sums of A.

    A [B, R, N, N], S [B, N, K], or with TURNED S^T [B, K, N], out [B, R, N, K], degree [B, R, N]: 0 on rows that are
    not valid.
    A program for BN rows of a graph, BK columns and an edge type; those of columns that are no clusters write nothing.
    Sums in ACC.
    """
    i_chunk, i_k, i_r = swizzled_program_ids()
    i_b = i_chunk // tl.cdiv(N, BN)
    i_n = i_chunk % tl.cdiv(N, BN) * BN
    i_k *= BK
    o_n = i_n + tl.arange(0, BN)
    m_k = i_k + tl.arange(0, BK) < K
    _, end = graph_rows(i_b, None, sizes, N)
    if clusters_ptr is not None:  # no rows of other columns
        end = tl.where(i_k < graph_clusters(i_b, clusters_ptr, K), end, 0)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    m_n = valid_rows(o_n, end, p_mask)
    b = i_b.to(tl.int64)
    p_a = row_ptr(a_ptr, b * a_graph + i_r.to(tl.int64) * a_type, VECTOR)
    if TURNED:
        s_row = N // VECTOR * VECTOR  # this is N, of which the compiler does not know that it is a multiple
        s_graph = K
    total, degree, _ = dense_rows(
        p_a, a_row, a_col, row_ptr(s_ptr, b * s_graph, s_row), s_row, p_mask, i_n, m_n, i_k, m_k,
        whole_columns(mask_ptr, i_b, N, end, BJ, VECTOR), end, BN, BJ, BK, ACC, PRECISION, VECTOR,
        TURNED, ACROSS,
    )  # fmt: skip
    if s_ptr is not None:
        p_out = row_ptr(out_ptr, b * out_graph + i_r.to(tl.int64) * out_type, K)
        store_tile(p_out, i_n, K, i_k, m_n, m_k, total, BN, BK)
    else:
        p_degree = degree_ptr + (b * tl.num_programs(2) + i_r) * N
        tl.store(p_degree + o_n, degree, mask=o_n < N)


@triton.jit(do_not_specialize=["N", "E"])
def _sampled_product_kernel(
    left_ptr, left_row, right_ptr, right_row, rowptr, col_ptr, out_ptr, N, E, K,
    BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """left_i . right_j for every stored entry (i, j).

    left, right [N, K]; rows and columns of A [N, N] compressed; out [E].
    A program for BE entries, which finds their rows by bisection.
    Sums in ACC.
    """
    total, o_e, m_e = entry_products(
        left_ptr, left_row, right_ptr, right_row, rowptr, col_ptr, N, E, K, BE, BK, ACC
    )
    tl.store(out_ptr + o_e, total.to(out_ptr.dtype.element_ty), mask=m_e)


def _columns_of(rows: Rows | None) -> tuple[Any, ...]:
    return (None, None, 0) if rows is None else rows.arguments_of_columns


def launch_long_rows(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor | None, acc: torch.dtype, walk: plan_walk.SparseTiles,
    rows: Rows | None = None, signs: bool = False,
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """The sums that `sparse_rows` adds to rows longer than ``walk.longest``; None if A has too few entries for one.
    With ``rows``, X is S."""
    entries = col.numel()
    if entries <= walk.longest:
        return None, None
    parts, k = cdiv(entries, walk.longest), 0 if x is None else x.size(-1)
    carry, sums = workspace(col, acc, parts * k, parts * 2)
    launch(
        _long_rows_kernel, (parts, max(cdiv(k, walk.bk), 1)),
        rowptr, col, value, x, 0 if x is None else x.stride(0), carry, sums, rowptr.numel() - 1, entries,
        *_columns_of(rows), k,
        LONGEST=walk.longest, BE=plan.rows_at_once(walk.bk), BK=walk.bk, ACC=language_type(acc), SIGNS=signs,
        num_warps=4,
    )  # fmt: skip
    return carry, sums


def launch_spmm(
    rowptr: Tensor, col: Tensor, value: Tensor | None, x: Tensor | None, acc: torch.dtype, dtype: torch.dtype,
    target: Target, rows: Rows | None = None,
) -> Tensor:  # fmt: skip
    """A X ``[N, K]`` in ``dtype``, or without X the row sums of A ``[N]``; sums are in ``acc``.

    With ``rows``, X is S, and columns that are no clusters of these graphs are not written.
    """
    x = None if x is None else contiguous_rows(x)
    n, k = rowptr.numel() - 1, 0 if x is None else x.size(-1)
    walk = plan_walk.sparse(col.numel(), k, target)
    carry = launch_long_rows(rowptr, col, value, x, acc, walk, rows)
    out = rowptr.new_empty((n,) if x is None else (n, k), dtype=dtype)
    product, degree = (None, out) if x is None else (out, None)
    columns = 1 if x is None else cdiv(k, walk.bk)
    launch(
        _spmm_kernel, (cdiv(n, walk.bn), columns),
        rowptr, col, value, x, 0 if x is None else x.stride(0), *carry, product, degree, n,
        *_columns_of(rows), k,
        BN=walk.bn, BK=walk.bk, LONGEST=walk.longest, AHEAD=walk.ahead, ACC=language_type(acc), num_warps=walk.warps,
    )  # fmt: skip
    return out


def _launch_dense(
    a: Tensor, s: Tensor | None, out: Tensor, rows: Rows, acc: torch.dtype, target: Target
) -> None:
    (b, r, n, _), k = a.shape, 0 if s is None else s.size(-1)
    precision, turned, factor = "ieee", False, torch.float32
    if s is not None:
        factor = factor_dtype(a, s)
        precision = plan.product_precision(factor, s.dtype, target)
        turned = plan.turned(s.dtype, vector_of(a), precision, target)
        if turned:
            s = launch_transpose(s, rows, acc, target)
    tiles = plan_walk.dense_product(k, precision, target, factor)
    product, degree = (None, out) if s is None else (out, None)
    launch(
        _dense_product_kernel, (b * cdiv(n, tiles.bn), max(cdiv(k, tiles.bk), 1), r),
        a, *strides_of(a), s, rows.graph_rows, k, product, r * n, n, degree,
        rows.sizes, rows.mask, n, None if s is None else rows.clusters, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=language_type(acc), PRECISION=precision, VECTOR=vector_of(a),
        TURNED=turned, ACROSS=a.stride(-1) != 1, **tiles.options(precision, target),
    )  # fmt: skip


def launch_dense_product(a: Tensor, s: Tensor, rows: Rows, acc: torch.dtype, target: Target) -> Tensor:
    """A S ``[B, R, N, K]`` in ``acc`` of a padded batch; rows that are not valid and columns that are no clusters
    are not written."""
    out = s.new_empty(*a.shape[:3], s.size(-1), dtype=acc)
    _launch_dense(a, s, out, rows, acc, target)
    return out


def launch_dense_degrees(a: Tensor, rows: Rows, acc: torch.dtype, target: Target) -> Tensor:
    """The row sums of A, ``[B, R, N]``, 0 where they are not valid."""
    out = a.new_empty(a.shape[:3], dtype=acc)
    _launch_dense(a, None, out, rows, acc, target)
    return out


def launch_sampled_product(
    rowptr: Tensor, col: Tensor, left: Tensor, right: Tensor, acc: torch.dtype, dtype: torch.dtype, target: Target
) -> Tensor:  # fmt: skip
    """The inner product of row i of ``left`` and row j of ``right`` for every entry (i, j), ``[E]``."""
    left, right = contiguous_rows(left), contiguous_rows(right)
    n, k, entries = rowptr.numel() - 1, left.size(-1), col.numel()
    out = left.new_empty(entries, dtype=dtype)
    be, bk = plan.entries(k, target)
    launch(
        _sampled_product_kernel, (cdiv(entries, be),),
        left, left.stride(0), right, right.stride(0), rowptr, col, out, n, entries, k,
        BE=be, BK=bk, ACC=language_type(acc), num_warps=4,
    )  # fmt: skip
    return out
