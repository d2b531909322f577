"""Greedy matching."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.selection import match
from tests.selection.graphs import alone, drawn_batch

CASES = range(200)


def scores(graph: RaggedGraph, kind: int) -> Tensor | None:
    e = graph.num_edges
    kinds = (
        None,
        torch.rand(e),
        torch.randint(3, (e,)),
        torch.rand(e).where(torch.rand(e) < 0.5, -torch.inf),
    )
    return kinds[kind]


@pytest.mark.parametrize("first", CASES[::50])
def test_backends_agree_and_no_edge_is_left(first: int) -> None:
    for seed in range(first, first + 50):
        torch.manual_seed(seed)
        graph, rng = drawn_batch(seed)
        score, loops = scores(graph, seed % 4), rng.random() < 0.5
        mate = match(graph, score, loops=loops, seed=seed)
        assert torch.equal(match(graph, score, loops=loops, seed=seed, backend="reference"), mate)
        matched = mate >= 0
        nodes = torch.arange(graph.num_nodes)
        assert torch.equal(mate[mate[matched]], nodes[matched])
        row, col = graph.to_edge_index()[0]
        usable = torch.ones_like(row, dtype=torch.bool) if score is None else score > -torch.inf
        usable &= (row != col) | loops
        assert bool((matched[row] | matched[col])[usable].all())  # maximal
        if not loops:
            assert not bool((mate == nodes).any())


@pytest.mark.parametrize("first", CASES[::50])
def test_pairs_are_those_of_a_pass_over_sorted_edges(first: int) -> None:
    for seed in range(first, first + 50):
        graph, _ = drawn_batch(seed)
        score = torch.rand(graph.num_edges, dtype=torch.float64)  # distinct
        mate = torch.full((graph.num_nodes,), -1)
        row, col = graph.to_edge_index()[0].tolist()
        for e in score.argsort(descending=True).tolist():
            i, j = row[e], col[e]
            if mate[i] < 0 and mate[j] < 0:
                mate[i], mate[j] = j, i
        assert torch.equal(match(graph, score, loops=True), mate)


def test_pairs_do_not_depend_on_the_batch_or_on_threads() -> None:
    for seed in CASES[::4]:
        graph, _ = drawn_batch(seed)
        mate = match(graph, seed=3)
        for b in range(graph.num_graphs):
            one, nodes = alone(graph, b)
            expected = match(one, seed=3)
            assert torch.equal(mate[nodes], torch.where(expected < 0, -1, nodes[expected]))
    ends = torch.randint(20_000, (2, 100_000))
    graph = RaggedGraph.from_edge_index(torch.cat([ends, ends.flip(0)], 1), 20_000)
    drawn = torch.rand(graph.num_edges)
    given = (None, drawn, (10 * drawn).floor(), drawn.double())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one_thread = [match(graph, score, loops=True) for score in given]
        torch.set_num_threads(8)
        for score, expected in zip(given, one_thread, strict=True):
            assert torch.equal(match(graph, score, loops=True), expected)
            assert torch.equal(match(graph, score, loops=True, backend="reference"), expected)
    finally:
        torch.set_num_threads(threads)


def _path(n: int, closed: bool) -> Tensor:
    ends = torch.stack([torch.arange(n), torch.arange(n).roll(-1)])[:, : n if closed else n - 1]
    return torch.cat([ends, ends.flip(0)], 1)


def _fan(n: int) -> tuple[Tensor, Tensor]:
    """A path with rising weights, all of whose nodes are joined with a hub by falling, smaller ones."""
    spokes = torch.stack([torch.full((n,), n), torch.arange(n)])
    ends = torch.cat([_path(n, False), spokes, spokes.flip(0)], 1)
    rising = 2 + torch.arange(n - 1) / n
    falling = torch.arange(n) / n
    return ends, torch.cat([rising, rising, falling, falling])


@pytest.mark.parametrize("kind", ["cycle", "rising path", "star", "fan"])
def test_time_is_nearly_linear(kind: str) -> None:
    def graph(n: int) -> RaggedGraph:
        weight = None
        if kind == "fan":
            ends, weight = _fan(n)
        elif kind == "star":
            ends = torch.stack([torch.zeros(n, dtype=torch.int64), torch.arange(1, n + 1)])
            ends = torch.cat([ends, ends.flip(0)], 1)
        else:
            ends = _path(n, kind == "cycle")
            weight = None if kind == "cycle" else torch.arange(n - 1).double().repeat(2)
        return RaggedGraph.from_edge_index(ends, edge_weight=weight)

    def seconds(g: RaggedGraph) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            match(g)
            best = min(best, time.process_time() - start)
        return best

    small, large = graph(4_000), graph(64_000)
    assert seconds(large) < 64 * max(
        seconds(small), 5e-4
    )  # 16 times the edges; quadratic would be 256 times the time


def test_bad_arguments_are_named() -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(TypeError, match="graph must be a RaggedGraph, got Tensor"):
        match(torch.zeros(2, 2))  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"score must have shape \[2\], one score for each entry of graph, got \[3\]"
    ):
        match(graph, torch.zeros(3))
    with pytest.raises(ValueError, match="score must not contain NaN, but element 1 is NaN"):
        match(graph, torch.tensor([0.0, float("nan")]))
    with pytest.raises(TypeError, match="score must be real, got dtype complex64"):
        match(graph, torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(TypeError, match="loops must be True or False, got 1"):
        match(graph, loops=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="seed must be an int, got float"):
        match(graph, seed=1.5)  # type: ignore[arg-type]
    match(graph, seed=2**64 - 1)  # as torch.initial_seed() may be
