"""The GPU part of the benchmark from outside: result folders, report, command line, and the stages before it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # bench is run from the repository root, not installed

from bench import __main__ as cli  # noqa: E402
from bench import bytes as model  # noqa: E402
from bench import report, results, sanitize  # noqa: E402
from bench.gpu import command, stages  # noqa: E402
from bench.gpu import device as gpu_device  # noqa: E402
from bench.gpu import report as gpu_report  # noqa: E402
from bench.gpu.run import Plan  # noqa: E402
from bench.gpu.workloads import WORKLOADS  # noqa: E402

CPU = torch.device("cpu")

# ---- results and reports --------------------------------------------------------------------------------------------


@pytest.fixture
def gpu_folder(tmp_path):
    """A finished run on a made-up device."""
    metadata = {
        "date_utc": "2026-01-02T03:04:05+00:00", "commit": "0123456789abcdef", "dirty": False, "quick": False,
        "device": "cuda", "device_name": "Some GPU", "cpu_model": "Some CPU", "driver": "1.2",
        "packages": {"torch": "2.11.0", "triton": "3.6.0"},
        "rates": {"copy_gbps": 4000.0, "gemm_gflops": {"half": 7e5}, "launch_us": 2.5, "l2_bytes": 1, "processors": 1},
    }  # fmt: skip
    folder = results.create_folder(tmp_path / "results", metadata)
    times = {"p20": 0.9, "p50": 1.0, "p80": 1.1}
    row = {
        "status": "measured", "workload": "dense-tf32", "title": "Dense", "kind": "dense", "provider": "hierpool",
        "provider_title": "hierpool", "mode": "both", "baseline": "pyg", "candidate_ms": times, "peer_ms": times,
        "speedup": times, "floor": {"ms": 0.5, "fraction": 0.5}, "peak": {"bytes": 4_000_000},
        "kernels": [{"name": "_assign_kernel", "count": 2, "us": 7.0}], "predicted": {"ms": 0.8, "launches": 10},
    }  # fmt: skip
    results.append_row(folder, row)
    missing = {
        "status": "not measured",
        "workload": "dense-tf32",
        "title": "Dense",
        "reason": "tgp is not installed",
    }
    results.append_row(folder, {**missing, "provider": "tgp", "provider_title": "tgp dense"})
    results.finish(folder, 12.0)
    return folder


def test_the_report_on_cpus_leaves_gpus_out(gpu_folder, tmp_path, capsys):
    assert gpu_folder.name.endswith("-some-gpu")
    assert results.newest(gpu_folder.parent) is None
    assert results.newest(gpu_folder.parent, "cuda").folder == gpu_folder
    assert report.command(gpu_folder, check=False, print_only=False, root=tmp_path) == 0
    text = capsys.readouterr().out
    assert text.startswith("Some GPU, driver 1.2, torch 2.11.0, triton 3.6.0, commit 0123456789")
    assert "Dense, hierpool: 7 us in 2 kernels" in text
    assert "tgp dense: not measured on Dense (tgp is not installed)" in text
    line = next(line for line in text.splitlines() if line.startswith("Dense "))
    assert line.split()[-4:] == ["50%", "4", "2", "0.8"]
    assert not (tmp_path / "README.md").exists()
    with pytest.raises(ValueError, match="is of a GPU"):
        report.command(gpu_folder, check=True, print_only=False, root=tmp_path)


def test_plots_are_drawn_or_their_lack_is_named(gpu_folder, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    found = results.read(gpu_folder)
    assert [path.name for path in gpu_report.draw(found, tmp_path)] == ["gpu-time.svg", "gpu-floor.svg"]
    assert all((tmp_path / name).read_text().lstrip().startswith("<?xml") for name, *_ in gpu_report.PLOTS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RuntimeError, match="matplotlib is not installed"):
        gpu_report.draw(found, tmp_path)


# ---- command line and stages ----------------------------------------------------------------------------------------


def test_without_a_device_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["gpu", "--quick"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("the GPU benchmark needs a ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert gpu_device.missing().startswith("the GPU benchmark needs a CUDA device")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--workloads", "nope"], "unknown workload nope; known: dense-tf32"),
        (["--providers", "nope"], "unknown provider nope; known: hierpool"),
        (["--seconds", "0"], "--seconds must be positive"),
    ],
)
def test_bad_options_are_named(argv, message, monkeypatch, capsys):
    monkeypatch.setattr(gpu_device, "missing", lambda: None)
    assert cli.main(["gpu", *argv]) == 2
    assert message in capsys.readouterr().err


def stage(*code: str, limit_s: float = 60.0, lacks=lambda: None) -> stages.Stage:
    return stages.Stage("s", "Stage", (sys.executable, "-c", "\n".join(code)), limit_s, lacks)


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
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
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


def test_a_failed_stage_fails_the_run(tmp_path, monkeypatch):
    made = (stage("print('fine')"), stage("raise SystemExit(1)"), stage(lacks=lambda: "not here"))
    monkeypatch.setattr(stages, "STAGES", made)
    plan = Plan([WORKLOADS["dense-tf32"]], CPU, seconds=1e-9)  # no time for the workload
    found, failed = command.execute(plan, tmp_path, tests=True, rates=model.H200)
    assert failed == 1
    assert [row["status"] for row in found.rows[:3]] == ["measured", "failed", "not measured"]
    assert gpu_report.table(found).splitlines()[2].startswith("Stage: fine, ")


def test_the_stages_are_the_tests_and_the_sanitizer(monkeypatch):
    tests, sanitizer = stages.STAGES
    assert "tests/gpu" in tests.command
    assert (ROOT / "tests" / "gpu").is_dir()
    assert sanitizer.command[1:] == ("-m", "bench.sanitize")
    assert tests.limit_s + sanitizer.limit_s + command.LEAST_S <= command.TOTAL_S
    monkeypatch.setattr(sanitize.shutil, "which", lambda name: None)
    assert sanitizer.lacks() == "compute-sanitizer is not on the PATH"


def test_the_sanitized_work_runs(monkeypatch, capsys):
    sanitize.once(CPU, "reference")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert sanitize.main([]) == 2
    assert "a CUDA device is needed" in capsys.readouterr().err
