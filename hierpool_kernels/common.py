"""What the kernels share: which rows are whose, tiles of matrices, products of tiles.

Graphs are either padded (``ptr`` is None: graph ``b`` has rows 0 to ``sizes[b]``, or all ``N``, of slice ``b`` of a
tensor) or ragged (it has rows ``ptr[b]`` to ``ptr[b + 1]`` of the whole tensor). The rows of all graphs are cut into
slots of ``STEP`` rows that never hold rows of two graphs. Of a ragged batch, graph ``b`` owns the slots from
``ptr[b] // STEP + b`` on: at least as many as it needs, for floor(q / c) - floor(p / c) + 1 >= ceil((q - p) / c), so
that the host knows a number of slots without knowing a size. Slots beyond a graph's last row are empty.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def side_by_side():
    """The place of a program in a grid (slots, y, z) whose programs of one slot run together, as rows that they share
    come from the cache then; the hardware starts programs in the order of the first number."""
    others = tl.num_programs(1) * tl.num_programs(2)
    i = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    return i // others, i % tl.num_programs(1), i % others // tl.num_programs(1)


@triton.jit
def graph_rows(i_b, ptr, sizes, N):
    """The first row of graph ``i_b``, and the one after its last."""
    if ptr is not None:
        first = tl.load(ptr + i_b).to(tl.int32)
        end = tl.load(ptr + i_b + 1).to(tl.int32)
    else:
        first = 0
        end = N
        if sizes is not None:
            end = tl.load(sizes + i_b).to(tl.int32)
    return first, end


@triton.jit
def first_slot(i_b, ptr, N, STEP: tl.constexpr):
    """The first slot of graph ``i_b``."""
    if ptr is not None:
        slot = tl.load(ptr + i_b) // STEP + i_b
    else:
        slot = i_b.to(tl.int64) * tl.cdiv(N, STEP)
    return slot


@triton.jit
def graph_of_slot(i_slot, ptr, N, B, STEP: tl.constexpr):
    """The graph that owns a slot."""
    if ptr is not None:
        i_b = i_slot * 0
        span = i_b + B
        while span > 1:  # the last graph whose first slot is not beyond this one
            half = span // 2
            reached = first_slot(i_b + half, ptr, N, STEP) <= i_slot
            i_b = tl.where(reached, i_b + half, i_b)
            span -= half
    else:
        i_b = i_slot // tl.cdiv(N, STEP)
    return i_b


@triton.jit
def locate(i_slot, ptr, sizes, N, B, STEP: tl.constexpr):
    """The graph of a slot, the first row of the slot, and the row after the graph's last."""
    i_b = graph_of_slot(i_slot, ptr, N, B, STEP)
    first, end = graph_rows(i_b, ptr, sizes, N)
    return i_b, (first + (i_slot - first_slot(i_b, ptr, N, STEP)) * STEP).to(tl.int32), end


@triton.jit
def last_at_most(ptr, COUNT, wanted):
    """The last of ``COUNT`` ascending elements that is at most ``wanted``, a number or several; the first is."""
    found = (wanted * 0).to(tl.int32)
    span = tl.program_id(0) * 0 + COUNT
    while span > 1:
        half = span // 2
        found = tl.where(tl.load(ptr + found + half) <= wanted, found + half, found)
        span -= half
    return found


@triton.jit
def valid_rows(o_n, end, mask_ptr):
    """Which of the rows ``o_n`` are nodes; ``mask_ptr`` is that of their graph, or None."""
    m_n = o_n < end
    if mask_ptr is not None:
        m_n = m_n & (tl.load(mask_ptr + o_n, mask=m_n, other=0) != 0)
    return m_n


@triton.jit
def rows_of_slot(i_slot, ptr, sizes, mask_ptr, N, B, BN: tl.constexpr):
    """What `locate` says of a slot of BN rows, the row after the last that is written (of a padded graph those behind
    its last node are, too), and which rows of the slot are nodes."""
    i_b, begin, end = locate(i_slot, ptr, sizes, N, B, BN)
    m_n = valid_rows(begin + tl.arange(0, BN), end, part(mask_ptr, i_b, N))
    if ptr is not None:
        last = end
    else:
        last = N
    return i_b, begin, end, last, m_n


