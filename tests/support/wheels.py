"""Copies of the sources, and wheels of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "CMakeLists.txt",
    "LICENSE",
    "MANIFEST.in",
    "README.md",
    "csrc",
    "hierpool_kernels",
    "pyproject.toml",
    "python",
    "setup.py",
)
BUILD_VARIABLES = ("HIERPOOL_NATIVE", "HIERPOOL_REQUIRE_NATIVE", "HIERPOOL_PYMODULE", "CXX")
# Runs a compiler, or copies the object that this checkout's own build holds.
COPYING_COMPILER = """#!{python}
import os, shutil, sys
arguments = sys.argv[1:]
if "-c" in arguments:
    output = arguments[arguments.index("-o") + 1]
    built = os.path.join({build!r}, output)
    if os.path.exists(built):
        shutil.copy(built, output)
        sys.exit()
os.execvp({compiler!r}, [{compiler!r}, *arguments])
"""


def copy_sources(folder: Path, *more: str) -> Path:
    """Copy the sources, and ``more`` of the checkout, into a folder, without what was built in place."""
    ignore = shutil.ignore_patterns("*.so", "_build.json", "__pycache__", "*.egg-info")
    for name in (*SOURCES, *more):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=ignore)
        else:
            shutil.copy2(source, folder)
    return folder


def pip_wheel(checkout: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in BUILD_VARIABLES}
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "dist",
        ".",
    ]
    return subprocess.run(
        command, cwd=checkout, env=environment | variables, capture_output=True, text=True, check=False
    )


def build_wheel(checkout: Path, **variables: str) -> Path:
    answer = pip_wheel(checkout, **variables)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (wheel,) = (checkout / "dist").glob("*.whl")
    return wheel


def compiler_in(folder: Path) -> str:
    """A C++ compiler; one that copies objects if this checkout's library is newer than its sources."""
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    found = [path for name in names if name and (path := shutil.which(name))]
    if not found:
        pytest.skip("no C++ compiler on this machine")
    build = ROOT / "build" / f"native-{sys.implementation.cache_tag}"
    library = build / "_hierpool_ops.so"
    sources = [ROOT / "CMakeLists.txt", *(ROOT / "csrc").rglob("*.*")]
    if not library.exists() or any(
        path.stat().st_mtime > library.stat().st_mtime for path in sources if path.is_file()
    ):
        return found[0]
    script = folder / "c++"
    script.write_text(COPYING_COMPILER.format(python=sys.executable, build=str(build), compiler=found[0]))
    script.chmod(0o755)
    return str(script)
