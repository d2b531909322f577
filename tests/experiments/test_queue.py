"""The queue: no run is lost or done twice, whoever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hierpool.experiments import queue, workers
from hierpool.experiments.claims import Claims, held_by
from hierpool.experiments.methods import METHODS
from hierpool.experiments.queue import Column, Run, check, make_runs, work
from hierpool.experiments.results import FAILED, NAME, NO_DATA, OK, ResultFile, Row, key_of, read_rows
from tests.experiments.toys import NAME_OF_DATA, lines_of, make_plan, write_config, write_data

FAST = ["majority", "graphsage-mean"]
ROW = {"protocol": "fair", "dataset": "TOY", "method": "majority", "fold": 0, "seed": 0, "status": OK}


# ---- the whole ------------------------------------------------------------------------------------------------------


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hierpool", "experiment", "--out", str(folder / "out")]
    command += ["--datasets", NAME_OF_DATA, "--data-root", str(folder), "--folds", "0-9", "--methods", *FAST]
    command += ["--config", str(write_config(folder)), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def await_lines(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    path = folder / "out" / NAME
    end = time.monotonic() + 60
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_queue_is_finished_by_another(tmp_path: Path) -> None:
    """Two queues work on a folder; one is killed, and its processes end with it."""
    write_data(tmp_path)
    other = start(tmp_path, "--workers", "1")
    await_lines(tmp_path, 3, other)
    before = (tmp_path / "out" / NAME).read_bytes()

    def on_row(row: Row) -> None:
        other.kill()

    plan = make_plan(tmp_path, FAST, range(10))
    work(plan, on_row)
    other.communicate()
    rows = lines_of(tmp_path)
    assert sorted(map(key_of, rows)) == sorted(run.key for run in plan.runs)
    assert {row["status"] for row in rows} == {OK}
    assert (tmp_path / "out" / NAME).read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    work(plan)
    assert lines_of(tmp_path) == rows
    assert not list((tmp_path / "out" / queue.CLAIMS).iterdir())


def test_results_do_not_depend_on_the_order_of_work(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ["diffpool", "wl"])
    work(plan)
    again = replace(plan, folder=tmp_path / "again", runs=plan.runs[::-1])
    work(again)

    def values(folder: Path) -> dict[str, Any]:
        times = {"seconds", "seconds_per_epoch", "finished"}
        return {key_of(row): {k: v for k, v in row.items() if k not in times} for row in read_rows(folder)}

    assert values(tmp_path / "again") == values(plan.folder)


# ---- the file of results --------------------------------------------------------------------------------------------


def test_a_line_that_was_not_finished_is_no_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ["majority"])
    work(plan)
    path = tmp_path / "out" / NAME
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    work(plan)
    results = ResultFile(plan.folder)
    assert len(results.update()) == 2
    assert results.broken == 1
    assert path.read_bytes().startswith(whole[:-20] + b"\n")
    assert {key_of(row) for row in read_rows(plan.folder)} == {run.key for run in plan.runs}


def test_a_success_is_never_replaced(tmp_path: Path) -> None:
    results = ResultFile(tmp_path)
    failure = ROW | {"status": FAILED, "reason": "no memory"}
    assert results.add(failure)
    assert results.add(ROW)
    assert not results.add(ROW)
    assert not results.add(failure)
    assert read_rows(tmp_path) == [ROW]
    assert ResultFile(tmp_path / "none").update() == []
    with pytest.raises(FileNotFoundError, match=r"folder must hold runs\.jsonl"):
        read_rows(tmp_path / "none")


# ---- claims ---------------------------------------------------------------------------------------------------------


def in_child(action: Callable[[], None]) -> int:
    """Run something in another process, which then dies as if killed; its number."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_a_claim_belongs_to_one(tmp_path: Path) -> None:
    with Claims(tmp_path / "c") as first, Claims(tmp_path / "c") as second:
        assert first.take("a/b")
        assert not second.take("a/b")
        assert second.take("a")
        first.release("a/b")
        assert second.take("a/b")
    assert not list((tmp_path / "c").iterdir())


