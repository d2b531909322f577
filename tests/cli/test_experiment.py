"""The command `experiment`: runs in processes, its report, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hierpool.cli.experiment import parse_numbers
from hierpool.cli.main import main
from hierpool.experiments.queue import work
from hierpool.experiments.results import read_rows
from tests.experiments.toys import make_plan, write_config, write_data

pytest.importorskip("scipy", reason="scipy (extra: experiments) is not installed")
pytest.importorskip("matplotlib", reason="matplotlib (extra: experiments) is not installed")


def arguments(folder: Path, *more: str) -> list[str]:
    options = {
        "--out": folder / "out",
        "--datasets": "TOY",
        "--data-root": folder,
        "--config": folder / "config.json",
    }
    return ["experiment", *(str(word) for pair in options.items() for word in pair), *more]


def test_run_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path)
    write_config(tmp_path)
    assert (
        main(arguments(tmp_path, "--methods", "majority,diffpool", "--seeds", "0", "1", "--workers", "1"))
        == 0
    )
    output = capsys.readouterr().out
    assert "TOY: 40 graphs, 260 nodes, 10 folds, our own" in output
    assert "0 of 30 runs are finished" in output
    assert "[30/30]" in output
    assert len(read_rows(tmp_path / "out")) == 30
    assert json.loads((tmp_path / "out" / "protocol-fair.json").read_text())["epochs"] == 4
    work(make_plan(tmp_path, ["diffpool", "wl"], range(10), "paper"))
    assert main(["experiment", "report", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "(2 seeds)" in output
    assert output.count("| DiffPool |") == 4  # accuracies and times of both protocols
    assert "optimistic" in output
    assert (tmp_path / "out" / "parameters.svg").exists()
    assert (tmp_path / "out" / "report.md").read_text().strip() in output


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "patchysan"], "methods must be from majority, "),
        (["--folds", "0-x"], "folds must be numbers and ranges such as 0-2,5, got '0-x'"),
        (["--seeds", "2-1"], "seeds must be numbers and ranges"),
        (["--folds", "10"], "folds of TOY must be from 0 to 9, got 10"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--time-limit", "0"], "time-limit must be positive"),
        (["--splits", "none.json"], "splits must be a file or a folder, but none.json does not exist"),
        (["--splits", __file__, "--datasets", "TOY,MUTAG"], "splits must be a folder with NAME_splits.json"),
        (["--splits", __file__], "must be a JSON list of folds"),
        (["--datasets", "TOYS"], "TOYS"),
        (["--config", __file__], "must be a JSON object"),
        (["--protocol", "paper", "--methods", "wl"], "methods must be from diffpool, "),
        (["report"], "report must be followed by one folder, got 'report'"),
        (["table", "x"], "report must be followed by one folder, got 'table x'"),
        (["report", "none"], "folder must hold runs.jsonl"),
    ],
)
def test_errors(more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path)
    write_config(tmp_path)
    assert main(arguments(tmp_path, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_is_needed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["experiment"]) == 2
    assert "out must be the folder of the results" in capsys.readouterr().err
    (tmp_path / "runs.jsonl").touch()
    assert main(["experiment", "report", str(tmp_path)]) == 2
    assert "folder must hold finished runs" in capsys.readouterr().err


def test_numbers() -> None:
    assert parse_numbers("folds", "0-2,5, 7,1") == [0, 1, 2, 5, 7]
    assert parse_numbers("seeds", "12345678") == [12345678]
    for text in ("99999999999999999999", "0-100000000", "2-1", "-1", "1.5"):
        with pytest.raises(ValueError, match=f"seeds must be numbers and ranges such as 0-2,5, got '{text}'"):
            parse_numbers("seeds", text)


def test_runs_that_failed_are_an_error_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_data(tmp_path)
    write_config(tmp_path)
    more = ["--methods", "majority", "diffpool", "--folds", "0", "--workers", "1", "--time-limit", "1e-9"]
    assert main(arguments(tmp_path, *more)) == 2
    answer = capsys.readouterr()
    assert "[2/2]" in answer.out
    assert "hierpool experiment: 1 of 2 runs failed, the first with " in answer.err
    assert answer.err.endswith("; --retry repeats them\n")
    assert main(arguments(tmp_path, "--methods", "majority", "--folds", "0", "--workers", "1")) == 0
