"""The entry point: usage errors, errors of commands, interrupts and closed pipes."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from hierpool.backends.native import _library
from hierpool.cli.main import COMMANDS, main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["poool"], "invalid choice: 'poool'"),
        (["info", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_usage_errors_are_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def add_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    module = types.ModuleType("hierpool.cli.failing")

    def run(args: argparse.Namespace) -> None:
        raise error

    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(COMMANDS, "failing", "fails")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("--epochs must be at least 1,\n  got 0"),
        FileNotFoundError(2, "No such file", "/data/tu"),
        ImportError("tqdm is needed here"),
        RuntimeError("backend 'native' cannot run"),
        OSError(),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_command(monkeypatch, error)
    assert main(["failing"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("hierpool failing: ")
    assert text.count("\n") == 1
    assert len(text) > len("hierpool failing: \n")
    with pytest.raises(type(error)):
        main(["--traceback", "failing"])


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    add_command(monkeypatch, KeyError("k"))
    with pytest.raises(KeyError):
        main(["failing"])


def test_interrupt_has_the_usual_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_command(monkeypatch, KeyboardInterrupt())
    assert main(["failing"]) == 130
    assert capsys.readouterr().err == "hierpool failing: interrupted\n"


@pytest.mark.skipif(_library.unavailable_reason() is not None, reason="the native library was not built")
def test_the_module_runs_and_a_bad_instruction_set_is_an_error_of_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "hierpool", "info"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HIERPOOL_CPU_ISA": "mmx"},
    )
    assert answer.returncode == 2
    assert (
        answer.stderr
        == "hierpool info: HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, amx, got 'mmx'\n"
    )


def test_a_closed_pipe_causes_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        assert main(["info"]) == 1
        print("Python flushes again at exit", file=output, flush=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_closed_stream_is_no_error(closed: str, tmp_path: Path) -> None:
    pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
    number = {"stdout": 1, "stderr": 2}[closed]
    (tmp_path / "g.txt").write_text("0 1\n1 2\n")
    command = [sys.executable, "-m", "hierpool", "cluster", str(tmp_path / "g.txt"), "--k=2", "--epochs=1"]
    command += ["--no-pictures", f"--out={tmp_path / 'out'}"]
    quoted = f'exec "$@" {number}>&-'
    assert subprocess.run(["sh", "-c", quoted, "sh", *command], check=False).returncode == 0
    assert (tmp_path / "out" / "metrics.json").exists()


def test_wrong_variables_of_a_launcher_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("tqdm", reason="tqdm (extra: train) is not installed")
    for name, value in {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["train", f"--out={tmp_path}", "--no-pictures"]) == 2
    assert "RANK in the environment must be a number, as torchrun sets it, got 'x'" in capsys.readouterr().err


def test_a_pipe_gets_every_line_at_once() -> None:
    code = """
import os, sys, types
from hierpool.cli.main import COMMANDS, main
module = types.ModuleType("hierpool.cli.slow")
module.add_arguments = lambda parser: None
module.run = lambda args: (print("begun"), os._exit(0))
sys.modules[module.__name__] = module
COMMANDS["slow"] = "is slow"
main(["slow"])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "begun\n"
