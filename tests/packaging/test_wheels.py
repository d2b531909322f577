"""Wheels built with and without a compiler: their tags, what they hold, and what they say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.wheels import ROOT, build_wheel, compiler_in, copy_sources, pip_wheel

NO_COMPILER = {"CXX": "/nonexistent/c++"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    return copy_sources(folder)


def tag(wheel: Path) -> list[str]:
    return wheel.stem.split("-")[2:]


def record_of(wheel: Path) -> dict[str, Any]:
    with zipfile.ZipFile(wheel) as archive:
        return json.loads(archive.read("hierpool/_build.json"))


def libraries_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.endswith(".so")]


def run_installed(wheel: Path, *arguments: str) -> str:
    """Run Python with the wheel's files, and none of this checkout's, in front of the path."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site)}
    answer = subprocess.run(
        [sys.executable, *arguments],
        cwd=wheel.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return answer.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"HIERPOOL_NATIVE": "0"}, "hierpool was installed with HIERPOOL_NATIVE=0"),
        (NO_COMPILER, "no C++ compiler was found: CXX is '/nonexistent/c++', which is not a program"),
    ],
    ids=["native-off", "no-compiler"],
)
def test_wheel_without_native_backend(checkout: Path, variables: dict[str, str], reason: str) -> None:
    stale = checkout / "build" / "lib" / "hierpool" / "_hierpool_ops.so"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of an earlier build")
    wheel = build_wheel(checkout, **variables)
    assert tag(wheel) == ["py3", "none", "any"]
    assert libraries_of(wheel) == []
    kernels = {str(path.relative_to(ROOT)) for path in (ROOT / "hierpool_kernels").rglob("*.py")}
    with zipfile.ZipFile(wheel) as archive:
        assert kernels <= set(archive.namelist())
    assert record_of(wheel) == {"native": False, "python_module": False, "reason": reason, "details": ""}
    text = run_installed(wheel, "-m", "hierpool", "info", "--why")
    assert f"native      the native library is not installed: {reason}" in text
    assert "To get the native backend, install a C++20 compiler" in text
    assert "* reference   runs" in text


@pytest.mark.slow
def test_failing_compiler_is_recorded_with_its_error(checkout: Path) -> None:
    compiler = checkout / "failing-c++"
    compiler.write_text("#!/bin/sh\necho 'error: out of order' >&2\nexit 1\n")
    compiler.chmod(0o755)
    wheel = build_wheel(checkout, CXX=str(compiler))
    assert tag(wheel) == ["py3", "none", "any"]
    record = record_of(wheel)
    assert record["reason"] == "configuring the native build failed with status 1"
    assert "error: out of order" in record["details"]
    assert "error: out of order" in run_installed(wheel, "-m", "hierpool", "info", "--why")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            NO_COMPILER | {"HIERPOOL_REQUIRE_NATIVE": "1"},
            "HIERPOOL_REQUIRE_NATIVE is 1: no C++ compiler was found",
        ),
        ({"HIERPOOL_NATIVE": "off"}, "HIERPOOL_NATIVE must be 0 or 1, got 'off'"),
    ],
    ids=["required", "bad-value"],
)
def test_build_stops_with_one_sentence(checkout: Path, variables: dict[str, str], message: str) -> None:
    answer = pip_wheel(checkout, **variables)
    assert answer.returncode != 0
    assert message in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr


@pytest.mark.slow
def test_wheel_of_the_operator_library_alone_serves_every_python(checkout: Path, tmp_path: Path) -> None:
    compiler = compiler_in(tmp_path)
    wheel = build_wheel(checkout, HIERPOOL_PYMODULE="0", HIERPOOL_REQUIRE_NATIVE="1", CXX=compiler)
    python, abi, system = tag(wheel)
    assert (python, abi) == ("py3", "none")
    assert system != "any"
    assert libraries_of(wheel) == ["hierpool/_hierpool_ops.so"]
    assert record_of(wheel)["native"]
    assert not record_of(wheel)["python_module"]
    code = (
        "import hierpool, torch; hierpool.soft_pool(torch.rand(1, 3, 2), torch.ones(1, 3, 3), torch.rand(1, 3, 2),"
        " backend='native'); print(hierpool.__file__)"
    )
    assert str(wheel.parent) in run_installed(wheel, "-c", code)
