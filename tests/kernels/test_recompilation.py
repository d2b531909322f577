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


ANY = {
    "graphs as in ENZYMES": (of(DENSE, padded(126, 38), k=31, f=64, b=32), [4, 3]),
    "graphs as in ENZYMES, rows in vectors": (of(DENSE, padded(126, 38), k=32, f=64, b=32), [4, 3]),
    "graphs as in D&D": (of(DENSE, padded(2000, 60), k=157, f=89, b=20), [11, 2]),
    "graphs as in D&D, rows in vectors": (of(DENSE, padded(2000, 60), k=160, f=96, b=20), [11, 2]),
}


@pytest.mark.parametrize("name", ANY)
def test_any_number_of_nodes_needs_variants_twice(name: str) -> None:
    """At the first batch, and at the first whose N is a multiple of 16, or is not, unlike that of the first: of kernels
    that read A."""
    batches, needed = ANY[name]
    found = steps(batches)
    kinds = [case.n % 16 == 0 for case in batches]
    first = [kinds.index(kinds[0]), kinds.index(not kinds[0])]
    assert [found[i] for i in first] == needed
    assert sum(found) == sum(needed), found


def test_graphs_one_by_one_need_the_variants_of_the_first() -> None:
    draw = Random(0)
    sizes = [{"n": n, "entries": 4 * n} for n in (draw.randint(8, 126) for _ in range(50))]
    found = steps(of(CSR, sizes, k=31, f=64, b=1))
    assert found[1:] == [0] * 49, found
