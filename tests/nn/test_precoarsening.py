"""Levels that are made once, in batches, loaders, their workers, and training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hierpool import Assignment, RaggedGraph
from hierpool.data import BatchLoader, Graph, GraphDataset, RaggedBatch, collate_ragged
from hierpool.models import PoolNet
from hierpool.nn import (
    HARD_POOLERS,
    GraclusPool,
    HardPooling,
    KMISPool,
    Level,
    NDPPool,
    Precoarsening,
    TopKPool,
    collate_levels,
)
from hierpool.training import TrainConfig, make_splits, train_fold
from tests.nn.test_hard_poolers import F, sorted_batch
from tests.selection.graphs import alone, drawn_batch

POOLERS: dict[str, Callable[[], HardPooling]] = {
    "ndp": NDPPool,
    "graclus": GraclusPool,
    "kmis": lambda: KMISPool(scorer="degree"),
}


def drawn_graphs(count: int) -> list[Graph]:
    graphs = []
    for seed in range(count):
        batch, _ = drawn_batch(seed)
        for b in range(batch.num_graphs):
            one, _ = alone(batch, b)
            torch.manual_seed(seed)
            graphs.append(Graph(torch.rand(one.num_nodes, F), one.to_edge_index()[0], b % 2))
    return graphs


def assert_same(level: Level, other: Level) -> None:
    for name in ("rowptr", "cluster", "weight", "ptr", "cluster_ptr"):
        first, second = getattr(level.assignment, name), getattr(other.assignment, name)
        assert (first is None) == (second is None)
        assert first is None or torch.equal(first, second)
    for first, second in zip(level.assignment.transposed(), other.assignment.transposed(), strict=True):
        assert torch.equal(first, second)
    for name in ("rowptr", "col", "ptr"):
        assert torch.equal(getattr(level.graph, name), getattr(other.graph, name))
    ones = torch.ones(level.graph.num_edges)
    values = [ones if one.value is None else one.value for one in (level.graph, other.graph)]
    torch.testing.assert_close(*values)
    assert level.graph.is_symmetric == other.graph.is_symmetric


@pytest.mark.parametrize("name", POOLERS)
def test_levels_of_a_batch_are_those_of_its_graphs(name: str) -> None:
    transform = Precoarsening(POOLERS[name](), 2)
    graphs = [transform(graph) for graph in drawn_graphs(40)]
    batch = collate_ragged(graphs)
    assert len(batch.levels) == 2
    for level, other in zip(batch.levels, transform(batch.graph), strict=True):
        assert_same(level, other)
    with torch.no_grad():
        out = transform.pooler(batch.x, batch.graph)
        again = transform.pooler(batch.x, batch.graph, level=batch.levels[0])
    torch.testing.assert_close(again.x, out.x)


def test_assignments_of_interleaved_batches_are_joined() -> None:
    pooler = KMISPool(scorer="degree")
    for seed in range(30):
        graphs = [drawn_batch(seed + shift)[0].with_value(None) for shift in (0, 40, 80)]
        out = [pooler(torch.ones(graph.num_nodes, 1), graph).so for graph in graphs]
        joined = Assignment.collate(out)
        expected = torch.block_diag(*(one.to_dense() for one in out))
        assert torch.equal(joined.to_dense(), expected)
        whole = RaggedGraph.collate(graphs)
        x = torch.rand(whole.num_nodes, 2)
        torch.testing.assert_close(pooler(x, whole, so=joined).x, pooler(x, whole).x)


class Pooled(torch.utils.data.Dataset[Graph]):
    """Graphs that are pooled where they are read, as in a worker."""

    def __init__(self, graphs: list[Graph]) -> None:
        self.graphs, self.transform = graphs, Precoarsening("ndp", 2)

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, i: int) -> Graph:
        pooled: Graph = self.transform(self.graphs[i])
        return pooled


@pytest.mark.parametrize("in_worker", [False, True])
def test_batches_of_worker_processes_are_those_of_the_main_process(in_worker: bool) -> None:
    graphs = drawn_graphs(10)
    pooled = list(map(Precoarsening("ndp", 2), graphs))
    data: Any = Pooled(graphs) if in_worker else pooled
    found = DataLoader(data, batch_size=8, collate_fn=collate_ragged, num_workers=2)
    for batch, other in zip(found, BatchLoader(pooled, 8).epoch(0), strict=True):
        assert isinstance(batch, RaggedBatch)
        assert isinstance(other, RaggedBatch)
        for level, same in zip(batch.levels, other.levels, strict=True):
            assert_same(level, same)


def logits(net: PoolNet, *inputs: Any) -> Tensor:
    found: Tensor = net(*inputs).logits
    return found


def test_networks_give_the_same_with_levels_and_without() -> None:
    torch.manual_seed(0)
    net = PoolNet(F, 2, "ndp", levels=2, hidden_channels=8).eval()
    graphs = drawn_graphs(12)
    batch = collate_ragged(list(map(Precoarsening("ndp", 2), graphs)))
    expected = logits(net, *collate_ragged(graphs).inputs)
    torch.testing.assert_close(logits(net, *batch.inputs), expected)
    expected.sum().backward()
    first = [p.grad.clone() for p in net.parameters()]  # type: ignore[union-attr]
    net.zero_grad()
    logits(net, *batch.inputs).sum().backward()
    torch.testing.assert_close([p.grad for p in net.parameters()], first)


def test_loaders_of_torch_geometric_carry_levels() -> None:
    geometric = pytest.importorskip("torch_geometric.loader")
    data = pytest.importorskip("torch_geometric.data").Data
    graphs = [graph for graph in drawn_graphs(12) if graph.x.size(0)]
    transform = Precoarsening("graclus", 2)
    items = [transform(data(x=graph.x, edge_index=graph.edge_index)) for graph in graphs]
    torch.manual_seed(0)
    net = PoolNet(F, 2, "graclus", levels=2, hidden_channels=8).eval()
    for workers in (0, 2):
        batches = list(geometric.DataLoader(items, batch_size=len(items), num_workers=workers))
        levels = collate_levels(batches[0].levels)
        for level, other in zip(levels, transform(RaggedGraph.from_pyg(batches[0])), strict=True):
            assert_same(level, other)
        expected = logits(net, *collate_ragged(graphs).inputs)
        torch.testing.assert_close(logits(net, batches[0]), expected)


@pytest.mark.parametrize("pooler", ["ndp", "det"])
def test_training_reads_the_levels_of_the_data_set(pooler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [graph for graph in drawn_graphs(40) if graph.x.size(0)]
    dataset = GraphDataset("drawn", tuple(graphs), 2, "attributes", "", "")

    def once(*args: Any) -> Any:
        """After which the pooler cannot select any more."""

        def transform(data: Any) -> Any:
            pooled = Precoarsening(*args)(data)
            monkeypatch.setattr(HARD_POOLERS[pooler], "select", None)
            return pooled

        return transform

    monkeypatch.setattr("hierpool.training.loop.Precoarsening", once)
    found = []
    for precoarsen in (False, True):
        config = TrainConfig(
            "drawn", epochs=2, pooler=pooler, levels=2, ratio=0.3, precoarsen=precoarsen, hidden_channels=8
        )
        found.append(train_fold(config, dataset, make_splits(config, dataset)[0]).history)
    for row, other in zip(*found, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_levels_are_saved_and_loaded_without_trust_in_the_file(tmp_path: Path) -> None:
    levels = Precoarsening("ndp", 2)(sorted_batch(3))
    torch.save(levels, tmp_path / "levels.pt")
    for level, other in zip(torch.load(tmp_path / "levels.pt", weights_only=True), levels, strict=True):
        assert_same(level, other)


def test_bad_arguments_are_named() -> None:
    graph = sorted_batch(3)
    levels = Precoarsening("ndp")(graph)
    x = torch.ones(graph.num_nodes, F)
    for make, message in {
        (lambda: Precoarsening(TopKPool(F))): "pooler must have no parameters, which training would change",
        (lambda: Precoarsening("best")): "pooler must be a layer or one of .*'ndp'.*, got 'best'",
        (lambda: Precoarsening("ndp", 0)): "levels must be at least 1, got 0",
        (
            lambda: Precoarsening(NDPPool(), seed=1)
        ): "options must be given with the name of a pooler, got seed",
        (lambda: TopKPool(F)(x, graph, level=levels[0])): "level must be None for a pooler with parameters",
        (lambda: NDPPool()(x[1:], graph, level=levels[0])): "x must have shape",
        (
            lambda: PoolNet(F, 2, "ndp", levels=2)(x, graph, None, levels)
        ): "levels must be those of 2 poolings, got 1",
        (
            lambda: PoolNet(F, 2, "diff", max_nodes=9)(x, graph, None, levels)
        ): "levels must be None with a pooler",
        (lambda: collate_levels([levels, ()])): r"equally many of each, got \[0, 1\]",
        (lambda: Assignment.collate([])): "assignments must have at least one element",
        (
            lambda: TrainConfig(pooler="topk", precoarsen=True)
        ): "pooler must be one of det, graclus, ndp with precoarsen",
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            make()
