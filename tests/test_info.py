"""The command line: the report of `info`, and one sentence for every error."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import types

import pytest
import torch

from hierpool import _native, backends, cli, info


def run_info(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_report_names_versions_threads_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_info(capsys)
    assert torch.__version__ in text
    assert f"{torch.get_num_threads()} threads" in text
    for heading in ("triton", "CUDA devices", "instruction set", "native backend"):
        assert heading in text


def test_report_has_a_row_for_every_operator_and_backend(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run_info(capsys, "--json"))["backends"]
    named = [name for name in backends.NAMES if name != "auto"]
    for device in ("cpu", "cuda"):  # also where there is no such device
        there = [(row["op"], row["backend"]) for row in rows if row["device"] == device]
        assert there == [(op, name) for op in backends.OPS for name in named]
        for op in backends.OPS:
            assert sum(row["runs"] for row in rows if (row["op"], row["device"]) == (op, device)) == 1
    assert all(row["reason"] for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_report_says_what_a_cuda_tensor_would_get(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_info(capsys)
    part = text[text.index("soft_pool_csr on cuda") :].split("\n\n")[0]
    assert "  * reference   runs" in part
    assert "    native      the C++ kernels run on CPU tensors, not on cuda" in part
    assert (
        "    triton      t" in part
    )  # this torch is built without CUDA; torch finds no device; triton is not installed


def test_report_without_native_says_why_and_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _native.BuildRecord(False, False, "no C++ compiler was found", "line one\nerror: line two\n")
    monkeypatch.setattr(_native, "read_build_record", lambda: record)
    monkeypatch.setattr(_native, "unavailable_reason", lambda: f"not installed: {record.reason}")
    monkeypatch.setitem(sys.modules, "hierpool._C", None)
    text = run_info(capsys)
    assert "    native      not installed: no C++ compiler was found" in text
    assert "  * reference   runs" in text
    assert "The reference backend (plain PyTorch) runs instead. To get the native backend" in text
    assert "  error: line two" in text
    assert (
        "instruction set  unknown: the module hierpool._C is not installed: the native part was not built"
        in text
    )


def test_report_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    report = info.collect() | {"cuda_devices": ["H200, sm_90, 139 GiB", "H200, sm_90, 139 GiB"]}
    assert "CUDA devices     H200, sm_90, 139 GiB; H200" in info.render(report)
    report = info.collect() | {"cuda_devices": [], "torch_cuda": "13.0"}
    assert "CUDA devices     no device\n" in info.render(report)


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
        cli.main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def add_command(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    module = types.ModuleType("failing_command")

    def main(args: argparse.Namespace) -> int:
        raise error

    module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(cli.COMMANDS, "failing", cli.Command(module.__name__, "fails"))


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
    assert cli.main(["failing"]) == 2
    text = capsys.readouterr().err
    assert text.startswith("hierpool failing: ")
    assert text.count("\n") == 1
    assert len(text) > len("hierpool failing: \n")
    with pytest.raises(type(error)):
        cli.main(["--traceback", "failing"])


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    add_command(monkeypatch, KeyError("k"))
    with pytest.raises(KeyError):
        cli.main(["failing"])


def test_interrupt_has_the_usual_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_command(monkeypatch, KeyboardInterrupt())
    assert cli.main(["failing"]) == 130
    assert capsys.readouterr().err == "hierpool failing: interrupted\n"


@pytest.mark.skipif(not _native.read_build_record().python_module, reason="hierpool._C was not built")
def test_bad_instruction_set_is_an_error_of_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "hierpool", "info"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HIERPOOL_CPU_ISA": "mmx"},
    )
    assert answer.returncode == 2
    assert answer.stderr == "hierpool info: HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, got 'mmx'\n"


def test_a_reader_that_leaves_early_causes_no_traceback() -> None:
    command = f"{sys.executable} -m hierpool info | true"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert "Traceback" not in answer.stderr
    assert "BrokenPipe" not in answer.stderr
