"""The command `train`: files, messages, resume, and threads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.cli import options, train
from hierpool.cli.main import main
from hierpool.training import loop
from tests.support.training import SMALL, make_dataset

pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load_tu", lambda name, root: make_dataset())


def run(out: Path, *options: str, pictures: bool = False, expect: int = 0) -> dict[str, Any]:
    """The metrics of a run, or nothing if an error is expected."""
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    pictures_option = () if pictures else ("--no-pictures",)
    assert main(["train", *small, f"--out={out}", "--epochs=2", *pictures_option, *options]) == expect
    return {} if expect else json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("folds", [0, 3])
def test_everything_is_written(tmp_path: Path, folds: int, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    metrics = run(tmp_path, f"--folds={folds}", pictures=folds > 0)
    assert len(metrics["folds"]) == max(folds, 1)
    accuracies = [fold["test_accuracy"] for fold in metrics["folds"]]
    assert metrics["test_accuracy_mean"] == pytest.approx(sum(accuracies) / len(accuracies))
    assert (metrics["test_accuracy_std"] is None) == (folds == 0)
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == len(list(tmp_path.rglob("log.csv"))) == max(folds, 1)
    printed = capsys.readouterr().out
    assert "majority class 50.0%" in printed
    pictures = {path.name: path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert sorted(pictures) == (["clusters.png", "curves.png"] if folds else [])
    for name, content in pictures.items():
        assert content.startswith(b"\x89PNG")
        assert str(tmp_path / name) in printed


@pytest.mark.parametrize(
    ("option", "form"), [((), "sparse"), (("--dense",), "dense"), (("--pool=pyg",), "dense")]
)
def test_the_form_of_the_first_level_is_printed_and_used(
    tmp_path: Path,
    option: tuple[str, ...],
    form: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "--pool=pyg" in option:
        pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    batch_types = set()
    real = loop.BatchLoader.collated

    def collated(self: Any, batch: Any) -> Any:
        made = real(self, batch)
        batch_types.add(type(made).__name__)
        return made

    monkeypatch.setattr(loop.BatchLoader, "collated", collated)
    run(tmp_path, *option)
    assert f"{form} first level" in capsys.readouterr().out
    assert batch_types == {"RaggedBatch" if form == "sparse" else "DenseBatch"}


def test_the_backend_is_printed_or_says_why_it_cannot_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "--backend=reference", "--epochs=1")
    assert (
        "hierpool's operator (reference backend, sparse first level; clusters: 0.25 of the nodes of each graph)"
        in capsys.readouterr().out
    )
    if torch.cuda.is_available():
        return
    run(tmp_path / "triton", "--backend=triton", expect=2)
    assert "hierpool train: backend 'triton' cannot run" in capsys.readouterr().err
    assert not (tmp_path / "triton").exists()


def test_two_runs_do_not_share_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "out"
    with options.alone_in(out):
        run(out, expect=2)
        message = "hierpool train: out must be a folder that no other run writes into, but one is at work in"
        assert f"{message} {out}" in capsys.readouterr().err
        run(tmp_path, "--epochs=1")  # one beside it
    assert not (tmp_path / "new").exists()  # nothing was written
    run(out, "--epochs=1")


def test_a_run_is_continued_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path)
    run(tmp_path, expect=2)
    assert "already holds checkpoints; pass --resume to continue, or --overwrite" in capsys.readouterr().err
    resumed = run(tmp_path, "--resume", "--epochs=4")
    assert resumed["folds"] == run(tmp_path, "--overwrite", "--epochs=4")["folds"]
    with pytest.raises(SystemExit):
        run(tmp_path, "--overwrite", "--resume")
    assert "argument --resume: not allowed with argument --overwrite" in capsys.readouterr().err


def test_what_an_earlier_run_wrote_is_removed_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fold-00").mkdir()
    for name in ("notes.txt", "fold-00/notes.txt", "report.html", "pooled.png", "assignments.csv"):
        (tmp_path / name).write_text("kept unless a run writes files of this name")
    run(tmp_path, "--folds=3", "--epochs=1", "--overwrite")
    monkeypatch.setattr(loop, "train_epoch", interrupt)
    run(tmp_path, "--folds=3", "--epochs=1", "--overwrite", "--memory-limit=0.01", expect=2)
    assert (tmp_path / "fold-02" / "checkpoint.pt").exists()  # of the options, nothing is right yet
    run(tmp_path, "--folds=3", "--epochs=1", "--overwrite", expect=130)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"notes.txt", "fold-00/notes.txt"}
    assert capsys.readouterr().err.endswith("interrupted; there is no checkpoint yet\n")


def interrupt(*args: Any, **options: Any) -> None:
    raise KeyboardInterrupt


def test_threads_are_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--threads=2", "--epochs=1")
    assert torch.get_num_threads() == 2
    run(tmp_path, "--threads=0", expect=2)
    assert "threads must be at least 1, got 0" in capsys.readouterr().err
    run(tmp_path, "--threads=100000", expect=2)
    assert "threads must be at most 1024, got 100000" in capsys.readouterr().err


def test_the_memory_is_printed_measured_and_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = run(tmp_path, "--epochs=1", "--memory-limit=1000")
    printed = capsys.readouterr().out
    assert f"memory: about {metrics['estimated_memory_gib']:.2f} GiB (" in printed
    assert " on 8 graphs of at most 8 nodes, " in printed
    assert "at the peak, limit 1000 GiB\n" in printed
    assert metrics["peak_memory_gib"] > 0.1
    run(tmp_path / "small", "--memory-limit=0.25", expect=2)
    message = capsys.readouterr().err
    assert "hierpool train: memory-limit is 0.25 GiB, but training takes about" in message
    assert not (tmp_path / "small").exists()
    run(tmp_path / "small", "--memory-limit=0", expect=2)
    assert "memory-limit must be positive, got 0.0" in capsys.readouterr().err


def test_options_of_batches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limited = ("--batches=by-size", "--max-nodes-per-batch=20", "--max-pairs-per-batch=100")
    assert run(tmp_path, "--epochs=1", *limited)["config"]["batches"] == "by-size"
    assert " on 8 graphs" not in capsys.readouterr().out
    run(tmp_path, "--resume", expect=2)
    assert "batches is 'by-size' in the checkpoint and 'random' in this run" in capsys.readouterr().err
    run(tmp_path, "--max-nodes-per-batch=-1", expect=2)
    assert "max_nodes_per_batch must be at least 0, got -1" in capsys.readouterr().err


def test_the_dtype_is_a_part_of_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--dtype=bfloat16", "--epochs=1")["config"]["dtype"] == "bfloat16"
    assert "sparse first level, bfloat16; clusters" in capsys.readouterr().out
    run(tmp_path, "--resume", expect=2)
    assert "dtype is 'bfloat16' in the checkpoint and 'float32' in this run" in capsys.readouterr().err
    run(tmp_path, "--resume", "--dtype=bfloat16", "--epochs=2")


@pytest.mark.parametrize(
    ("pooler", "text"),
    [
        ("topk", "pooling with TopKPool (auto backend, sparse at all levels)"),
        ("mincut", "pooling with MinCutPool ("),
    ],
)
def test_the_pooler_is_chosen(
    tmp_path: Path, pooler: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    run(tmp_path, f"--pooler={pooler}", "--embedding-channels=64", pictures=True)
    printed = capsys.readouterr().out
    assert text in printed
    assert {path.name for path in tmp_path.glob("*.png")} == {"clusters.png", "curves.png"}
    assert "pool_loss" in (tmp_path / "log.csv").read_text()
