"""The demonstration: both operators see the same batches, and the report says what was measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hierpool import demo
from hierpool.data import load_tu
from hierpool.training import build_model

pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
pytest.importorskip("grakel", reason="grakel (extra: train) is not installed")


@pytest.fixture(autouse=True)
def quiet_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("HIERPOOL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HIERPOOL_DATA", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_runs_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    out = tmp_path / "out"
    assert demo.main(parser.parse_args([f"--out={out}", "--folds=3", "--epochs=2"])) == 0
    printed = capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    for pool in ("hierpool", "pyg"):
        assert metrics[pool]["config"]["pool"] == pool
        assert f"{metrics[pool]['test_accuracy_mean']:.1%} +- " in printed
    assert "66.5%" in printed
    assert f"{metrics['pooling_operator']['ratio']:.1f} times" in printed
    for picture in ("clusters.png", "curves.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert str(out / picture) in printed


def test_operators_are_timed_on_equal_inputs() -> None:
    dataset = load_tu("MUTAG")
    torch.manual_seed(0)
    model = build_model(demo.CONFIG, dataset)
    split = demo.make_splits(demo.CONFIG, dataset)[0]
    ours, theirs = demo.pooling_inputs(model, dataset, split, 64)
    assert sum(len(inputs[0]) for inputs in ours) == len(split.train)
    times = demo.time_pooling(ours, theirs, rounds=2)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[0].data_ptr() != other[0].data_ptr()
        torch.testing.assert_close(mine[0].grad, other[0].grad)
        torch.testing.assert_close(mine[2].grad, other[2].grad)
    assert times.low <= times.ratio <= times.high
