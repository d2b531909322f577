"""Chunks: how the rows of all graphs are divided among programs.

Graphs are either padded (``ptr`` is None: graph ``b`` has rows 0 to ``sizes[b]``, or all ``N``, of slice ``b`` of a
tensor) or ragged (rows ``ptr[b]`` to ``ptr[b + 1]`` of the whole tensor). A chunk has ``CHUNK`` rows of one graph. In a
ragged batch, graph ``b`` owns the chunks from ``ptr[b] // CHUNK + b`` on. These are at least as many as it needs, as
floor(q / c) - floor(p / c) + 1 >= ceil((q - p) / c), so that the host can launch programs without knowing any size.
Chunks beyond the last row of a graph are empty.
"""

from __future__ import annotations

import triton
import triton.language as tl

from hierpool_kernels.core.tiles import row_ptr, slice_ptr


@triton.jit
def swizzled_program_ids():
    """Program indices (chunk, y, z), ordered so that the programs of one chunk run together and share its rows in the
    cache: the hardware starts programs in the order of the first index."""
    others = tl.num_programs(1) * tl.num_programs(2)
    i = (tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)) * tl.num_programs(0) + tl.program_id(0)
    return i // others, i % tl.num_programs(1), i % others // tl.num_programs(1)


@triton.jit
def graph_rows(i_b, ptr, sizes, N):
    """The first row of graph ``i_b``, and the row after its last."""
    if ptr is not None:
        first = tl.load(ptr + i_b).to(tl.int32)
        end = tl.load(ptr + i_b + 1).to(tl.int32)
    else:
        first = 0
        end = N
        if sizes is not None:  # not checked on the host, which would have to wait for the device
            end = tl.minimum(tl.load(sizes + i_b), N).to(tl.int32)
    return first, end


@triton.jit
def graph_slice(nodes_ptr, i_b, rows, row, ptr):
    """Pointer to the rows of graph ``i_b`` of a node tensor with rows ``row`` elements and graphs ``rows`` rows apart;
    None if ``nodes_ptr`` is None."""
    if nodes_ptr is not None:
        return row_ptr(nodes_ptr, i_b.to(tl.int64) * rows, row) if ptr is None else nodes_ptr


@triton.jit
def first_chunk(i_b, ptr, N, CHUNK):
    """The first chunk of graph ``i_b``."""
    if ptr is not None:
        chunk = tl.load(ptr + i_b) // CHUNK + i_b
    else:
        chunk = i_b.to(tl.int64) * tl.cdiv(N, CHUNK)
    return chunk


@triton.jit
def graph_of_chunk(i_chunk, ptr, N, B, CHUNK):
    """The graph that owns a chunk."""
    if ptr is not None:
        i_b = i_chunk * 0
        span = i_b + B
        while span > 1:  # bisection: the last graph whose first chunk is not beyond this one
            half = span // 2
            reached = first_chunk(i_b + half, ptr, N, CHUNK) <= i_chunk
            i_b = tl.where(reached, i_b + half, i_b)
            span -= half
    else:
        i_b = i_chunk // tl.cdiv(N, CHUNK)
    return i_b


@triton.jit
def locate_chunk(i_chunk, ptr, sizes, N, B, CHUNK):
    """The graph of a chunk, the first row of the chunk, and the row after the last of the graph."""
    i_b = graph_of_chunk(i_chunk, ptr, N, B, CHUNK)
    first, end = graph_rows(i_b, ptr, sizes, N)
    return i_b, (first + (i_chunk - first_chunk(i_b, ptr, N, CHUNK)) * CHUNK).to(tl.int32), end


@triton.jit
def valid_rows(o_n, end, mask_ptr):
    """True for the rows ``o_n`` that are nodes; ``mask_ptr`` is the mask of their graph, or None."""
    m_n = o_n < end
    if mask_ptr is not None:
        m_n = m_n & (tl.load(mask_ptr + o_n, mask=m_n, other=0) != 0)
    return m_n


@triton.jit
def chunk_rows(i_chunk, ptr, sizes, mask_ptr, N, B, BN: tl.constexpr):
    """As `locate_chunk`, for a chunk of BN rows; then the row after the last that is written, padding included, and
    the mask of the rows that are nodes."""
    i_b, begin, end = locate_chunk(i_chunk, ptr, sizes, N, B, BN)
    m_n = valid_rows(begin + tl.arange(0, BN), end, slice_ptr(mask_ptr, i_b, N))
    if ptr is not None:
        last = end
    else:
        last = N
    return i_b, begin, end, last, m_n


@triton.jit
def pairs_of_program(sizes, mask_ptr, N, BN: tl.constexpr, BJ: tl.constexpr):
    """For a grid (graphs times tiles of rows, tiles of columns): the graph, the first row and column of the tile of its
    node pairs, the masks of the rows and columns that are nodes, and the row after the last of the graph."""
    i_b = tl.program_id(0) // tl.cdiv(N, BN)
    i_n = tl.program_id(0) % tl.cdiv(N, BN) * BN
    i_j = tl.program_id(1) * BJ
    _, end = graph_rows(i_b, None, sizes, N)
    p_mask = slice_ptr(mask_ptr, i_b, N)
    m_n = valid_rows(i_n + tl.arange(0, BN), end, p_mask)
    m_j = valid_rows(i_j + tl.arange(0, BJ), end, p_mask)
    return i_b, i_n, i_j, m_n, m_j, end


@triton.jit
def last_at_most(ptr, COUNT, bound):
    """The index of the last of ``COUNT`` ascending elements that is at most ``bound`` (a scalar or a tensor), by
    bisection; the first element must be."""
    found = (bound * 0).to(tl.int32)
    span = tl.program_id(0) * 0 + COUNT
    while span > 1:
        half = span // 2
        found = tl.where(tl.load(ptr + found + half) <= bound, found + half, found)
        span -= half
    return found
