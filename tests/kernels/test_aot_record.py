"""The record of ahead-of-time compilation: what is compiled again, and when the check fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

import triton.language as tl
from triton import knobs

from hierpool_kernels.aot import __main__ as command
from hierpool_kernels.aot import cases, compiler, loads
from hierpool_kernels.core.launch import Call

pytestmark = pytest.mark.skipif(knobs.runtime.interpret, reason="Triton's interpreter compiles nothing")


@triton.jit
def _scale_kernel(x_ptr, factor, width, BN: tl.constexpr):
    o_n = tl.program_id(0) * width + tl.arange(0, BN)
    tl.store(x_ptr + o_n, tl.load(x_ptr + o_n) * factor)


@triton.jit
def _square_kernel(x_ptr, BN: tl.constexpr):
    x = tl.load(x_ptr + tl.arange(0, BN)[:, None] * BN + tl.arange(0, BN)[None, :])
    tl.store(x_ptr + tl.arange(0, BN)[:, None] * BN + tl.arange(0, BN)[None, :], tl.dot(x, x))


X = torch.empty(256, dtype=torch.float32, device="meta")
SCALE = Call(_scale_kernel, (1,), (X, 48, 7), {"BN": 64, "num_warps": 2})
OTHER = Call(_scale_kernel, (1,), (X, 1, 7), {"BN": 64})
SQUARE = Call(_square_kernel, (1,), (X,), {"BN": 16})
FINE = compiler.Report(registers=40)
CASE = cases.CASES[0].name


class Check:
    """The command on given launches, with reports in place of a compiler."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.folder, self._capsys = folder, capsys
        self.launches = [SCALE, OTHER, SQUARE]
        self.needs = {"_scale_kernel": FINE, "_square_kernel": FINE}
        self.compiled: list[str] = []

        def reports(variants: Any, jobs: int, progress: Any) -> list[compiler.Report]:
            self.compiled = [one.kernel for one in variants]
            return [self.needs[one.kernel] for one in variants]

        monkeypatch.setattr(command, "cases_of", lambda target: cases.CASES[:1])
        monkeypatch.setattr(command, "calls", lambda case, target: self.launches)
        monkeypatch.setattr(command, "reports", reports)

    def __call__(self, *arguments: str) -> tuple[int, str]:
        status = command.main(["--targets", "sm_90", "--record", str(self.folder), *arguments])
        return status, self._capsys.readouterr().out

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "rows.jsonl").read_text().splitlines()]


@pytest.fixture
def check(tmp_path, monkeypatch, capsys) -> Check:
    """A record of three variants that are fine."""
    one = Check(tmp_path, monkeypatch, capsys)
    assert one("--update")[0] == 0
    assert len(one.compiled) == 3
    return one


def test_a_record_has_a_line_for_each_variant_and_says_what_made_it(check):
    lines = check.lines()
    assert [(line["kernel"], line["target"], line["registers"]) for line in lines] == [
        ("scale", "sm_90", 40), ("scale", "sm_90", 40), ("square", "sm_90", 40),
    ]  # fmt: skip
    assert {line["use"] for line in lines} == {f"{CASE} #1", f"{CASE} #2"}
    (run,) = json.loads((check.folder / "metadata.json").read_text()).values()
    assert (run["triton"], run["compiled"], set(run["assembler"])) == (triton.__version__, 3, {"sm_90"})


def test_what_is_unchanged_is_not_compiled_but_for_a_sample(check):
    assert check("--sample", "0")[0] == 0
    assert check.compiled == []
    samples = set()
    for seed in range(20):
        status, text = check("--sample", "0.3", "--seed", str(seed))
        assert (status, len(check.compiled)) == (0, 1)
        assert f"3 variants, of which 0 were compiled, and 1 of the 3 unchanged ones (seed {seed})" in text
        samples |= set(check.compiled)
    assert samples == set(check.needs)
    assert check("--all")[0] == 0
    assert len(check.compiled) == 3


def test_a_sample_must_reproduce_its_record(check):
    check.needs["_square_kernel"] = compiler.Report(registers=39, shared_bytes=8)
    status, text = check("--sample", "1")
    assert status == 1
    assert f"sm_90 square, {CASE} #1: compiled again, registers is 39, recorded is 40" in text
    assert "shared_bytes is 8, recorded is 0" in text


