"""Which rows a slot has: all rows of all graphs, each once, and never those of two graphs."""

from __future__ import annotations

import itertools

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl

from hierpool_kernels.batch import Batch
from hierpool_kernels.common import last_at_most, locate

STEPS = (16, 64)


@triton.jit
def _mark_kernel(graph_ptr, count_ptr, ptr, sizes, N, B, STEP: tl.constexpr):
    i_b, begin, end = locate(tl.program_id(0), ptr, sizes, N, B, STEP)
    o_n = begin + tl.arange(0, STEP)
    first = 0
    if ptr is None:
        first = i_b * N
    tl.store(graph_ptr + first + o_n, i_b, mask=o_n < end)
    tl.store(count_ptr + first + o_n, tl.load(count_ptr + first + o_n, mask=o_n < end) + 1, mask=o_n < end)


def marks(batch: Batch, rows: int, step: int) -> tuple[list[int], list[int]]:
    """Graph of each row, and how many slots have it."""
    graph, count = torch.full((rows,), -1), torch.zeros(rows, dtype=torch.int64)
    _mark_kernel[(batch.slots(step),)](graph, count, batch.ptr, batch.sizes, batch.n, batch.b, STEP=step)
    return graph.tolist(), count.tolist()


SIZES = [
    (5,),
    (0, 9, 4),
    (16, 16, 64),
    (0, 0, 0, 1),
    (200, 0, 1, 63, 64, 65),
    tuple(i % 40 for i in range(37)),
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_ragged(sizes: tuple[int, ...], step: int) -> None:
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    graph, count = marks(Batch.ragged(ptr, sum(sizes)), sum(sizes), step)
    assert graph == list(itertools.chain.from_iterable([b] * size for b, size in enumerate(sizes)))
    assert set(count) == {1}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("given", [True, False], ids=["num_nodes", "all"])
def test_padded(sizes: tuple[int, ...], given: bool, step: int) -> None:
    b, n = len(sizes), max(sizes)
    batch = Batch.padded(b, n, None, torch.tensor(sizes) if given else None)
    graph, _ = marks(batch, b * n, step)
    expected = [g if not given or row < sizes[g] else -1 for g in range(b) for row in range(n)]
    assert graph == expected


def test_a_mask_with_holes_ends_at_its_last_node() -> None:
    mask = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
    batch = Batch.padded(4, 4, mask, None)
    assert batch.sizes is not None
    assert batch.sizes.tolist() == [3, 0, 4, 2]
    assert Batch.padded(2, 0, torch.zeros(2, 0, dtype=torch.bool), None).sizes.tolist() == [0, 0]  # type: ignore[union-attr]


@triton.jit
def _search_kernel(ptr, wanted_ptr, out_ptr, COUNT, SIZE: tl.constexpr):
    o = tl.arange(0, SIZE)
    tl.store(out_ptr + o, last_at_most(ptr, COUNT, tl.load(wanted_ptr + o)))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 100])
def test_search(count: int) -> None:
    """With repeated elements, as of rows without entries."""
    elements = torch.randint(0, 60, (count,), generator=torch.Generator().manual_seed(count)).sort().values
    elements[0] = 0
    wanted = torch.arange(64)
    found = torch.empty(64, dtype=torch.int64)
    _search_kernel[(1,)](elements, wanted, found, count, SIZE=64)
    assert torch.equal(found, torch.searchsorted(elements, wanted, right=True) - 1)
