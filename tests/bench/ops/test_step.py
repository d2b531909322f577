"""The comparison of whole training steps: equal networks, equal graphs, and rows that say what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("torch_geometric", reason="torch_geometric (extra: bench) is not installed")
pytest.importorskip("grakel", reason="grakel (extra: bench) is not installed")

from bench import __main__ as cli
from bench.harness import results
from bench.ops import _pyg_net as pyg_net
from bench.ops import step
from hierpool.data import GraphDataset, load_tu
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


def test_command_writes_a_folder(
    tmp_path: Path, dataset: GraphDataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "load_tu", lambda name, root: dataset)
    monkeypatch.setattr(step, "RESULTS", tmp_path)
    assert cli.main(["step", "--dataset=MUTAG", "--steps=10"]) == 0
    (folder,) = tmp_path.iterdir()
    found = results.read(folder)
    assert step.is_whole(found)
    assert found.metadata["peer"] in step.PYG
    assert results.newest(tmp_path, whole=step.is_whole) is None  # a quick look
    assert f"{found.rows[-1]['speedup']['p50']:.3g}x" in capsys.readouterr().out
    assert cli.main(["step", "--steps=2"]) == 2
    assert "--steps must be at least 10, got 2" in capsys.readouterr().err
