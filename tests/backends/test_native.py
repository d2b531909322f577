"""Loading the native library: at most once, with a reason where it is absent, and nothing in it that ties it down."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import hierpool
from hierpool import backends
from hierpool.backends.native import _library
from hierpool.backends.native._library import NativeLibrary, read_build_record

ROOT = Path(__file__).parents[2]
LIBRARY = Path(hierpool.__file__).with_name(_library.LIBRARY_NAME)
needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason=f"{LIBRARY.name} was not built")
needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")


def write_record(folder: Path, **changes: object) -> None:
    record = {"native": False, "python_module": False, "reason": "no compiler", "details": ""} | changes
    (folder / "_build.json").write_text(json.dumps(record))


def test_absent_library_gives_the_recorded_reason(tmp_path: Path) -> None:
    write_record(tmp_path, reason="no C++ compiler was found")
    reason = NativeLibrary(tmp_path).unavailable_reason()
    assert reason == "the native library is not installed: no C++ compiler was found"


def test_absent_record_is_a_reason_too(tmp_path: Path) -> None:
    assert "was not installed by pip" in (NativeLibrary(tmp_path).unavailable_reason() or "")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"native": true}', "\x00"])
def test_unreadable_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "_build.json").write_text(content)
    record = read_build_record(tmp_path)
    assert not record.native
    assert str(tmp_path / "_build.json") in record.reason


def test_deleted_library_is_noticed(tmp_path: Path) -> None:
    write_record(tmp_path, native=True, reason="")
    assert "its file is gone although it was built" in (NativeLibrary(tmp_path).unavailable_reason() or "")


def test_broken_library_is_a_reason_not_an_exception(tmp_path: Path) -> None:
    (tmp_path / _library.LIBRARY_NAME).write_bytes(b"not a library")
    reason = NativeLibrary(tmp_path).unavailable_reason() or ""
    assert reason.startswith(
        f"the native library {tmp_path / _library.LIBRARY_NAME} was found but does not load"
    )
    assert "\n" not in reason


def test_older_torch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / _library.LIBRARY_NAME).write_bytes(b"not a library")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cu128")
    expected = "the native library needs torch 2.10 or newer, this is torch 2.9.1+cu128"
    assert NativeLibrary(tmp_path).unavailable_reason() == expected


def test_threads_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / _library.LIBRARY_NAME).touch()
    calls = []
    entered = threading.Event()

    def load_library(path: str) -> None:
        calls.append(path)
        entered.wait(0.2)  # keeps the others waiting at the lock

    monkeypatch.setattr(torch.ops, "load_library", load_library)
    library = NativeLibrary(tmp_path)
    reasons: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: reasons.append(library.unavailable_reason())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [str(tmp_path / _library.LIBRARY_NAME)]
    assert reasons == [None] * 8


def test_named_backend_raises_its_reason_and_auto_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_library, "unavailable_reason", lambda: "no C++ compiler was found")
    x, adj, s = torch.rand(1, 3, 2), torch.ones(1, 3, 3), torch.rand(1, 3, 2)
    with pytest.raises(
        RuntimeError, match=r"backend 'native' cannot run soft_pool on cpu: no C\+\+ compiler"
    ):
        hierpool.soft_pool(x, adj, s, backend="native")
    assert backends.select("soft_pool", "cpu") == "reference"
    assert torch.equal(
        hierpool.soft_pool(x, adj, s).adj, hierpool.soft_pool(x, adj, s, backend="reference").adj
    )


def test_absent_library_has_no_facts(tmp_path: Path) -> None:
    write_record(tmp_path, reason="no C++ compiler was found")
    with pytest.raises(
        ImportError, match=r"the native library is not installed: no C\+\+ compiler was found"
    ):
        _library.build_facts(tmp_path)


@needs_library
def test_operators_load_without_the_python_module() -> None:
    code = """
import sys; sys.modules["hierpool._C"] = None
import hierpool, torch
hierpool.soft_pool(torch.rand(1, 3, 2), torch.ones(1, 3, 3), torch.rand(1, 3, 2), backend="native")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_library
def test_library_reports_the_instruction_set_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIERPOOL_CPU_ISA", raising=False)
    supported = _library.build_facts()["cpu"]["supported"]
    assert supported[0] == "scalar"
    assert _library.build_facts()["cpu"] == {"supported": supported, "cap": None, "isa": supported[-1]}
    for name in supported:
        monkeypatch.setenv("HIERPOOL_CPU_ISA", name)
        assert _library.build_facts()["cpu"] == {"supported": supported, "cap": name, "isa": name}
    monkeypatch.setenv("HIERPOOL_CPU_ISA", "sse9")
    with pytest.raises(
        ValueError, match="HIERPOOL_CPU_ISA must be one of scalar, avx2, avx512, amx, got 'sse9'"
    ):
        _library.build_facts()


@needs_library
def test_build_facts_name_compiler_and_torch() -> None:
    info = _library.build_facts()["build"]
    assert set(info) == {"compiler", "flags", "processor", "torch"}
    assert re.match(r"2\.\d+", info["torch"])
    assert "-ffast-math" not in info["flags"]


@needs_library
@pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is not glibc")
def test_library_needs_no_newer_names_than_manylinux_2_28() -> None:
    """Whatever compiler and C library it was built with."""
    newest = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}
    listing = subprocess.run(
        ["objdump", "-T", str(LIBRARY)], capture_output=True, text=True, check=True
    ).stdout
    needed = re.findall(r"\*UND\*.*\((GLIBC|GLIBCXX|CXXABI|GCC)_([\d.]+)\) +(\S+)", listing)
    assert len(needed) > 20
    above = [one for one in needed if tuple(map(int, one[1].split("."))) > newest[one[0]]]
    assert not above


@needs_library
@needs_nm
def test_library_holds_no_python_symbol() -> None:
    listing = subprocess.run(["nm", "-u", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    symbols = [line.split()[-1] for line in listing.splitlines() if line.strip()]
    assert any("torch" in symbol for symbol in symbols)
    assert not [symbol for symbol in symbols if re.match(r"_?_?Py[A-Z_]", symbol)]


@needs_nm
@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512", "amx"])
def test_functions_of_an_instruction_set_stay_in_its_namespace(isa: str) -> None:
    """The linker keeps one copy of a shared inline function: it must never be one with AVX instructions."""
    folder = ROOT / "build" / f"native-{sys.implementation.cache_tag}" / "CMakeFiles" / f"hp_{isa}.dir"
    objects = sorted(folder.rglob("*.o"))
    if not objects:
        pytest.skip(f"{folder.relative_to(ROOT)} holds no object files")
    listing = subprocess.run(
        ["nm", "-C", "--defined-only", *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    shared = [
        line.split(maxsplit=2)[2] for line in listing.splitlines() if re.match(r"[0-9a-f]+ [A-Zuvw] ", line)
    ]
    assert shared
    assert not [name for name in shared if f"hierpool::cpu::{isa}::" not in name]
