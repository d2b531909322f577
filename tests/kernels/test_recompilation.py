"""How many variants of kernels a stream of batches of different sizes needs, and at which steps; nothing is run."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed")

from hierpool_kernels.aot.cases import Case, calls
from hierpool_kernels.aot.compiler import variant

DENSE = Case("pool", "dense", rows="mask", diffpool=True)
CSR = Case("pool", "csr", a="none", symmetric=True, diffpool=True, index=32)


def steps(batches: Iterable[Case]) -> list[int]:
    """The variants that each batch is the first to need."""
    seen: set[Any] = set()
    found = []
    for case in batches:
        keys = {variant(call, "sm_90").key for call in calls(case, "sm_90")}
        found.append(len(keys - seen))
        seen |= keys
    return found


def of(base: Case, sizes: Iterable[dict[str, int]], **more: Any) -> list[Case]:
    return [Case(**vars(base) | more | size) for size in sizes]


def padded(largest: int, count: int, multiple: int = 1) -> list[dict[str, int]]:
    """Nodes of the largest graph of each batch, rounded up."""
    draw = Random(0)
    return [{"n": -(-draw.randint(largest // 4, largest) // multiple) * multiple} for _ in range(count)]


def ragged(nodes: int, degree: int, graphs: int, count: int) -> list[dict[str, int]]:
    """Nodes and entries of each batch of graphs."""
    draw = Random(0)
    totals = [sum(draw.randint(nodes // 4, 2 * nodes) for _ in range(graphs)) for _ in range(count)]
    return [{"n": n, "entries": n * degree + draw.randint(0, n), "b": graphs} for n in totals]


STREAMS = {
    "dense, graphs as in ENZYMES, N a multiple of 16": of(DENSE, padded(126, 12, 16), k=31, f=64, b=32),
    "dense, graphs as in D&D, N a multiple of 16": of(DENSE, padded(2000, 40, 16), k=157, f=89, b=20),
    "CSR, graphs as in ENZYMES": of(CSR, ragged(33, 4, 32, 12), k=31),
    "CSR, graphs as in D&D": of(CSR, ragged(284, 5, 20, 12), k=157, f=89),
    "products, graphs as in D&D": of(Case("spmm", "csr", a="none", index=32), ragged(284, 5, 20, 12), k=64),
}


@pytest.mark.parametrize("name", STREAMS)
def test_variants_are_those_of_the_first_two_steps(name: str) -> None:
    found = steps(STREAMS[name])
    assert found[0] > 0
    assert found[2:] == [0] * len(found[2:]), found


def test_sizes_that_are_no_multiple_of_16_need_few_more() -> None:
    """Strides decide how wide loads may be: by 16, by 4, or by neither."""
    for sizes, k, f, b in ((padded(126, 40), 31, 64, 32), (padded(2000, 40), 157, 89, 20)):
        found = steps(of(DENSE, sizes, k=k, f=f, b=b))
        assert sum(found) <= 3 * found[0], found
