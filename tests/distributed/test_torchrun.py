"""Commands under torchrun: a process that is killed, and the run that goes on from its checkpoint."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hierpool.cli.main import main
from hierpool.training.checkpoint import FILE_NAME

pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d")
TORCHRUN += ("--rdzv-endpoint=localhost:0",)
CLUSTER = ("cluster", "--synthetic=sbm", "--nodes=600", "--communities=4", "--hidden-channels=16", "--no-pictures",
           "--products=8", "--epochs=400", "--checkpoint-every=5", "--threads=1", "--timeout=60")  # fmt: skip


def worker(launcher: int, rank: int) -> int:
    """The id of the process with this rank."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return int(child)
    raise LookupError(rank)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def metrics(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return found


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="needs /proc to find a process by its rank"
)
def test_a_killed_process_is_named_and_another_number_goes_on(tmp_path: Path) -> None:
    options = (*CLUSTER, "--out", str(tmp_path / "killed"))
    command = (*TORCHRUN, "-m", "hierpool", *options)
    run = subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    wait_for(tmp_path / "killed" / FILE_NAME, run)
    os.kill(worker(run.pid, 1), signal.SIGKILL)
    killed = time.monotonic()
    printed, _ = run.communicate(timeout=120)
    assert time.monotonic() - killed < 60
    assert run.returncode != 0
    saved = tmp_path / "killed" / FILE_NAME
    sentence = f"{saved} is whole, and --resume continues from it with any number of processes"
    assert "hierpool cluster: process 1 of 2 has ended" in printed
    assert sentence in printed
    assert not (tmp_path / "killed" / "metrics.json").exists()
    assert main([*options, "--resume"]) == 0
    assert main([*CLUSTER, "--out", str(tmp_path / "whole")]) == 0
    resumed, whole = metrics(tmp_path / "killed"), metrics(tmp_path / "whole")
    for name in ("modularity", "nmi"):
        assert resumed[name] == pytest.approx(whole[name], abs=5e-3)
