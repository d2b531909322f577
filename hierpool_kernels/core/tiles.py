"""Tiles of matrices: load, store, multiply."""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.clusters import column_count, column_mask


@triton.jit
def slice_ptr(ptr, i, stride):
    """Pointer to slice ``i`` of a tensor, such as a graph or an edge type; None if ``ptr`` is None.

    There is no ``return None``, which Triton 3.5 and 3.6 cannot compile.
    """
    if ptr is not None:
        return ptr + (tl.full((), 0, tl.int64) + i) * stride


@triton.jit
def row_ptr(ptr, i, row):
    """Pointer to row ``i``, which has 64 bits, of a tensor with rows ``row`` elements apart; None if ``ptr`` is None.

    Strides of graphs are counted in rows, so that any number of nodes is as good as another: loads are as wide as the
    stride of rows allows.
    """
    if ptr is not None:
        return ptr + i * row


@triton.jit
def gather_tile(ptr, o_row, stride, o_col, m_row, m_col):
    """A tile of arbitrary rows of a matrix with contiguous rows, 0 outside."""
    at = o_row.to(tl.int64)[:, None] * stride + o_col[None, :]
    return tl.load(ptr + at, mask=m_row[:, None] & m_col[None, :], other=0)


@triton.jit
def load_tile(ptr, i_row, stride, i_col, m_row, m_col, ROWS: tl.constexpr, COLS: tl.constexpr):
    """A tile of consecutive rows and columns from ``i_row`` and ``i_col`` on, 0 outside.

    Offsets from its first element have 32 bits, which take half the registers of 64.
    """
    first = ptr + (tl.full((), 0, tl.int64) + i_row) * stride + i_col
    at = tl.arange(0, ROWS)[:, None] * stride + tl.arange(0, COLS)[None, :]
    return tl.load(first + at, mask=m_row[:, None] & m_col[None, :], other=0)


@triton.jit
def store_tile(ptr, i_row, stride, i_col, m_row, m_col, values, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Store a tile of consecutive rows and columns."""
    first = ptr + (tl.full((), 0, tl.int64) + i_row) * stride + i_col
    at = tl.arange(0, ROWS)[:, None] * stride + tl.arange(0, COLS)[None, :]
    tl.store(first + at, values.to(ptr.dtype.element_ty), mask=m_row[:, None] & m_col[None, :])


@triton.jit
def in_tf32(x):
    """float32 rounded to the nearest TF32, and NaN as it is. Tensor cores cut off the bits that TF32 does not have."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(x == x, (bits + 0x1000) & -0x2000, bits).to(tl.float32, bitcast=True)


@triton.jit
def factor(tile, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """A tile as products take it: 16-bit floats for "half", and for "tf32" rounded to TF32, else in ACC.

    What is rounded goes from shared memory through registers, so that the copy from memory keeps the order of the
    tensor and takes 16 bytes at a time, whatever order the tensor cores need; a tile is transposed after it.
    """
    if PRECISION == "half":
        return tile
    elif PRECISION == "tf32" and tile.dtype == tl.float32:
        return in_tf32(tile)
    else:
        return tile.to(ACC)


@triton.jit
def turned_factor(tile, m_row, ACC: tl.constexpr, PRECISION: tl.constexpr):
    """The transpose of a tile as the left factor of a product, 0 in rows outside ``m_row``, as the tile is.

    The mask keeps the compiler from copying elements one by one in the order of the tensor cores; 16-bit floats are
    multiplied in any order.
    """
    tile = factor(tile, ACC, PRECISION)
    if PRECISION != "half":
        tile = tl.where(m_row[:, None], tile, tl.zeros_like(tile))
    return tl.trans(tile)


@triton.jit
def settled(tile):
    """``tile``, from one place in shared memory, which the next one overwrites: the compiler waits for a product that
    has it as the right factor.

    Needed where the left factor is in registers, which were rounded or cast: they must not change while a product is
    pending, and Triton 3.6 lets them.
    """
    return tile + tl.zeros_like(tile)


@triton.jit
def dot(left, right, total, PRECISION: tl.constexpr):
    """``total + left right``; "half" multiplies 16-bit floats directly, all others are cast to the dtype of the sum."""
    if PRECISION == "half":
        return tl.dot(left, right, total)
    else:
        dtype = total.dtype
        return tl.dot(left.to(dtype), right.to(dtype), total, input_precision=PRECISION, out_dtype=dtype)


@triton.jit
def add_product(
    total, rows_ptr, i_row, row_stride, WIDTH, block_ptr, block_stride, i_col, m_n, m_k,
    BN: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, TRANSPOSED: tl.constexpr, PRECISION: tl.constexpr,
    clusters=None,
):  # fmt: skip
    """``total [BK, BN] + (rows block)^T``: rows ``[.., WIDTH]`` of a tensor times columns of a matrix ``[WIDTH, K]``,
    or with TRANSPOSED of the transpose of a matrix ``[K, WIDTH]``. With ``clusters``, the sums are over these.

    The rows, which may be cast or rounded, are the right factor: see `factor`, and `settled`.
    """
    ACC: tl.constexpr = total.dtype
    for i_c in range(0, column_count(clusters, WIDTH), BC):
        o_c = i_c + tl.arange(0, BC)
        m_c = column_mask(o_c, clusters, WIDTH)
        rows = factor(load_tile(rows_ptr, i_row, row_stride, i_c, m_n, m_c, BN, BC), ACC, PRECISION)
        if TRANSPOSED:
            matrix = factor(load_tile(block_ptr, i_col, block_stride, i_c, m_k, m_c, BK, BC), ACC, PRECISION)
        else:
            m_c = o_c < column_count(clusters, WIDTH)
            matrix = load_tile(block_ptr, i_c, block_stride, i_col, m_c, m_k, BC, BK)
            matrix = turned_factor(matrix, m_c, ACC, PRECISION)
        total = dot(matrix, tl.trans(rows), total, PRECISION)
    return total
