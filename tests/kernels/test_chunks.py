"""Chunks have all rows of all graphs, each once, and never rows of two graphs; tensors as kernels read them."""

from __future__ import annotations

import itertools

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl

from hierpool_kernels.core.adjacency import Dense
from hierpool_kernels.core.chunks import last_at_most, locate_chunk
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.tensors import contiguous_rows

CHUNK_SIZES = (16, 64)


@triton.jit
def _mark_kernel(graph_ptr, count_ptr, ptr, sizes, N, B, CHUNK: tl.constexpr):
    i_b, begin, end = locate_chunk(tl.program_id(0), ptr, sizes, N, B, CHUNK)
    o_n = begin + tl.arange(0, CHUNK)
    first = 0
    if ptr is None:
        first = i_b * N
    tl.store(graph_ptr + first + o_n, i_b, mask=o_n < end)
    tl.store(count_ptr + first + o_n, tl.load(count_ptr + first + o_n, mask=o_n < end) + 1, mask=o_n < end)


def marks(rows: Rows, total: int, size: int) -> tuple[list[int], list[int]]:
    """The graph of each row, and the number of chunks that have it."""
    graph, count = torch.full((total,), -1), torch.zeros(total, dtype=torch.int64)
    _mark_kernel[(rows.chunks(size),)](graph, count, rows.ptr, rows.sizes, rows.n, rows.b, CHUNK=size)
    return graph.tolist(), count.tolist()


SIZES = [
    (5,),
    (0, 9, 4),
    (16, 16, 64),
    (0, 0, 0, 1),
    (200, 0, 1, 63, 64, 65),
    tuple(i % 40 for i in range(37)),
]


@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_ragged(sizes: tuple[int, ...], size: int) -> None:
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    graph, count = marks(Rows.ragged(ptr, sum(sizes)), sum(sizes), size)
    assert graph == list(itertools.chain.from_iterable([b] * size for b, size in enumerate(sizes)))
    assert set(count) == {1}


@pytest.mark.parametrize("size", CHUNK_SIZES)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("given", [True, False], ids=["num_nodes", "all"])
def test_padded(sizes: tuple[int, ...], given: bool, size: int) -> None:
    b, n = len(sizes), max(sizes)
    rows = Rows.padded(b, n, None, torch.tensor(sizes) if given else None)
    graph, _ = marks(rows, b * n, size)
    expected = [g if not given or row < sizes[g] else -1 for g in range(b) for row in range(n)]
    assert graph == expected


def test_more_nodes_than_rows_are_all_rows() -> None:
    """Nobody checks num_nodes on a device: rows of the next graph must not be read."""
    graph, count = marks(Rows.padded(3, 20, None, torch.tensor([20, 25, 1000])), 60, 16)
    assert graph == [0] * 20 + [1] * 20 + [2] * 20
    assert set(count) == {1}


def test_a_mask_with_holes_ends_at_its_last_node() -> None:
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
    rows = Rows.padded(4, 4, mask, None)
    assert rows.sizes is not None
    assert rows.sizes.tolist() == [3, 0, 4, 2]
    assert Rows.padded(2, 0, torch.zeros(2, 0, dtype=torch.bool), None).sizes.tolist() == [0, 0]  # type: ignore[union-attr]


@triton.jit
def _search_kernel(ptr, wanted_ptr, out_ptr, COUNT, SIZE: tl.constexpr):
    o = tl.arange(0, SIZE)
    tl.store(out_ptr + o, last_at_most(ptr, COUNT, tl.load(wanted_ptr + o)))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_bisection(count: int) -> None:
    """With repeated elements, as of rows without entries."""
    elements = torch.randint(0, 60, (count,), generator=torch.Generator().manual_seed(count)).sort().values
    elements[0] = 0
    wanted = torch.arange(64)
    found = torch.empty(64, dtype=torch.int64)
    _search_kernel[(1,)](elements, wanted, found, count, SIZE=64)
    assert torch.equal(found, torch.searchsorted(elements, wanted, right=True) - 1)


# ---- tensors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "stride", "copied"),
    [
        ((4, 6), (6, 1), False), ((4, 4), (6, 1), False), ((2, 6), (12, 1), False), ((4, 1), (6, 6), False),
        ((6, 4), (1, 6), True), ((4, 3), (6, 2), True),
        ((4, 6), (1 << 20, 1), True), ((4, 6), ((1 << 20) - 1, 1), False),
        ((2, 4, 6), (24, 6, 1), False), ((2, 4, 6), (60, 6, 1), False), ((2, 4, 6), (0, 6, 1), False),
        ((2, 4, 6), (25, 6, 1), True), ((2, 4, 6), (24, 0, 1), True), ((1, 4, 6), (25, 6, 1), False),
        ((2, 1, 6), (6, 5, 1), True),
    ],
)  # fmt: skip
def test_tensors_are_copied_only_where_kernels_cannot_read_them(
    shape: tuple[int, ...], stride: tuple[int, ...], copied: bool
) -> None:
    t = torch.empty_strided(shape, stride, device="meta")
    found = contiguous_rows(t)
    assert (found is not t) == copied
    assert found.shape == t.shape
    if copied:
        assert found.is_contiguous()


def test_bool_is_read_as_bytes() -> None:
    adj = torch.tensor([[[True, False], [True, True]]])
    assert Dense.of(adj).a.tolist() == [[[1, 0], [1, 1]]]
    assert Dense.of(adj.mT).a.tolist() == [[[1, 1], [0, 1]]]
    assert Dense.of(adj.mT).a.data_ptr() == adj.data_ptr()
