"""The progress bar of a training run."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hierpool.cli import progress

pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: self.now))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def train(clock: Clock, *, epochs: int, steps: int, seconds: float, first: int = 1) -> None:
    """Pretend to train, with ``seconds`` for each step, after a set-up of 5 seconds."""
    with progress.EpochBar(epochs, "ENZYMES") as bar:
        clock.now += 5.0
        for epoch in range(first, epochs + 1):
            for done in range(1, steps + 1):
                clock.now += seconds
                bar.step(epoch, done, steps)
            bar.epoch(epoch, f"loss {epoch}")
        bar.finish("done")


def test_steps_are_counted_after_two_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(clock, epochs=3, steps=4, seconds=1.2)
    lines = capsys.readouterr().err.split("\r")
    first_epoch = [line for line in lines if "step" in line and "loss" not in line]
    assert len(first_epoch) == 1
    assert "0.75/3" in first_epoch[0]
    assert "step 3/4" in first_epoch[0]
    # The next epochs are known to be slow.
    assert any("1.25/3" in line and "step 1/4, loss 1" in line for line in lines)
    assert not any("step 4/4" in line for line in lines)
    assert "3/3" in lines[-1]
    assert lines[-1].rstrip().endswith("done]")
    assert "".join(lines).count("\n") == 1


def test_fast_epochs_show_no_steps(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(clock, epochs=3, steps=4, seconds=0.45)
    printed = capsys.readouterr().err
    assert "step" not in printed
    assert "2/3" in printed


def test_a_file_gets_few_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    train(clock, epochs=2, steps=100, seconds=1.0)
    lines = capsys.readouterr().err.split("\r")
    assert sum("step" in line for line in lines) == 6
    assert lines[-1].rstrip().endswith("done]")


def test_the_estimate_of_a_resumed_run_counts_its_own_epochs(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tqdm = pytest.importorskip("tqdm").tqdm
    bars = []

    def make(**options: object) -> object:
        bars.append(tqdm(**options))
        return bars[-1]

    monkeypatch.setattr(progress, "require", lambda *_: SimpleNamespace(tqdm=make))
    train(clock, epochs=10, steps=2, seconds=5.0, first=9)
    assert bars[0].initial == 8
    assert bars[0].n == 10
