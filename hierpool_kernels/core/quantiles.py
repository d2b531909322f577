"""Quantiles of columns by keys: integers in the order of the floats, of which every bit can be found by counting.

The quantile of rank r is the largest key that more than r keys are at least equal to.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.chunks import valid_rows
from hierpool_kernels.core.tiles import load_tile

NO_ROW = tl.constexpr(2**31 - 1)


@triton.jit
def keys(x):
    """Keys of floats: sign and magnitude as two's complement, so that -0 equals 0. NaN is the largest.

    Those of 16-bit floats have 32 bits.
    """
    WIDTH: tl.constexpr = x.dtype.primitive_bitwidth
    LARGEST: tl.constexpr = (1 << (WIDTH - 1)) - 1
    if WIDTH == 16:
        bits = x.to(tl.int16, bitcast=True).to(tl.int32)
        number = x.to(tl.float32)
    elif WIDTH == 32:
        bits = x.to(tl.int32, bitcast=True)
        number = x
    else:
        bits = x.to(tl.int64, bitcast=True)
        number = x
    negative = (bits < 0).to(bits.dtype)
    key = ((bits & LARGEST) ^ -negative) + negative
    return tl.where(number != number, LARGEST, key)


@triton.jit
def float_values(key, TYPE: tl.constexpr):
    """The floats of keys."""
    WIDTH: tl.constexpr = TYPE.primitive_bitwidth
    magnitude = tl.where(key < 0, -key, key)
    if WIDTH == 16:
        bits = tl.where(key < 0, magnitude - (1 << 15), magnitude).to(tl.int16)
    else:
        bits = tl.where(key < 0, magnitude + (tl.full((), -1, key.dtype) << (WIDTH - 1)), magnitude)
    return bits.to(TYPE, bitcast=True)


@triton.jit
def lowest_key(s_ptr):
    """A key below all others."""
    return -(1 << (s_ptr.dtype.element_ty.primitive_bitwidth - 1))


@triton.jit
def key_tile(p_s, s_row, i_n, i_k, end, m_k, p_mask, BN: tl.constexpr, BK: tl.constexpr):
    """Keys of a tile of rows from ``i_n`` on, the lowest key on rows that are not nodes; the mask of the nodes."""
    m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
    key = keys(load_tile(p_s, i_n, s_row, i_k, m_n, m_k, BN, BK))
    return tl.where(m_n[:, None], key, lowest_key(p_s)), m_n


@triton.jit
def slopes(above, K):
    """The derivative of asym: K - 1 from 0 on, -1 below, NaN of NaN."""
    up = tl.zeros_like(above) + (K - 1)
    return tl.where(above >= 0, up, tl.where(above < 0, -1.0, float("nan")))


@triton.jit
def tile_sums(key, quantile, o_n, m_n, K, TYPE: tl.constexpr, ACC: tl.constexpr):
    """Sums over the rows of a tile of asym and of its derivative, and the first row that has the quantile."""
    above = float_values(key, TYPE).to(ACC) - float_values(quantile, TYPE).to(ACC)[None, :]
    slope = tl.where(m_n[:, None], slopes(above, K), 0.0)
    norm = tl.sum(tl.where(m_n[:, None], slope * above, 0.0), 0)
    row = tl.where(m_n[:, None] & (key == quantile[None, :]), o_n[:, None], NO_ROW)
    return norm.to(tl.float64), tl.sum(slope, 0).to(tl.float64), tl.min(row, 0)


@triton.jit
def store_results(
    norm_ptr, quantile_ptr, row_ptr, slope_ptr, i_b, o_k, clusters, K, norm, quantile, row, slope, TYPE: tl.constexpr
):  # fmt: skip
    """Store the results of a graph; of a graph without nodes and of columns that are no clusters, 0 and row -1."""
    at = i_b.to(tl.int64) * K + o_k
    m_k = o_k < K
    if clusters is not None:
        row = tl.where(o_k < clusters, row, NO_ROW)
        norm = tl.where(o_k < clusters, norm, 0.0)
        slope = tl.where(o_k < clusters, slope, 0.0)
    found = row != NO_ROW
    tl.store(norm_ptr + at, norm.to(norm_ptr.dtype.element_ty), mask=m_k)
    tl.store(slope_ptr + at, (-slope).to(slope_ptr.dtype.element_ty), mask=m_k)
    tl.store(quantile_ptr + at, float_values(tl.where(found, quantile, 0), TYPE), mask=m_k)
    tl.store(row_ptr + at, tl.where(found, row, -1).to(tl.int64), mask=m_k)
