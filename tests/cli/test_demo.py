"""The demonstration: both operators get the same batches, and the report has what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from hierpool.cli import demo
from hierpool.cli.main import main
from hierpool.data import load_tu
from hierpool.training import build_model, make_splits

pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
pytest.importorskip("grakel", reason="grakel (extra: train) is not installed")


@pytest.fixture(scope="module", autouse=True)
def embedded_mutag(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIERPOOL_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("HIERPOOL_DATA", raising=False)
        yield


def test_runs_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
    for name in ("time_epochs", "time_pooling"):
        monkeypatch.setattr(demo, name, partial(getattr(demo, name), rounds=2))
    assert main(["demo", f"--out={tmp_path}", "--folds=3", "--epochs=1"]) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for pool in ("hierpool", "pyg"):
        assert metrics[pool]["config"]["pool"] == pool
        assert f"{metrics[pool]['test_accuracy_mean']:.1%} +- " in printed
    assert "66.5%" in printed
    assert f"{metrics['pooling_operator']['ratio']:.1f} times" in printed
    for picture in ("clusters.png", "curves.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
        assert str(tmp_path / picture) in printed


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "load_tu", lambda *args: pytest.fail("the dataset was read first"))
    (tmp_path / "file").touch()
    assert main(["demo", f"--out={tmp_path / 'file'}"]) == 2
    assert f"out must be a folder that can be written to, but {tmp_path / 'file'} is none" in (
        capsys.readouterr().err
    )


def test_operators_are_timed_on_equal_inputs() -> None:
    dataset = load_tu("MUTAG")
    torch.manual_seed(0)
    split = make_splits(demo.CONFIG, dataset)[0]
    ours, theirs = demo.pooling_inputs(build_model(demo.CONFIG, dataset), dataset, split, 64)
    assert sum(len(inputs[0]) for inputs in ours) == len(split.train)
    times = demo.time_pooling(ours, theirs, rounds=2)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[0].data_ptr() != other[0].data_ptr()
        torch.testing.assert_close(mine[0].grad, other[0].grad)
        torch.testing.assert_close(mine[2].grad, other[2].grad)
    assert times.low <= times.ratio <= times.high