def test_claims_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems that have none."""

    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    test_a_claim_belongs_to_one(tmp_path)
    test_a_claim_ends_with_its_process(tmp_path / "d")


def test_a_claim_ends_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "c"

    def claim() -> None:
        Claims(folder).take("a/b")

    folder.mkdir(parents=True)
    pids = [in_child(claim) for _ in range(2)]  # the second takes it over from the first
    assert [held_by(folder, pid) for pid in pids] == [["a/b"], ["a/b"]]
    with Claims(folder) as own:
        assert own.take("a/b")
        with Claims(folder) as other:
            assert not other.take("a/b")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("age", "taken"), [(200, False), (400, True)])
def test_claims_of_other_machines_end_when_they_are_not_touched(
    age: float, taken: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.3"
    path.write_text(json.dumps({"machine": "elsewhere", "pid": os.getpid()}))
    os.utime(path, (time.time() - age,) * 2)
    with Claims(tmp_path) as own:
        assert own.take("a") is taken
        assert (tmp_path / "a.4").exists() is taken


def test_an_owner_touches_its_claim(tmp_path: Path) -> None:
    with Claims(tmp_path, touch_s=0.01) as own:
        assert own.take("a")
        os.utime(tmp_path / "a.0", (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / "a.0").stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.01)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_failed_run_has_its_reason_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(prepared: Any, task: Any) -> Any:
        raise ValueError("x must\n  be 3")

    plan = make_plan(tmp_path, ["majority"])
    monkeypatch.setitem(METHODS, "majority", replace(METHODS["majority"], run=fails))
    work(plan)
    assert [row["reason"] for row in read_rows(plan.folder)] == ["ValueError: x must be 3"] * 2
    work(plan)
    work(make_plan(tmp_path, ["majority"], retry=True))
    assert len(lines_of(tmp_path)) == 4
    monkeypatch.undo()
    work(make_plan(tmp_path, ["majority"], retry=True))
    assert {row["status"] for row in read_rows(plan.folder)} == {OK}


def test_a_run_that_takes_too_long_has_failed(tmp_path: Path) -> None:
    work(make_plan(tmp_path, ["graphsage-mean"], range(1), time_limit=1e-6))
    (row,) = read_rows(tmp_path / "out")
    assert row["status"] == FAILED
    assert row["reason"].startswith("TimeLimitError: 1 epochs took")


def test_a_run_whose_process_is_ended_has_failed(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ["majority"])
    key = plan.runs[1].key
    (plan.folder / queue.CLAIMS).mkdir()
    pid = in_child(lambda: (Claims(plan.folder / queue.CLAIMS).take(key), None)[1])
    dead: Any = SimpleNamespace(pid=pid, exitcode=-signal.SIGKILL)
    assert workers._was_killed(plan, dead, ResultFile(plan.folder))
    work(plan)
    assert {key_of(row): row["status"] for row in read_rows(plan.folder)} == {
        plan.runs[0].key: OK,
        key: FAILED,
    }
    assert "signal 9" in next(row["reason"] for row in read_rows(plan.folder) if row["status"] == FAILED)
    dead.exitcode = 1
    with pytest.raises(RuntimeError, match="ended with status 1"):
        workers._was_killed(plan, dead, ResultFile(plan.folder))


def test_data_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "DATASETS", (NAME_OF_DATA, "REDDIT-MULTI-12K"))
    write_data(tmp_path)
    plan = make_plan(tmp_path, ["majority"])
    runs = make_runs(plan.protocol, ["REDDIT-MULTI-12K", NAME_OF_DATA], ["majority"], [0], [0])
    checked, columns = check(replace(plan, runs=runs))
    assert [bool(column.reason) for column in columns] == [True, False]
    assert "not available here" in str(columns[0])
    work(checked)
    rows = read_rows(plan.folder)
    assert [(row["method"], row["status"]) for row in rows] == [("*", NO_DATA), ("majority", OK)]
    assert "REDDIT-MULTI-12K" in rows[0]["reason"]
    check(replace(plan, runs=runs))
    assert len(lines_of(tmp_path)) == 2
    with pytest.raises(ValueError, match="datasets must hold one that can be had; REDDIT-MULTI-12K: not"):
        check(replace(plan, runs=runs[:1]))
    source = tmp_path / "tu" / NAME_OF_DATA / "raw"  # now the data come
    target = tmp_path / "tu" / "REDDIT-MULTI-12K" / "raw"
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name.replace(NAME_OF_DATA, "REDDIT-MULTI-12K")).write_bytes(file.read_bytes())
    checked, _ = check(replace(plan, runs=runs))
    work(checked)
    assert [row["status"] for row in read_rows(plan.folder)] == [NO_DATA, OK, OK]


def test_what_does_not_belong_to_the_folder(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, ["majority"])
    work(plan)
    with pytest.raises(ValueError, match="another configuration"):
        check(replace(plan, protocol=replace(plan.protocol, epochs=9)))
    with pytest.raises(ValueError, match="folds of TOY must be from 0 to 9, got 12"):
        check(replace(plan, runs=(Run("fair", "TOY", "majority", 12, 0),)))
    with pytest.raises(ValueError, match="TOYS"):
        check(replace(plan, runs=(Run("fair", "TOYS", "majority", 0, 0),)))
    parts = [list(range(i, 40, 2)) for i in range(2)]
    splits = tmp_path / "TOY_splits.json"
    splits.write_text(json.dumps([
        {"test": parts[i], "model_selection": [{"train": parts[1 - i][1:], "validation": parts[1 - i][:1]}]}
        for i in range(2)
    ]))  # fmt: skip
    for path in (splits, tmp_path):
        with pytest.raises(ValueError, match="holds runs on TOY with other folds"):
            check(replace(plan, splits=path))
    write_labels = tmp_path / "tu" / "TOY" / "raw" / "TOY_node_labels.txt"
    write_labels.write_text(write_labels.read_text().replace("1", "2"))
    queue.load.cache_clear()
    with pytest.raises(ValueError, match="holds runs on TOY with other files of the data set"):
        check(plan)


# ---- what is left ---------------------------------------------------------------------------------------------------


def test_methods_without_chance_have_one_seed(tmp_path: Path) -> None:
    how = make_plan(tmp_path, ["majority"]).protocol
    runs = make_runs(how, ["TOY"], ["wl", "diffpool"], [3], [1, 2])
    assert [run.key for run in runs] == ["fair/TOY/wl/3/0", "fair/TOY/diffpool/3/1", "fair/TOY/diffpool/3/2"]


def test_the_estimate() -> None:
    estimate = workers.Estimate([Column("A", 10, 100), Column("B", 10, 200), Column("C", reason="no data")])
    runs = {name: Run("fair", name[0], name[1:], 0, 0) for name in ("Ax", "Bx", "Ay", "By")}
    assert estimate.left([runs["Ax"]], 1) is None
    assert estimate.left([], 1) == 0
    for seconds in (1.0, 3.0):
        estimate.add(ROW | {"dataset": "A", "method": "x", "seconds": seconds})
    assert estimate.seconds(runs["Ax"]) == 2
    assert estimate.seconds(runs["Bx"]) == pytest.approx(4)  # in proportion to the nodes
    assert estimate.seconds(runs["By"]) == pytest.approx(4)  # of another method
    estimate.add(ROW | {"dataset": "B", "method": "x", "seconds": 10.0})
    estimate.add(ROW | {"dataset": "B", "method": "x", "seconds": 99.0, "status": FAILED})
    assert estimate.seconds(runs["Bx"]) == 10
    assert estimate.seconds(runs["By"]) == pytest.approx(200 * (0.02 + 0.05) / 2)
    assert estimate.left([runs["Ax"], runs["Bx"]], 2) == pytest.approx(6)


def test_the_progress_is_of_the_own_runs(tmp_path: Path) -> None:
    """Another command does other runs in the same folder."""
    plan = make_plan(tmp_path, ["majority"], range(2))
    results, estimate = ResultFile(plan.folder), workers.Estimate([Column(NAME_OF_DATA, 40, 260)])
    for fold in (5, 0, 7, 1):
        ResultFile(plan.folder).add(ROW | {"fold": fold, "test_accuracy": 0.5, "seconds": 1.0 + fold})
    assert workers.news(plan, results, estimate, 1) == [
        "[1/2] majority on TOY, fold 0, seed 0: 50.0% in 1 s; about 0 s left for 1 run",
        "[2/2] majority on TOY, fold 1, seed 0: 50.0% in 2 s",
    ]
    assert workers.news(plan, results, estimate, 1) == []
    assert estimate.seconds(plan.runs[0]) == 1 + (5 + 0 + 7 + 1) / 4


def test_the_progress() -> None:
    assert [workers.duration(s) for s in (3, 300, 7500)] == ["3 s", "5 min", "2 h 05 min"]
    row = ROW | {"test_accuracy": 0.75, "seconds": 3.0}
    text = "[1/9] majority on TOY, fold 0, seed 0: 75.0% in 3 s; about 5 min left for 8 runs"
    assert workers.sentence(row, 1, 9, 300.0, 8) == text
    failed = ROW | {"status": FAILED, "reason": "no memory", "seconds": 3.0}
    assert workers.sentence(failed, 9, 9, 0.0, 0).endswith("seed 0: no memory in 3 s")
    curve = ROW | {"validation_curve": [0.5, 0.75, 0.6], "seconds": 3.0}
    assert workers.sentence(curve, 9, 9, None, 3).endswith("75.0% at best in 3 s")
