"""The comparison of whole training steps: equal networks, equal graphs, and rows that say what was measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("torch_geometric", reason="torch_geometric (extra: bench) is not installed")
pytest.importorskip("grakel", reason="grakel (extra: bench) is not installed")

from bench import __main__ as cli
from bench.harness import machine, results
from bench.ops import _pyg_net as pyg_net
from bench.ops import step
from hierpool.data import Graph, GraphDataset, collate, load_tu
from hierpool.training import TrainConfig

CONFIG = TrainConfig(dataset="MUTAG", hidden_channels=8, embedding_channels=8, batch_size=16, head_channels=6)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> GraphDataset:
    return load_tu("MUTAG", cache=tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("levels", [1, 2])
def test_the_networks_are_the_same_function(dataset: GraphDataset, levels: int) -> None:
    assert step.verify(replace(CONFIG, levels=levels), dataset) < 1e-4


def test_a_wrong_opponent_is_not_timed(dataset: GraphDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyg_net, "share_weights", lambda theirs, ours: None)
    with pytest.raises(RuntimeError, match="nothing is timed"):
        step.verify(CONFIG, dataset)


def test_sides_differ_in_the_number_of_clusters(dataset: GraphDataset) -> None:
    batch = collate(list(dataset.graphs[:4]))
    models = {name: step.make_model(name, CONFIG, dataset) for name in step.SIDES}
    per_graph = {
        name: models[name](*batch.inputs).levels[0].so.num_clusters for name in ("hierpool-dense", "hierpool")
    }
    for name, counts in per_graph.items():
        assert counts.tolist() == [math.ceil(g.x.size(0) / 4) for g in dataset.graphs[:4]], name
    one = dataset.max_nodes // 4
    largest = models["hierpool-largest"]
    assert largest(*batch.inputs).levels[0].x.size(1) == one > int(counts.max())
    for name in step.PYG:
        assert models[name].linears[0].out_features == one
        assert torch.equal(models[name].head[0].weight, largest.head[0].weight)


def test_every_side_sees_the_same_graphs(dataset: GraphDataset) -> None:
    sides = [step.make_side(name, CONFIG, dataset) for name in step.SIDES]
    for _ in range(13):  # into the second epoch
        labels = [next(side.batches)[1] for side in sides]
        assert all(torch.equal(y, labels[0]) for y in labels)
    assert len(labels[0]) == CONFIG.batch_size


def test_steps_train(dataset: GraphDataset) -> None:
    side = step.make_side("hierpool", CONFIG, dataset)
    before = [p.detach().clone() for p in side.model.parameters()]
    assert side.step() == pytest.approx(sum(sum(times) for times in side.parts.values()) / 1e3)
    assert set(side.parts) == set(step.PARTS)
    assert all(not torch.equal(a, b) for a, b in zip(before, side.model.parameters(), strict=True))


def test_needed_bytes_grow_with_the_largest_graph(dataset: GraphDataset) -> None:
    batchwise, beforehand, dense = (step.needed_bytes(name, CONFIG, dataset) for name in step.PADDED)
    nodes, features = dataset.max_nodes, dataset.num_features
    padded = nodes * (4 * nodes + 4 * features + 1)  # adjacency, features, mask of a graph
    assert beforehand - batchwise == len(dataset.graphs) * padded
    assert dense > 0
    large = Graph(torch.zeros(1000, features), torch.zeros(2, 0, dtype=torch.long), 0)
    with_large = replace(dataset, graphs=(*dataset.graphs, large))
    squares = (step.needed_bytes("pyg", CONFIG, with_large) - batchwise) / (4 * CONFIG.batch_size * 1000**2)
    assert 4 < squares < 9  # adjacency, difference, its gradient twice; rows of 250 clusters


def test_a_slow_side_takes_fewer_steps() -> None:
    def taking(seconds: float, budget_s: float) -> int:
        return len(step.sample([SimpleNamespace(step=lambda: seconds, parts={})] * 2, 100, budget_s))

    assert [taking(s, 60.0) for s in (0.01, 0.5, 100.0)] == [100, 60, step.LEAST_STEPS]


def command(
    dataset: GraphDataset, folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> results.Results:
    """The results of a run of the command, into a folder of its own."""
    monkeypatch.setattr(step, "load_tu", lambda name, root: dataset)
    monkeypatch.setattr(step, "RESULTS", folder)
    assert cli.main(["step", "--dataset=MUTAG", "--steps=10", *options]) == 0
    (made,) = folder.iterdir()
    return results.read(made)


def test_command_writes_a_folder(
    tmp_path: Path, dataset: GraphDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = command(dataset, tmp_path, monkeypatch)
    assert [row["side"] for row in found.rows] == list(step.SIDES)
    assert step.is_whole(found)
    assert not step.is_whole(replace(found, rows=found.rows[:-1]))
    assert found.metadata["peer"] in step.PYG
    assert all(row["status"] == "measured" and row["steps"] == 10 for row in found.rows)
    assert step.newest(tmp_path) == ()  # a quick look
    assert f"{found.rows[-1]['speedup']['p50']:.3g}x" in capsys.readouterr().out
    for option, message in (
        ("--steps=2", "--steps must be at least 10, got 2"),
        ("--budget-s=0", "--budget-s must"),
    ):
        assert cli.main(["step", option]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("fitting", [(), ("pyg",)])
def test_what_does_not_fit_is_not_run(
    tmp_path: Path, dataset: GraphDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    fitting: tuple[str, ...],
) -> None:  # fmt: skip
    make = step.make_side

    def made(name: str, *rest: Any) -> step.Side:
        assert name not in step.PADDED or name in fitting
        return make(name, *rest)

    monkeypatch.setattr(step, "make_side", made)
    monkeypatch.setattr(step, "needed_bytes", lambda name, *rest: 1000 if name in fitting else 3 << 29)
    monkeypatch.setattr(machine, "available_bytes", lambda: (3 << 29) + 1)  # without room for anything else
    found = command(dataset, tmp_path, monkeypatch)
    assert step.is_whole(found)
    assert found.metadata["peer"] == (fitting[0] if fitting else None)
    for row in found.rows:
        if row["side"] in step.PADDED and row["side"] not in fitting:
            assert (row["status"], row["needs_gib"]) == ("does not fit", 1.5)
        else:
            assert row["ms"]["p50"] > 0
            assert set(row["parts_ms"]) == set(step.PARTS)
            assert ("speedup" in row) == bool(fitting)
    shown = capsys.readouterr().out
    assert "does not fit (needs 1.5 GiB)" in shown
    assert ("PyG does not fit (needs 1.5 GiB)" in shown) == (not fitting)
