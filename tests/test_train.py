"""Training: repeatable and resumable bit for bit, and honest about test graphs."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import train, training
from hierpool.data import cross_validation, holdout
from hierpool.training import CheckpointError, loop, train_fold
from hierpool.training.records import Records
from tests.support.running import one_thread
from tests.support.training import SMALL, make_config, make_dataset, same_weights, without_times

__all__ = ["one_thread"]


def test_learns_to_tell_rings_from_paths() -> None:
    dataset = make_dataset(60)
    result = train_fold(make_config(epochs=25), dataset, holdout(dataset.labels, 0))
    assert result.history[-1]["task_loss"] < 0.5 * result.history[0]["task_loss"]
    assert result.test_accuracy == 1.0


def test_same_seed_same_run_and_another_seed_another() -> None:
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    first, again = (train_fold(make_config(), dataset, split) for _ in range(2))
    assert same_weights(first.model, again.model)
    assert without_times(first.history) == without_times(again.history)
    assert not same_weights(first.model, train_fold(make_config(seed=1), dataset, split).model)
    assert not same_weights(first.model, train_fold(make_config(), dataset, split, fold=1).model)


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    whole = train_fold(make_config(), dataset, split)

    class Interrupted(Exception):
        pass

    def stop(row: dict[str, float]) -> None:
        if row["epoch"] == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_fold(make_config(), dataset, split, folder=tmp_path, on_epoch=stop)
    torch.manual_seed(12345)  # what happens in between has no say
    seen: list[float] = []
    resumed = train_fold(
        make_config(),
        dataset,
        split,
        folder=tmp_path,
        resume=True,
        on_epoch=lambda row: seen.append(row["epoch"]),
    )
    assert seen == [3, 4]
    assert same_weights(resumed.model, whole.model)
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed[1:5] == whole[1:5]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[3]["task_loss"]) == whole.history[3]["task_loss"]


def test_epoch_is_chosen_on_validation_and_test_graphs_are_used_once(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    split = cross_validation(dataset.labels, 5, 0)[0]
    looked_at: list[int] = []
    real = loop.evaluate

    def evaluate(model: torch.nn.Module, loader: Any) -> tuple[float, float]:
        looked_at.append(len(loader.graphs))
        if any(graph is test for graph in loader.graphs for test in dataset.select(split.test)):
            looked_at[-1] = -1
        return real(model, loader)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    result = train_fold(make_config(epochs=6), dataset, split)
    assert looked_at.count(-1) == 1
    assert looked_at[-1] == -1
    merit = [(row["validation_accuracy"], -row["validation_loss"]) for row in result.history]
    assert result.best_epoch == merit.index(max(merit)) + 1
    assert result.validation_accuracy == max(merit)[0]


def test_pyg_in_place_of_ours_trains_to_the_same_numbers() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    ours, theirs = (
        train_fold(make_config(pool=pool, epochs=2), dataset, split) for pool in ("hierpool", "pyg")
    )
    for a, b in zip(without_times(ours.history), without_times(theirs.history), strict=True):
        assert a == pytest.approx(b, rel=1e-3)


def test_dense_and_sparse_train_to_the_same_numbers() -> None:
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    sparse, dense = (
        train_fold(make_config(dense=dense, epochs=2), dataset, split) for dense in (False, True)
    )
    for a, b in zip(without_times(sparse.history), without_times(dense.history), strict=True):
        assert a == pytest.approx(b, rel=1e-3)
    # One set of parameters: what was trained sparse is read by the dense network, and classifies alike.
    loader = loop.make_loader(make_config(dense=True), dataset, split.test)
    accuracy, loss = loop.evaluate(sparse.model, loader)
    assert (accuracy, loss) == pytest.approx((sparse.test_accuracy, sparse.test_loss), rel=1e-4)


def arguments(tmp_path: Path, *extra: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    return parser.parse_args([*small, "--dataset=RINGS", f"--out={tmp_path / 'out'}", "--epochs=2", *extra])


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load_tu", lambda name, root: make_dataset())
    pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")


@pytest.mark.usefixtures("rings")
@pytest.mark.parametrize("folds", [0, 3])
def test_command_writes_everything(tmp_path: Path, folds: int, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    assert train.main(arguments(tmp_path, f"--folds={folds}")) == 0
    out = tmp_path / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["folds"]) == max(folds, 1)
    accuracies = [fold["test_accuracy"] for fold in metrics["folds"]]
    assert metrics["test_accuracy_mean"] == pytest.approx(sum(accuracies) / len(accuracies))
    assert (metrics["test_accuracy_std"] is None) == (folds == 0)
    assert len(list(out.rglob("checkpoint.pt"))) == len(list(out.rglob("log.csv"))) == max(folds, 1)
    for picture in ("curves.png", "clusters.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "majority class 50.0%" in printed
    assert str(out / "clusters.png") in printed


@pytest.mark.usefixtures("rings")
@pytest.mark.parametrize(
    ("option", "form"), [((), "sparse"), (("--dense",), "dense"), (("--pool=pyg",), "dense")]
)
def test_command_says_how_the_first_level_is_stored(
    tmp_path: Path,
    option: tuple[str, ...],
    form: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--pool=pyg" in option:
        pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    seen = set()
    real = loop.BatchLoader.epoch

    def epoch(self: Any, number: int) -> Iterator[Any]:
        for batch in real(self, number):
            seen.add(type(batch).__name__)
            yield batch

    monkeypatch.setattr(loop.BatchLoader, "epoch", epoch)
    train.main(arguments(tmp_path, "--no-pictures", *option))
    assert f"{form} first level" in capsys.readouterr().out
    assert seen == {"RaggedBatch" if form == "sparse" else "DenseBatch"}


@pytest.mark.usefixtures("rings")
def test_command_goes_on_only_when_told(tmp_path: Path) -> None:
    train.main(arguments(tmp_path, "--no-pictures"))
    with pytest.raises(
        CheckpointError, match="already holds checkpoints; pass --resume to go on, or --overwrite"
    ):
        train.main(arguments(tmp_path, "--no-pictures"))
    train.main(arguments(tmp_path, "--no-pictures", "--resume", "--epochs=4"))
    resumed = json.loads((tmp_path / "out" / "metrics.json").read_text())
    train.main(arguments(tmp_path, "--no-pictures", "--overwrite", "--epochs=4"))
    whole = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert resumed["folds"] == whole["folds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be positive, got -1.0"),
        ({"link_weight": -1.0}, "link_weight must not be negative, got -1.0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(**options)


def test_numbers_reach_tensorboard_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder == str(tmp_path / "tensorboard")
            assert purge_step == 3  # a resumed run takes back what came after its checkpoint

        def add_scalar(self, key: str, value: float, step: int) -> None:
            written.append((key, value, step))

        def close(self) -> None:
            written.append(("closed", 0.0, 0))

    stand_in = types.ModuleType("torch.utils.tensorboard")
    stand_in.SummaryWriter = SummaryWriter
    monkeypatch.setattr(torch.utils, "tensorboard", stand_in, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    for found in (None, object()):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        records = Records(tmp_path)
        records.add({"epoch": 3, "loss": 0.5, "link_loss": 0.25})
        records.close()
    assert written == [("loss", 0.5, 3), ("link_loss", 0.25, 3), ("closed", 0.0, 0)]


@pytest.mark.usefixtures("rings")
def test_threads_are_set_when_asked_for(tmp_path: Path) -> None:
    train.main(arguments(tmp_path, "--no-pictures", "--threads=2"))
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        train.main(arguments(tmp_path, "--threads=0"))


def test_losses_of_weight_zero_are_not_computed() -> None:
    dataset = make_dataset()
    model = training.build_model(make_config(link_weight=0.0, entropy_weight=0.0), dataset)
    assert model.pools[0].link_loss is None
    assert model.pools[0].entropy is False


def test_cross_entropy_link_loss() -> None:
    config = make_config(link_loss="bce", convention="original", entropy_weight=0.0)
    model = training.build_model(config, make_dataset())
    assert (model.pools[0].link_loss, model.pools[0].convention) == ("bce", "original")
