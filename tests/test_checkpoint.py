"""Checkpoints: refused where they belong to another run, and whole files or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.data import GraphDataset, Split, holdout
from hierpool.training import CheckpointError, TrainConfig, checkpoint, train_fold
from hierpool.training.files import write_atomic
from tests.support.running import one_thread
from tests.support.training import SMALL, make_config, make_dataset, same_weights

__all__ = ["one_thread"]


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
