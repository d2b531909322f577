"""Checkpoints: those of other runs are refused, and files are written atomically."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.data import holdout
from hierpool.training import CheckpointError, FoldResult, checkpoint, train_fold
from hierpool.training.files import write_atomic
from tests.support.training import make_config, make_dataset, same_weights

DATASET = make_dataset()
SPLIT = holdout(DATASET.labels, 0)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train_fold(make_config(epochs=1), DATASET, SPLIT, folder=folder)
    return folder


@pytest.fixture
def file(one_epoch: Path, tmp_path: Path) -> Path:
    """The checkpoint of a run of one epoch, in a folder of its own."""
    shutil.copytree(one_epoch, tmp_path, dirs_exist_ok=True)
    return tmp_path / "checkpoint.pt"


def resume(file: Path, **options: Any) -> FoldResult:
    return train_fold(make_config(**options), DATASET, SPLIT, folder=file.parent, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"hidden_channels": 5},
            "belongs to another run: hidden_channels is 4 in the checkpoint and 5 in this run",
        ),
        ({"dataset": "MUTAG"}, "another run: dataset is 'RINGS' in the checkpoint and 'MUTAG' in this run"),
        (
            {"seed": 3, "pool": "pyg"},
            "pool is 'hierpool' in .*; seed is 0 in the checkpoint and 3 in this run",
        ),
        ({"dense": True}, "belongs to another run: dense is False in the checkpoint and True in this run"),
    ],
)
def test_checkpoint_of_another_run_is_refused(file: Path, change: dict[str, Any], message: str) -> None:
    if change.get("pool") == "pyg":
        pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        resume(file, **change)
    assert file.read_bytes() == before


def test_checkpoint_of_other_data_is_refused(file: Path) -> None:
    other = replace(DATASET, fingerprint="4")
    with pytest.raises(CheckpointError, match="fingerprint is '0123' in the checkpoint and '4' in this run"):
        train_fold(make_config(), other, SPLIT, folder=file.parent, resume=True)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other"])
def test_damaged_checkpoint_is_refused(file: Path, damage: str) -> None:
    content = file.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.ones(2)}, file)
    else:
        file.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not a complete checkpoint"):
        resume(file)


def test_a_changed_weight_is_noticed(file: Path) -> None:
    state = checkpoint.load(file, torch.load(file, weights_only=True)["identity"])
    weight = next(value for value in state["model"].values() if value.numel() > 8)
    content = bytearray(file.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 5] ^= 1
    file.write_bytes(content)
    assert torch.load(file, weights_only=True)  # torch takes it
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt is not a complete checkpoint.* is damaged"):
        resume(file)


@pytest.mark.parametrize("change", [{}, {"model": {}}, {"optimizer": 3}, {"rng": None}])
def test_a_checkpoint_without_the_state_of_the_run_is_refused(file: Path, change: dict[str, Any]) -> None:
    identity, state = (torch.load(file, weights_only=True)[key] for key in ("identity", "state"))
    checkpoint.save(file, identity, state | change if change else {})
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt does not hold the state of this run"):
        resume(file)


def test_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "c.pt", {}, {})
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(CheckpointError, match="format 1, but this program reads format 2"):
        checkpoint.load(tmp_path / "c.pt", {})


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_full_disk_is_a_clear_error_and_leaves_what_was_there(
    file: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = {path: path.read_bytes() for path in file.parent.iterdir()}
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
    message = r"could not save .*checkpoint.pt \(\d+ bytes\): No space left on device; the existing file is unchanged"
    with pytest.raises(OSError, match=message) as caught:
        resume(file, epochs=2)
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert {path: path.read_bytes() for path in file.parent.iterdir()} == before
    whole = train_fold(make_config(epochs=2), DATASET, SPLIT)
    assert same_weights(resume(file, epochs=2).model, whole.model)


def test_write_atomic_makes_folders_and_leaves_no_temporary(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "b.txt", b"one")
    write_atomic(tmp_path / "a" / "b.txt", b"two")
    assert (tmp_path / "a" / "b.txt").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]
    with pytest.raises(OSError, match=r"could not save .*b.txt.c \(3 bytes\): .*; no file was left behind"):
        write_atomic(tmp_path / "a" / "b.txt" / "c", b"two")
