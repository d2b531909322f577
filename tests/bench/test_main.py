"""The command line names what is wrong, and says in one sentence that there is no device."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench import __main__ as cli
from bench.harness import machine, run
from bench.ops import PROVIDERS, WORKLOADS
from tests.bench.toys import RATES, SMALL, loaded

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "--workloads", "nope"], "unknown workload nope; known: mutag"),
        (["run", "--providers", "nope"], "unknown provider nope; known: pyg"),
        (["run", "--data-root", "/nonexistent"], "data root /nonexistent is not a folder"),
        (["run", "--budget-s", "0"], "--budget-s must be positive"),
        (["run", "--threads", "0"], "--threads must be at least 1"),
        (["gpu", "--workloads", "nope"], "unknown workload nope; known: dense-tf32"),
        (["gpu", "--providers", "nope"], "unknown provider nope; known: pyg"),
        (["gpu", "--seconds", "0"], "--seconds must be positive"),
        (["report", "/nonexistent"], "/nonexistent is not a result folder"),
    ],
)
def test_bad_options_are_named(argv, message, monkeypatch, capsys):
    loaded("pyg")
    monkeypatch.setattr(machine, "missing", lambda: None)
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err


def test_a_quick_run_prints_its_table(tmp_path, monkeypatch, capsys):
    loaded("hierpool")
    monkeypatch.setitem(WORKLOADS, "small", SMALL)
    monkeypatch.setattr(run, "measure_rates", lambda device: RATES)
    monkeypatch.setattr(run.execute, "__defaults__", (tmp_path, None))
    assert (
        cli.main(["run", "--quick", "--workloads", "small", "--providers", "hierpool", "--modes", "both"])
        == 0
    )
    assert "Small" in capsys.readouterr().out
    assert cli.defaults("cpu") != cli.defaults("cuda")
    assert {*cli.defaults("cpu"), *cli.defaults("cuda")} == set(PROVIDERS)


def test_without_a_device_one_sentence_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(["gpu", "--quick"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("the GPU benchmark needs a ")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    assert machine.missing().startswith("the GPU benchmark needs a CUDA device")


def test_a_run_on_a_gpu_needs_torch_and_triton_alone():
    code = """
import sys
import torch
torch.cuda.is_available = lambda: False
for name in ("numpy", "scipy", "matplotlib", "tqdm", "pytest", "grakel", "torch_geometric", "tgp"):
    sys.modules[name] = None
from bench.__main__ import main
sys.exit(main(["gpu"]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("the GPU benchmark needs a ")