@triton.jit
def pairs_of_program(sizes, mask_ptr, N, BN: tl.constexpr, BJ: tl.constexpr):
    """The graph of a program of a grid (graphs and rows, columns), its first row and column of the graph's pairs of
    nodes, and which of them are nodes."""
    i_b = tl.program_id(0) // tl.cdiv(N, BN)
    i_n = tl.program_id(0) % tl.cdiv(N, BN) * BN
    i_j = tl.program_id(1) * BJ
    _, end = graph_rows(i_b, None, sizes, N)
    p_mask = part(mask_ptr, i_b, N)
    m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
    m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
    return i_b, i_n, i_j, m_n, m_j


@triton.jit
def part(ptr, i, stride):
    """Where part ``i`` of a tensor begins, such as that of a graph or an edge type; None stays None.

    There is no ``return None``, which Triton 3.5 and 3.6 cannot compile.
    """
    if ptr is not None:
        return ptr + (tl.full((), 0, tl.int64) + i) * stride


@triton.jit
def tile(ptr, o_row, stride, o_col, m_row, m_col):
    """A tile of any rows of a matrix whose rows are contiguous, 0 outside."""
    at = o_row.to(tl.int64)[:, None] * stride + o_col[None, :]
    return tl.load(ptr + at, mask=m_row[:, None] & m_col[None, :], other=0)


@triton.jit
def block(ptr, i_row, stride, i_col, m_row, m_col, ROWS: tl.constexpr, COLS: tl.constexpr):
    """A tile of rows and columns that follow each other from ``i_row`` and ``i_col`` on, 0 outside.

    Its elements are counted from the first one, in 32 bits, which take half the registers of 64.
    """
    first = ptr + (tl.full((), 0, tl.int64) + i_row) * stride + i_col
    at = tl.arange(0, ROWS)[:, None] * stride + tl.arange(0, COLS)[None, :]
    return tl.load(first + at, mask=m_row[:, None] & m_col[None, :], other=0)


@triton.jit
def store_block(ptr, i_row, stride, i_col, m_row, m_col, values, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Write such a tile."""
    first = ptr + (tl.full((), 0, tl.int64) + i_row) * stride + i_col
    at = tl.arange(0, ROWS)[:, None] * stride + tl.arange(0, COLS)[None, :]
    tl.store(first + at, values.to(ptr.dtype.element_ty), mask=m_row[:, None] & m_col[None, :])


@triton.jit
def dot(left, right, total, PRECISION: tl.constexpr):
    """``total + left right``; "half" multiplies 16-bit floats as they are, all else goes by the type of the sum."""
    if PRECISION == "half":
        return tl.dot(left, right, total)
    else:
        wide = total.dtype
        return tl.dot(left.to(wide), right.to(wide), total, input_precision=PRECISION, out_dtype=wide)


@triton.jit
def add_product(
    total, rows_ptr, i_row, row_stride, WIDTH, block_ptr, block_stride, i_col, m_n, m_k,
    BN: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, TURNED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """``total [BN, BK] + rows matrix``: rows ``[.., WIDTH]`` of a tensor by columns of a matrix ``[WIDTH, K]``, or,
    TURNED, of the transpose of one ``[K, WIDTH]``."""
    for i_c in range(0, WIDTH, BC):
        m_c = i_c + tl.arange(0, BC) < WIDTH
        rows = block(rows_ptr, i_row, row_stride, i_c, m_n, m_c, BN, BC)
        if TURNED:
            matrix = tl.trans(block(block_ptr, i_col, block_stride, i_c, m_k, m_c, BK, BC))
        else:
            matrix = block(block_ptr, i_c, block_stride, i_col, m_c, m_k, BC, BK)
        total = dot(rows, matrix, total, PRECISION)
    return total