@pytest.mark.parametrize(
    "edit", [{"hash": "of another source"}, {"specialization": "unknown"}], ids=["changed", "new"]
)
def test_what_is_changed_or_new_is_compiled(check, edit):
    lines = [line | edit if line["kernel"] == "square" else line for line in check.lines()]
    if "specialization" in edit:
        lines = lines[:-1]
    (check.folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert check("--sample", "0")[0] == 0
    assert check.compiled == ["_square_kernel"]
    check.needs["_square_kernel"] = compiler.Report(needs_tensor_core=True)
    status, text = check("--sample", "0")
    assert status == 1
    assert f"sm_90 square, {CASE} #1: has a product for tensor cores, but none of their instructions" in text
    assert check("--sample", "0", "--kernels", "scale")[0] == 0


def test_what_is_no_longer_launched_fails_until_it_is_dropped(check):
    check.launches = [SCALE, SQUARE]
    status, text = check()
    assert status == 1
    assert f"sm_90 scale, {CASE} #2: recorded, but no longer launched" in text
    assert check("--kernels", "square")[0] == 0
    assert check("--update")[0] == 0
    assert len(check.lines()) == 2
    assert check()[0] == 0


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_a_spill_fails_also_once_it_is_recorded(check, target):
    check.needs["_square_kernel"] = compiler.Report(registers=255, spill_bytes=8, local_instructions=2)
    problem = f"{target} square, {CASE} #1: spills 8 bytes per thread in 2 loads and stores"
    for arguments in (("--all",), ("--all", "--update"), ()):
        status, text = check(*arguments, "--targets", target)
        assert status == 1
        assert problem in text
    check.needs["_square_kernel"] = FINE
    assert check("--all", "--update", "--targets", target)[0] == 0
    assert check("--targets", target)[0] == 0


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("pending", "has 2 waits that let a product go on whose left factor is in registers"),
        ("unasked", "multiplies in TF32, by 2 instructions, but asks for IEEE products"),
    ],
)
def test_wrong_products_fail_also_once_they_are_recorded(check, field, problem):
    check.needs["_square_kernel"] = compiler.Report(registers=40, **{field: 2})
    for arguments in (("--all",), ("--all", "--update"), ()):
        status, text = check(*arguments, "--targets", "sm_90")
        assert status == 1
        assert "square" in text
        assert problem in text


@triton.jit
def _nothing(x_ptr):
    if x_ptr is None:
        return None
    else:
        return x_ptr


@triton.jit
def _copy_kernel(x_ptr, BN: tl.constexpr):
    tl.store(_nothing(x_ptr) + tl.arange(0, BN), 1.0)


def test_a_function_that_returns_none_fails(check):
    check.launches = [Call(_copy_kernel, (1,), (X,), {"BN": 64})]
    check.needs["_copy_kernel"] = FINE
    status, text = check("--update")
    assert status == 1
    assert f"sm_90 copy, {CASE} #1: _nothing returns None, which Triton 3.6 cannot compile" in text


def test_lost_tensor_cores_fail(check):
    check.needs["_square_kernel"] = compiler.Report(tensor_core=(("HGMMA", 4),), needs_tensor_core=True)
    assert check("--update", "--all")[0] == 0
    check.needs["_square_kernel"] = FINE
    status, text = check("--all")
    assert status == 1
    assert "none of their instructions" in text


@triton.jit
def _sum_kernel(a_ptr, a_row, a_col, out_ptr, BN: tl.constexpr, VECTOR: tl.constexpr):
    o_n = tl.arange(0, BN)
    tl.store(out_ptr + o_n, tl.sum(tl.load(a_ptr + o_n[:, None] * a_row + o_n[None, :] * a_col), 1))


def test_loads_are_printed_and_narrow_ones_fail_unless_there_is_a_reason(check, monkeypatch):
    check.launches = [Call(_sum_kernel, (1,), (X, 16, 1, X), {"BN": 16, "VECTOR": 16})]
    check.needs["_sum_kernel"] = compiler.Report(registers=40, loads=(("a", 16),))
    assert "bytes per load of aligned matrices: a 16 in 1" in check("--update")[1]
    (line,) = (line for line in check.lines() if line["kernel"] == "sum")
    assert line["loads"] == {"a": 16}
    check.needs["_sum_kernel"] = compiler.Report(registers=40, loads=(("a", 4),))
    problem = f"sm_90 sum, {CASE} #1: loads 4 bytes of a at a time"
    for arguments in (("--all",), ("--all", "--update"), ()):  # and once it is recorded
        status, text = check(*arguments)
        assert status == 1
        assert problem in text
        assert "a 4 in 1" in text
    accepted = loads.Accepted(
        ("sum",), ("a",), lambda variant: variant.target == "sm_90", "a tile is too small"
    )
    monkeypatch.setattr(loads, "ACCEPTED", (accepted,))
    status, text = check()
    assert status == 0
    assert "1 narrow: a tile is too small" in text


def test_other_versions_of_triton_have_lines_of_their_own(check, monkeypatch):
    before = check.lines()
    monkeypatch.setattr(triton, "__version__", "3.0.0")
    assert check("--update")[0] == 0
    assert len(check.compiled) == 3
    assert len(check.lines()) == 6
    assert [line for line in check.lines() if line["triton"] != "3.0.0"] == before
    assert len(json.loads((check.folder / "metadata.json").read_text())) == 2


def test_without_a_record_a_table_is_printed(check, capsys):
    assert command.main(["--targets", "sm_80", "sm_90"]) == 0
    text = capsys.readouterr().out
    assert "| scale " in text
    assert "sm_80: 1 variants of 1 kernels; 0 do not compile, 0 spill" in text
    assert "sm_90: 3 variants of 2 kernels" in text


def test_the_command_refuses_the_interpreter_and_unknown_kernels(monkeypatch, capsys):
    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            command.main(arguments)
        return capsys.readouterr().err

    assert "no kernel is called pool; there are " in refused("--kernels", "pool")
    assert "--update needs --record" in refused("--update")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "TRITON_INTERPRET is set" in refused()
