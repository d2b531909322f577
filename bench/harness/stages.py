"""Stages before the workloads of a GPU, each in a process of its own: the tests on the device, compute-sanitizer."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import sanitize
from bench.harness.machine import ROOT


@dataclass(frozen=True)
class Stage:
    """A command with a limit of seconds; ``lacks()`` says why it is not run, if it is not."""

    name: str
    title: str
    command: tuple[str, ...]
    limit_s: float
    lacks: Callable[[], str | None]


def _no_pytest() -> str | None:
    return None if importlib.util.find_spec("pytest") else "pytest is not installed"


STAGES = (
    Stage(
        "tests", "Tests on the device", (sys.executable, "-m", "pytest", "tests/gpu", "-q", "-p", "no:cacheprovider"),
        260.0, _no_pytest,
    ),
    Stage("sanitizer", "compute-sanitizer", (sys.executable, "-m", "bench.sanitize"), 60.0, sanitize.lacks),
)  # fmt: skip


def environment() -> dict[str, str]:
    """The variables of this process, with the sources of this checkout found first."""
    paths = [str(ROOT / "python"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run(stage: Stage, log: Path, limit_s: float) -> dict:
    """The row of a stage, whose output goes to ``log``; at most ``limit_s`` seconds, nor more than its own limit."""
    head = {"workload": stage.name, "title": stage.title, "kind": "stage"}
    reason = stage.lacks()
    if reason is not None:
        return {"status": "not measured", **head, "reason": reason}
    limit_s = min(limit_s, stage.limit_s)
    start = time.monotonic()
    status = finished(stage.command, log, limit_s)
    seconds = round(time.monotonic() - start, 1)
    lines = log.read_text().strip().splitlines()
    last = lines[-1].strip("= ") if lines else "no output"
    if status == 0:
        return {
            "status": "measured", **head, "quantity": "seconds", "value": seconds, "unit": "s", "outcome": last,
        }  # fmt: skip
    what = f"exit status {status}: {last}" if status is not None else f"not finished after {limit_s:.0f} s"
    return {"status": "failed", **head, "reason": f"{what}; see {log.name}"}


def finished(command: tuple[str, ...], log: Path, limit_s: float) -> int | None:
    """The exit status of a command, or None if it and all that it started had to be ended."""
    with log.open("w") as out:
        child = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return child.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            return None
