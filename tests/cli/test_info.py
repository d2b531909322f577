"""The report of `info`: one table, and reasons on request."""

from __future__ import annotations

import json

import pytest
import torch

import hierpool
from hierpool import backends
from hierpool.backends.native import _library
from hierpool.cli import info
from hierpool.cli.main import main

VERDICTS = hierpool.explain()
OPS = list(dict.fromkeys(verdict.op for verdict in VERDICTS))


def run_info(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["info", *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_fits_a_screen_and_names_the_backend_of_every_operator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = run_info(capsys).splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    shown: dict[str, list[str]] = {}
    backends: list[str] = []
    for line in lines[lines.index("cpu         cuda        operators") + 1 : -1]:
        backends = line[:24].split() or backends  # a line may go on
        shown |= {op.strip(","): backends for op in line[24:].split()}
    for op in OPS:
        running = {
            verdict.device: verdict.backend for verdict in VERDICTS if verdict.op == op and verdict.runs
        }
        assert shown[op] == [running["cpu"], running["cuda"]]
    assert "--why" in lines[-1]


def test_reasons_of_all_operators_come_with_versions_and_the_build(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = run_info(capsys, "--why")
    assert torch.__version__ in text
    assert f"{torch.get_num_threads()} threads" in text
    for heading in ("triton", "CUDA devices", "instruction set", "native backend"):
        assert heading in text
    assert all(verdict.reason in text for verdict in VERDICTS)


def test_json_has_a_row_for_every_operator_device_and_backend(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run_info(capsys, "--json"))["backends"]
    assert rows == [verdict._asdict() for verdict in VERDICTS]
    for device in ("cpu", "cuda"):  # also without such a device
        there = [(row["op"], row["backend"]) for row in rows if row["device"] == device]
        assert there == [(op, name) for op in OPS for name in backends.NAMES if name != "auto"]
        assert [row["op"] for row in rows if row["device"] == device and row["runs"]] == OPS
    assert all(row["reason"] for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_one_operator_has_a_reason_for_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    text = run_info(capsys, "spmm")
    assert [line for line in text.splitlines() if line[:1].strip()] == ["spmm on cpu", "spmm on cuda"]
    part = text[text.index("spmm on cuda") :]
    assert "  * reference   runs" in part
    assert "    native      the C++ kernels run on CPU tensors, not on cuda" in part
    # this torch is built without CUDA; torch finds no device; triton is not installed
    assert "    triton      t" in part
    assert main(["info", "spm"]) == 2
    assert f"operator must be one of {', '.join(OPS)}, got 'spm'" in capsys.readouterr().err


def test_report_without_native_says_why_and_how(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _library.BuildRecord(False, False, "no C++ compiler was found", "line one\nerror: line two\n")
    monkeypatch.setattr(_library, "read_build_record", lambda: record)
    monkeypatch.setattr(_library, "unavailable_reason", lambda: f"not installed: {record.reason}")
    table = run_info(capsys)
    assert "The native backend is not available; --why says why" in table
    assert table.count("\n") < 24
    text = run_info(capsys, "--why")
    assert "    native      not installed: no C++ compiler was found" in text
    assert "  * reference   runs" in text
    assert "The reference backend (plain PyTorch) runs instead. To get the native backend" in text
    assert "  error: line two" in text
    assert "instruction set  unknown: not installed: no C++ compiler was found" in text


def test_report_of_devices() -> None:
    report = info.collect() | {"cuda_devices": ["H200, sm_90, 139 GiB", "H200, sm_90, 139 GiB"]}
    assert "CUDA devices     2 x H200, sm_90, 139 GiB\n" in info.render_table(report)
    report |= {"cuda_devices": [], "torch_cuda": "13.0"}
    assert "CUDA devices     no device\n" in info.render_table(report)
