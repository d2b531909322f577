"""Distances of rows at the entries of a sparse A, and sums of the signs of their differences."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan, plan_losses
from hierpool_kernels.core.adjacency import Csr
from hierpool_kernels.core.chunks import last_at_most
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.rows_of_a import sparse_rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import contiguous_rows, language_type
from hierpool_kernels.core.tiles import gather_tile, store_tile
from hierpool_kernels.spmm import launch_long_rows

# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _entry_distances(
    x_ptr, x_row, rowptr, col_ptr, o_e, m_e, N, K, BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """|x_i - x_j|_1 of BE entries (i, j) of a sparse A, and their rows i, which are found by bisection."""
    i = last_at_most(rowptr, N, tl.where(m_e, o_e, 0))
    j = tl.load(col_ptr + o_e, mask=m_e, other=0)
    total = tl.zeros([BE], ACC)
    for i_k in range(0, K, BK):
        o_k = i_k + tl.arange(0, BK)
        left = gather_tile(x_ptr, i, x_row, o_k, m_e, o_k < K).to(ACC)
        total += tl.sum(tl.abs(left - gather_tile(x_ptr, j, x_row, o_k, m_e, o_k < K).to(ACC)), 1)
    return total, i


@triton.jit(do_not_specialize=["N", "B", "E"])
def _edge_distances_kernel(
    x_ptr, x_row, rowptr, col_ptr, scale_ptr, ptr, out_ptr, N, B, E, K,
    BE: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out = scale |x_i - x_j|_1 for every stored entry (i, j).

    x [N, K]; rows and columns of A [N, N] compressed; scale [B], of the graphs from ptr [B + 1], or none; out [E].
    A program for BE entries, which finds their rows and graphs by bisection.
    Sums in ACC.
    """
    o_e = tl.program_id(0).to(tl.int64) * BE + tl.arange(0, BE)
    m_e = o_e < E
    distance, i = _entry_distances(x_ptr, x_row, rowptr, col_ptr, o_e, m_e, N, K, BE, BK, ACC)
    if scale_ptr is not None:
        distance *= tl.load(scale_ptr + last_at_most(ptr, B, i))
    tl.store(out_ptr + o_e, distance.to(out_ptr.dtype.element_ty), mask=m_e)


@triton.jit(do_not_specialize=["N", "B"])
def _signed_sums_kernel(
    rowptr, col_ptr, value_ptr, carry_ptr, carry_sums_ptr,
    rowptr_t, col_t_ptr, value_t_ptr, carry_t_ptr, carry_sums_t_ptr, x_ptr, x_row, scale_ptr, ptr, out_ptr, N, B, K,
    BN: tl.constexpr, BK: tl.constexpr, LONGEST: tl.constexpr, AHEAD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """out_i = scale sum_j (a_ij + a_ji) sign(x_i - x_j) of a sparse A.

    A [N, N] in compressed rows, and its transpose, unless A is symmetric; x, out [N, K]; scale [B] of the graphs, whose
    rows are given by ptr [B + 1], or none.
    A program for BN rows and BK columns.
    Sums in ACC, rounded to the type of out.
    """
    i_n = tl.program_id(0) * BN
    i_k = tl.program_id(1) * BK
    o_n = i_n + tl.arange(0, BN)
    o_k = i_k + tl.arange(0, BK)
    m_n = o_n < N
    m_k = o_k < K
    total, _, _ = sparse_rows(
        rowptr, col_ptr, value_ptr, x_ptr, x_row, carry_ptr, carry_sums_ptr, o_n, m_n, o_k, m_k, K,
        BN, BK, LONGEST, AHEAD, ACC, True,
    )  # fmt: skip
    if rowptr_t is not None:
        other, _, _ = sparse_rows(
            rowptr_t, col_t_ptr, value_t_ptr, x_ptr, x_row, carry_t_ptr, carry_sums_t_ptr, o_n, m_n, o_k, m_k, K,
            BN, BK, LONGEST, AHEAD, ACC, True,
        )  # fmt: skip
        total += other
    else:
        total *= 2
    if scale_ptr is not None:
        i_b = last_at_most(ptr, B, tl.where(m_n, o_n, 0))
        total *= tl.load(scale_ptr + i_b)[:, None]
    store_tile(out_ptr, i_n, K, i_k, m_n, m_k, total, BN, BK)


# ---- launchers ------------------------------------------------------------------------------------------------------


def _of_graphs(scale: Tensor | None, rows: Rows | None) -> tuple[Tensor | None, Tensor | None, int]:
    """The kernel arguments of a scale ``[B]`` of each graph; there is none without ``rows``."""
    return (None, None, 0) if rows is None else (scale, rows.ptr, rows.b)


def launch_edge_distances(
    rowptr: Tensor, col: Tensor, x: Tensor, acc: torch.dtype, dtype: torch.dtype, target: Target,
    scale: Tensor | None = None, rows: Rows | None = None,
) -> Tensor:  # fmt: skip
    """|x_i - x_j|_1 for every entry (i, j), ``[E]``, times the ``scale`` ``[B]`` of each graph."""
    x = contiguous_rows(x)
    n, k, entries = rowptr.numel() - 1, x.size(-1), col.numel()
    out = x.new_empty(entries, dtype=dtype)
    be, bk = plan.entries(k, target)
    scale, ptr, b = _of_graphs(scale, rows)
    launch(
        _edge_distances_kernel, (cdiv(entries, be),),
        x, x.stride(0), rowptr, col, scale, ptr, out, n, b, entries, k,
        BE=be, BK=bk, ACC=language_type(acc), num_warps=4, **plan.registers(4, target),
    )  # fmt: skip
    return out


def launch_signed_sums(
    edges: Csr, x: Tensor, acc: torch.dtype, target: Target, scale: Tensor | None = None, rows: Rows | None = None
) -> Tensor:  # fmt: skip
    """sum_j (a_ij + a_ji) sign(x_i - x_j) ``[N, K]`` in the dtype of ``x``, times the ``scale`` ``[B]`` of each graph;
    sums are in ``acc``. ``edges`` has no transpose if A is symmetric."""
    x = contiguous_rows(x)
    n, k = x.shape
    walk = plan_losses.signed_sums(edges.col.numel(), k, target)
    matrices = [edges[:3], edges[3:]]
    arguments: list[Tensor | None] = []
    for rowptr, col, value in matrices:
        carry: tuple[Tensor | None, Tensor | None] = (None, None)
        if rowptr is not None and col is not None:
            carry = launch_long_rows(rowptr, col, value, x, acc, walk, signs=True)
        arguments += [rowptr, col, value, *carry]
    scale, ptr, b = _of_graphs(scale, rows)
    out = x.new_empty(x.shape)
    launch(
        _signed_sums_kernel, (cdiv(n, walk.bn), cdiv(k, walk.bk)),
        *arguments, x, x.stride(0), scale, ptr, out, n, b, k,
        BN=walk.bn, BK=walk.bk, LONGEST=walk.longest, AHEAD=walk.ahead, ACC=language_type(acc), num_warps=walk.warps,
        **plan.registers(walk.warps, target),
    )  # fmt: skip
    return out
