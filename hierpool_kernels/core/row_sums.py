"""Sums over the rows of S, of M = A S and of A, for soft pooling."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.rows_of_a import scaled_squares_of_dense, scaled_squares_of_entries

SUMS = tl.constexpr(6)  # of rows: nodes, entropy, cut_degree, adj_sq, total_degree, tr(adj)


@triton.jit
def no_row_sums(BN: tl.constexpr, BK: tl.constexpr, ACC: tl.constexpr):
    """The sums of `add_row_sums` over no rows: S^T 1 and S^T d ``[BK]``, and ``[BN]`` each of :data:`SUMS`."""
    columns = tl.zeros([BK], ACC)
    rows = tl.zeros([BN], ACC)
    return columns, columns, rows, rows, rows, rows, rows, rows


@triton.jit
def add_row_sums(
    sums, s, p, m, m_n, degree, square, ENTROPY: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """``sums`` and those of BN rows: of S, as it is and as products take it, of M, and the sums and sums of squares of
    rows of A."""
    size, volume, nodes, entropy, cut, squares, degrees, trace = sums
    size += tl.sum(p, 0)
    volume += tl.sum(p * degree[:, None], 0)
    nodes += m_n.to(ACC)
    if ENTROPY:
        exact = s.to(ACC)
        entropy -= tl.sum(exact * tl.log(tl.where(exact > 0, exact, 1.0)), 1)
    cut += degree * tl.sum(p * p, 1)
    squares += square
    degrees += degree
    trace += tl.sum(p * m, 1)
    return size, volume, nodes, entropy, cut, squares, degrees, trace


@triton.jit
def squares_of_rows(
    square, p_a, a_row, a_col, p_mask, rowptr, value_ptr, begin, stop, end,
    BN: tl.constexpr, BJ: tl.constexpr, ACC: tl.constexpr, VECTOR: tl.constexpr,
):  # fmt: skip
    """``square``, the sum of the squares of rows ``begin`` to ``stop`` of A in float64. Where it left the range of ACC,
    of weights above 1e19 or below 1e-13, it is summed again, of weights that are multiplied by a power of two."""
    if (square == float("inf")) | (square < 1e-26):
        large = square == float("inf")
        scale = tl.where(large, 2.0**-64, 2.0**64)
        back = tl.where(large, tl.full((), 2.0**128, tl.float64), tl.full((), 2.0**-128, tl.float64))
        if p_a is not None:
            square = back * scaled_squares_of_dense(
                p_a, a_row, a_col, p_mask, begin, stop, end, scale, BN, BJ, ACC, VECTOR
            )
        elif value_ptr is not None:
            square = back * scaled_squares_of_entries(value_ptr, rowptr, begin, stop, scale, ACC)
    return square


@triton.jit
def store_row_sums(p_sums, sums, square, of_s, once):
    """Store :data:`SUMS` sums of rows: ``of_s`` and ``once`` are 0 in programs that share those of S, or of A, with
    another one, which stores them; 1 in others."""
    _, _, nodes, entropy, cut, _, degrees, trace = sums
    tl.store(p_sums, tl.sum(nodes, 0).to(tl.float64) * once * of_s)
    tl.store(p_sums + 1, tl.sum(entropy.to(tl.float64), 0) * of_s)
    tl.store(p_sums + 2, tl.sum(cut.to(tl.float64), 0))
    tl.store(p_sums + 3, square * once)
    tl.store(p_sums + 4, tl.sum(degrees.to(tl.float64), 0) * once)
    tl.store(p_sums + 5, tl.sum(trace.to(tl.float64), 0))
