"""Construction on a GPU sorts the edges once and waits for the device once; counted on the CPU, without its checks."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.backends.reference import graph_build
from hierpool.graph import build
from tests.support.waiting import counted

N, E = 30, 300
PTR = torch.tensor([0, 4, 4, 19, 30])
BATCH = torch.arange(4).repeat_interleave(PTR.diff())


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_backend", lambda device: graph_build)
    monkeypatch.setattr(graph_build, "HOST", ())


def edges(order: Tensor | None = None, symmetric: bool = False) -> tuple[Tensor, Tensor]:
    """Edges with duplicates and their weights, in any order; with ``order``, of nodes in that order."""
    draw = torch.Generator().manual_seed(0)
    row = torch.randint(N, (E,), generator=draw)
    first, size = PTR[BATCH[row]], PTR.diff()[BATCH[row]]
    ends = torch.stack([row, first + (torch.rand(E, generator=draw) * size).long()])
    weight = torch.rand(E, generator=draw)
    if symmetric:
        ends = torch.cat([ends, ends.flip(0)], 1)
        weight = torch.ones(2 * E)
    return (ends if order is None else order[ends]), weight


def test_what_counts() -> None:
    x = torch.arange(6)
    for call in (x.tolist, x[1].item, lambda: bool(x[1]), lambda: x[x > 2], lambda: (x > 2).nonzero(),
                 lambda: torch.equal(x, x), lambda: torch.repeat_interleave(x, x), lambda: x.unique()):  # fmt: skip
        assert len(counted(call)[1]) >= 1
    assert counted(lambda: (x.argsort(), x.sort()[0], x[x]))[1:] == ([], [6, 6])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("symmetric", [None, True, False])
@pytest.mark.parametrize("form", ["one", "ptr", "batch", "unsorted"])
def test_edges(form: str, symmetric: bool | None, weighted: bool) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1)) if form == "unsorted" else None
    ends, weight = edges(order, symmetric is True)
    batch = torch.empty_like(BATCH).index_copy(0, order, BATCH) if order is not None else BATCH
    graphs: dict[str, Any] = {"batch": batch, "num_graphs": 4}
    graphs = {"one": {}, "ptr": {"ptr": PTR}}.get(form, graphs) | {"num_nodes": N, "symmetric": symmetric}
    given = {"edge_weight": weight} if weighted else {}
    graph, waits, sorts = counted(lambda: RaggedGraph.from_edge_index(ends, **graphs, **given))
    assert len(waits) <= 1, waits
    assert sorts.count(ends.size(1)) == 1
    dense = torch.zeros(N, N).index_put(
        (ends[0], ends[1]), weight if weighted else torch.ones(()), accumulate=True
    )
    place = torch.arange(N) if graph.order is None else graph.order
    assert (graph.order is None) == (form != "unsorted")
    found = torch.zeros(N, N)
    found[place[graph.row.long()], place[graph.col.long()]] = graph.value
    torch.testing.assert_close(found, dense)
    if symmetric is None:
        assert counted(lambda: graph.is_symmetric)[0] is False


@pytest.mark.parametrize("weighted", [False, True])
def test_symmetry_is_found(weighted: bool) -> None:
    ends, _ = edges(symmetric=True)
    ends = ends.unique(dim=1).contiguous()
    weight = (ends[0] + ends[1]).float() if weighted else None
    made = {
        "edges": lambda w: RaggedGraph.from_edge_index(ends, N, edge_weight=w),
        "coalesced": lambda w: RaggedGraph.from_edge_index(ends, N, edge_weight=w, is_coalesced=True),
        "rows": lambda w: RaggedGraph.from_csr(rowptr, ends[1], w),
        "coalesced rows": lambda w: RaggedGraph.from_csr(rowptr, ends[1], w, is_coalesced=True),
    }
    rowptr = torch.searchsorted(ends[0].contiguous(), torch.arange(N + 1))
    for name, make in made.items():
        graph, waits, sorts = counted(partial(make, weight))
        assert graph.is_symmetric, name
        assert len(waits) <= 1, (name, waits)
        assert len(sorts) == (name == "edges"), name
        assert (graph.value is None) == (weight is None)
    if weight is not None:
        weight[E // 7] += 1
        assert not any(make(weight).is_symmetric for make in made.values())


def test_sizes_that_are_not_given_cost_a_wait_each() -> None:
    ends, _ = edges()
    assert len(counted(lambda: RaggedGraph.from_edge_index(ends))[1]) == 2
    assert len(counted(lambda: RaggedGraph.from_edge_index(ends, batch=BATCH))[1]) == 2
    assert (
        len(counted(lambda: RaggedGraph.from_edge_index(ends, N, symmetric=True, is_coalesced=True))[1]) == 0
    )


def test_a_transpose_is_sorted_once() -> None:
    ends, _ = edges()
    graph = RaggedGraph.from_edge_index(ends, N)
    _, waits, sorts = counted(lambda: (graph.transposed(), graph.transposed(), graph.reversed_entries()))
    assert (waits, sorts) == ([], [graph.num_edges])
