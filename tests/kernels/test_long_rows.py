"""Rows with more entries than one tile takes of a row: hubs, at the ends of parts, in rows and in columns."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import hierpool
from hierpool import RaggedGraph, reference
from hierpool_kernels.core import plan_walk
from hierpool_kernels.core.target import INTERPRETER, Target
from tests.support.running import random_upstream

f64 = torch.float64
LONGEST = plan_walk.sparse(0, 1, Target(INTERPRETER, "ieee")).longest


def graph_of(lengths: list[int], weighted: bool) -> RaggedGraph:
    """A directed graph whose rows have these numbers of entries, in random columns."""
    draw = torch.Generator().manual_seed(sum(lengths))
    n = max(max(lengths), len(lengths))
    rows = [torch.full((length,), i) for i, length in enumerate(lengths)]
    cols = [torch.randperm(n, generator=draw)[:length] for length in lengths]
    edges = torch.stack([torch.cat(rows), torch.cat(cols)])
    weight = torch.rand(edges.size(1), generator=draw, dtype=f64) if weighted else None
    return RaggedGraph.from_edge_index(edges, n, edge_weight=weight)


LENGTHS = [
    [LONGEST], [LONGEST + 1], [2 * LONGEST], [2 * LONGEST + 1], [0, LONGEST + 1, 0],
    [3, 5 * LONGEST + 7, 1, 0, LONGEST, 2 * LONGEST, 4],
    [LONGEST - 1, LONGEST + 1, LONGEST - 1, LONGEST + 1],
    [1] * LONGEST + [LONGEST + 5],
]  # fmt: skip


@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "ones"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda lengths: "-".join(map(str, lengths[:7])))
@pytest.mark.parametrize("width", [3, 40])
def test_product(lengths: list[int], weighted: bool, width: int) -> None:
    graph = graph_of(lengths, weighted)
    assert plan_walk.sparse(graph.num_edges, width, Target(INTERPRETER, "ieee")).longest == LONGEST
    x = torch.randn(graph.num_nodes, width, dtype=f64, generator=torch.Generator().manual_seed(1))
    for transpose in (False, True):
        got = hierpool.spmm(graph, x, transpose=transpose, backend="triton")
        expected = reference.spmm(graph.rowptr, graph.col, graph.value, x, transpose)
        torch.testing.assert_close(got, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("lengths", LENGTHS[-3:], ids=lambda lengths: "-".join(map(str, lengths[:7])))
def test_pooling(lengths: list[int]) -> None:
    """All fields and gradients, row sums and their squares among them."""
    graph = graph_of(lengths, True)
    draw = torch.Generator().manual_seed(2)
    results = []
    upstream = None
    for backend in ("triton", "reference"):
        draw.manual_seed(2)
        x, s = (
            torch.randn(graph.num_nodes, width, dtype=f64, generator=draw).requires_grad_()
            for width in (3, 5)
        )
        assert graph.value is not None
        value = graph.value.detach().requires_grad_()
        record = hierpool.soft_pool(x, graph.with_value(value, symmetric=False), s, backend=backend)
        upstream = random_upstream(record, 3) if upstream is None else upstream
        grads = torch.autograd.grad([t for t in record if t is not None], (x, value, s), upstream)
        results.append([*record, *grads])
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
