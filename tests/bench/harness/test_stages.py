"""The stages before the workloads of a GPU, and the work under compute-sanitizer."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from bench import __main__ as cli
from bench import sanitize
from bench.harness import run, stages
from bench.harness.workload import CPU
from bench.ops import WORKLOADS
from bench.report import tables
from tests.bench.toys import execute, plan_of

ROOT = Path(__file__).resolve().parents[3]


def stage(*code: str, limit_s: float = 60.0, lacks=lambda: None) -> stages.Stage:
    return stages.Stage("s", "Stage", (sys.executable, "-S", "-c", "\n".join(code)), limit_s, lacks)


def test_stages_say_how_they_ended(tmp_path):
    log = tmp_path / "log.txt"
    row = stages.run(stage("print('a'); print('=== 3 passed ===')"), log, 60.0)
    assert (row["status"], row["outcome"], row["quantity"]) == ("measured", "3 passed", "seconds")
    assert log.read_text() == "a\n=== 3 passed ===\n"
    row = stages.run(stage("print('1 failed')", "raise SystemExit(3)"), log, 60.0)
    assert (row["status"], row["reason"]) == ("failed", "exit status 3: 1 failed; see log.txt")
    row = stages.run(stage(lacks=lambda: "a tool is missing"), log, 60.0)
    assert (row["status"], row["reason"]) == ("not measured", "a tool is missing")


def test_a_stage_that_is_ended_leaves_nothing_running(tmp_path):
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys, pathlib",
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])",
        f"pathlib.Path({str(pid)!r}).write_text(str(child.pid))",
        "child.wait()",
    )
    row = stages.run(stage(*code), tmp_path / "log.txt", 3.0)
    assert (row["status"], row["reason"]) == ("failed", "not finished after 3 s; see log.txt")
    # Killed it is at once, gone when the kernel gets to it.
    state, deadline = Path("/proc", pid.read_text(), "status"), time.monotonic() + 30
    while runs(state) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs(state)


def runs(status: Path) -> bool:
    """Whether a process is there, by its file below /proc."""
    try:
        return "zombie" not in status.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_failed_stage_fails_the_run(tmp_path):
    made = (stage("print('fine')"), stage("raise SystemExit(1)"), stage(lacks=lambda: "not here"))
    workloads = [WORKLOADS["dense-tf32"]]
    plan = plan_of(workloads, [], stages=made, total_s=600.0, seconds=1e-9)  # no time for the workload
    found, failed, _ = execute(plan, tmp_path)
    assert failed == 1
    assert [row["status"] for row in found.rows[:3]] == ["measured", "failed", "not measured"]
    assert tables.terminal(found).splitlines()[2].startswith("Stage: fine, ")


def test_the_stages_are_the_tests_and_the_sanitizer(monkeypatch):
    tests, sanitizer = stages.STAGES
    assert "tests/gpu" in tests.command
    assert (ROOT / "tests" / "gpu").is_dir()
    assert sanitizer.command[1:] == ("-m", "bench.sanitize")
    assert tests.limit_s + sanitizer.limit_s + run.LEAST_S <= cli.TOTAL_S
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: None)
    assert sanitizer.lacks() == "compute-sanitizer is not on the PATH"


def test_the_sanitized_work_runs(monkeypatch, capsys):
    sanitize.once(CPU, "reference")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sanitize.main([]) == 2
    assert "a CUDA device is needed" in capsys.readouterr().err
