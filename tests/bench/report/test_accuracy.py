"""docs/accuracy.md holds the finished cells of experiments, and nothing of cells that are not whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from bench import __main__ as cli
from bench.report import accuracy
from hierpool.experiments.results import ResultFile, read_rows
from tests.experiments.test_report import ONE, TWO, rows_of

pytest.importorskip("scipy", reason="scipy (extra: experiments) is not installed")
pytest.importorskip("matplotlib", reason="matplotlib (extra: experiments) is not installed")


def write_rows(folder: Path, rows: list[dict]) -> Path:
    results = ResultFile(folder)
    for row in rows:
        results.add(row)
    (folder / "protocol-fair.json").write_text('{"epochs": 3}')
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs" / "assets").mkdir(parents=True)
    (tmp_path / "results").mkdir()
    shutil.copy(accuracy.RESULTS / "published.json", tmp_path / "results")
    return tmp_path


def test_whole_cells_are_added_once(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = {"seconds_per_epoch": 0.1, "parameters": 2000, "seconds": 3.0}
    rows = rows_of("diffpool", ONE, **cost) + rows_of("diffpool", TWO[:5], seed=1) + rows_of("gin", TWO[:9])
    folder = write_rows(root / "out", rows)
    assert accuracy.command(False, folder, root, root / "results") == 0
    assert "added 10 runs" in capsys.readouterr().out
    assert read_rows(root / "results") == rows[:10]
    text = (root / accuracy.PAGE).read_text()
    assert "| DiffPool | 74.0 ± 3.0 |" in text
    assert "accuracy-parameters.svg" in text
    assert (root / "docs" / "assets" / "accuracy-parameters.svg").exists()
    assert "10 runs took 0.0 hours of processor time" in text
    assert "ten folds of DiffPool took minutes, 0 on MUTAG." in text
    assert "| GIN | - | - |" in text
    assert "MUTAG, majority class" in text  # among what was not run
    assert "| PatchySAN | - | 76.27 |" in text
    assert accuracy.command(True, None, root, root / "results") == 0
    write_rows(folder, rows_of("gin", TWO))
    assert accuracy.command(False, folder, root, root / "results") == 0
    assert "added 10 runs" in capsys.readouterr().out
    (root / accuracy.PAGE).write_text(text)
    assert accuracy.command(True, None, root, root / "results") == 1


def test_another_configuration_is_refused(root: Path) -> None:
    accuracy.add(write_rows(root / "a", rows_of("gin", ONE)), root / "results")
    with pytest.raises(ValueError, match="one configuration for each data set, got s and t"):
        accuracy.add(write_rows(root / "b", rows_of("wl", ONE, settings="t")), root / "results")
    folder = write_rows(root / "c", rows_of("wl", ONE))
    (folder / "protocol-fair.json").write_text(json.dumps({"epochs": 4}))
    with pytest.raises(ValueError, match="is another configuration than"):
        accuracy.add(folder, root / "results")


def test_the_page_holds_the_results() -> None:
    assert cli.main(["accuracy", "--check"]) == 0
