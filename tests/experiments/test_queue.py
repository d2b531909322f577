"""The queue: no run is lost or done twice, whoever is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hierpool.experiments import queue, workers
from hierpool.experiments.claims import Claims
from hierpool.experiments.queue import Plan, Run
from hierpool.experiments.results import NAME, ResultFile, key_of
from tests.experiments.toys import NAME_OF_DATA, lines_of, make_plan, write_config, write_data

ROOT = Path(__file__).parents[2]
FAST = ["majority", "graphsage-mean", "diffpool"]


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


def pids_of_workers(folder: Path) -> set[int]:
    found = set()
    for path in (folder / "out" / queue.CLAIMS).glob("TOY*"):
        try:
            found.add(json.loads(path.read_text())["pid"])
        except FileNotFoundError:
            continue
    return found


def test_a_killed_queue_is_finished_by_another(tmp_path: Path) -> None:
    """Of two queues that work on a folder, one is killed; its processes end with it, and nothing is done twice."""
    write_data(tmp_path)
    first, second = start(tmp_path, "--workers", "1"), start(tmp_path, "--workers", "1")
    await_lines(tmp_path, 3, first)
    before = (tmp_path / "out" / NAME).read_bytes()
    first.kill()
    first.communicate()
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    rows = lines_of(tmp_path)
    assert sorted(map(key_of, rows)) == sorted({key_of(row) for row in rows})
    assert len(rows) == 10 * len(FAST)
    assert all(row["status"] == "ok" for row in rows)
    assert (tmp_path / "out" / NAME).read_bytes().startswith(before[: before.rfind(b"\n") + 1])
    assert "[30/30]" in output
    assert not list((tmp_path / "out" / queue.CLAIMS).iterdir())
