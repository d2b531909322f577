"""Training: repeatable and resumable bit for bit, honest about test graphs, and whole files or none."""

from __future__ import annotations

import argparse
import csv
import errno
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool import train, training
from hierpool.data import Graph, GraphDataset, Split, cross_validation, holdout
from hierpool.training import CheckpointError, TrainConfig, checkpoint, loop, train_fold
from hierpool.training.files import write_atomic
from hierpool.training.records import Records

SMALL = {
    "hidden_channels": 4,
    "embedding_channels": 4,
    "layers": 2,
    "batch_size": 8,
    "lr": 1e-2,
    "dropout": 0.2,
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small gain nothing from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_dataset(graphs: int = 30) -> GraphDataset:
    """Rings against paths of 4 to 8 nodes, with the degree as the feature."""
    made = []
    for i in range(graphs):
        n, label = 4 + i % 5, i % 2
        forward = torch.stack([torch.arange(n), (torch.arange(n) + 1) % n])[:, : n - label]
        edges = torch.cat([forward, forward.flip(0)], 1)
        degree = torch.bincount(edges[0], minlength=n)
        made.append(Graph(torch.nn.functional.one_hot(degree, 3).float(), edges, label))
    return GraphDataset("RINGS", tuple(made), 2, "degree", "here", "0123")


def make_config(**options: Any) -> TrainConfig:
    return TrainConfig(dataset="RINGS", **(SMALL | {"epochs": 4} | options))


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


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


def saved(folder: Path) -> tuple[GraphDataset, Split, Path]:
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    train_fold(make_config(epochs=1), dataset, split, folder=folder)
    return dataset, split, folder / "checkpoint.pt"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_channels": 5}, "belongs to another run: hidden_channels 4 there, 5 here"),
        ({"dataset": "MUTAG"}, "belongs to another run: dataset 'RINGS' there, 'MUTAG' here"),
        ({"seed": 3, "pool": "pyg"}, "pool 'hierpool' there, 'pyg' here; seed 0 there, 3 here"),
        ({"dense": True}, "belongs to another run: dense False there, True here"),
    ],
)
def test_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    if change.get("pool") == "pyg":
        pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    dataset, split, file = saved(tmp_path)
    before = file.read_bytes()
    config = TrainConfig(**({"dataset": "RINGS", "epochs": 2} | SMALL | change))
    with pytest.raises(CheckpointError, match=message):
        train_fold(config, dataset, split, folder=tmp_path, resume=True)
    assert file.read_bytes() == before


def test_checkpoint_from_before_there_were_ragged_batches_is_of_a_dense_run(tmp_path: Path) -> None:
    dataset = make_dataset()
    split = holdout(dataset.labels, 0)
    config = make_config(epochs=1, dense=True)
    train_fold(config, dataset, split, folder=tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = torch.load(file, weights_only=True)
    del whole["identity"]["dense"]
    torch.save(whole, file)
    with pytest.raises(CheckpointError, match="belongs to another run: dense True there, False here"):
        train_fold(make_config(epochs=2), dataset, split, folder=tmp_path, resume=True)
    resumed = train_fold(make_config(epochs=2, dense=True), dataset, split, folder=tmp_path, resume=True)
    assert same_weights(resumed.model, train_fold(make_config(epochs=2, dense=True), dataset, split).model)


def test_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    dataset, split, _ = saved(tmp_path)
    other = GraphDataset(
        *[getattr(dataset, f) for f in ("name", "graphs", "num_classes", "features", "source")], "4"
    )
    with pytest.raises(CheckpointError, match="fingerprint '0123' there, '4' here"):
        train_fold(make_config(), other, split, folder=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    dataset, split, file = saved(tmp_path)
    content = file.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.ones(2)}, file)
    else:
        file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not a whole checkpoint"):
        train_fold(make_config(), dataset, split, folder=tmp_path, resume=True)


def test_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "c.pt", {}, {})
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1, this program reads 2"):
        checkpoint.load(tmp_path / "c.pt", {})


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_full_disk_is_a_clear_error_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    dataset, split, _ = saved(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    no_space = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(*_: Any) -> None:
        raise no_space

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        real_open = open

        class Full:
            """A file that takes one byte."""

            def __init__(self, *args: Any) -> None:
                self.file = real_open(*args)

            def __enter__(self) -> Full:
                return self

            def __exit__(self, *_: Any) -> None:
                self.file.close()

            def write(self, content: bytes) -> None:
                self.file.write(content[:1])
                self.file.flush()
                raise no_space

        monkeypatch.setattr("builtins.open", Full)
    message = (
        r"could not save .*checkpoint.pt \(\d+ bytes\): No space left on device; the file .* is unchanged"
    )
    with pytest.raises(OSError, match=message) as caught:
        train_fold(make_config(), dataset, split, folder=tmp_path, resume=True)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    resumed = train_fold(make_config(), dataset, split, folder=tmp_path, resume=True)
    assert same_weights(resumed.model, train_fold(make_config(), dataset, split).model)


def test_write_atomic_makes_folders_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.txt", b"one")
    write_atomic(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    with pytest.raises(OSError, match=r"could not save .*b.txt.c \(3 bytes\): .*; nothing was left behind"):
        write_atomic(tmp_path / "a" / "b.txt" / "c", b"two")


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
