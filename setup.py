"""Builds the native part of hierpool with CMake and Ninja. Everything else is in pyproject.toml.

Environment variables:
    HIERPOOL_NATIVE=0          do not build the native part.
    HIERPOOL_REQUIRE_NATIVE=1  fail if the native part cannot be built, instead of installing without it.
    HIERPOOL_PYMODULE=0        build the operator library only. It holds no Python symbol, so the wheel serves every
                               Python 3 (tag py3-none); with the module `_C` a wheel is for one Python version.
    CXX, CXXFLAGS, LDFLAGS, CMAKE_BUILD_PARALLEL_LEVEL: as CMake understands them.

Without a compiler the package installs all the same; `_build.json` in the installed package holds the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import deque
from importlib import util
from pathlib import Path

from setuptools import Command, Distribution, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build

ROOT = Path(__file__).parent.resolve()
TORCH_REQUIREMENT = "torch>=2.10,<2.14"
MINIMUM_TORCH = (2, 10)
OUTPUTS = ("_hierpool_ops.so", "_C*.so", "_build.json")
# Prints the folder and the version of torch, or nothing, without importing it.
FIND_TORCH = """
from importlib import metadata, util
spec = util.find_spec("torch")
if spec is not None:
    print(spec.submodule_search_locations[0], metadata.version("torch"), sep="\\n")
"""


class NotBuilt(Exception):
    """The native part cannot be built: the reason, one sentence, and the end of the build's output."""

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


def switch(name: str, default: bool) -> bool:
    """The value of an environment variable that is 0 or 1."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        sys.exit(f"{name} must be 0 or 1, got {value!r}")
    return default if value == "" else value == "1"


def find_torch() -> tuple[str, str] | None:
    """Folder and version of the torch to build against.

    An isolated build does not see the environment that hierpool is installed into. That environment's torch serves
    (its headers are all that is used), and saves downloading another, so it is asked from outside the isolation.
    """
    hidden = ("PYTHONPATH", "PYTHONNOUSERSITE")
    outside = {name: value for name, value in os.environ.items() if name not in hidden}
    for environment in (None, outside):
        answer = subprocess.run(
            [sys.executable, "-c", FIND_TORCH],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tempfile.gettempdir(),
            check=False,
        )
        lines = answer.stdout.splitlines()
        if answer.returncode == 0 and len(lines) == 2 and release(lines[1]) >= MINIMUM_TORCH:
            return lines[0], lines[1]
    return None


def release(version: str) -> tuple[int, ...]:
    """(2, 13) of "2.13.0+cpu"."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2])


def find_compiler() -> str:
    """The C++ compiler CMake will take; raises NotBuilt if there is none."""
    if platform.system() not in ("Linux", "Darwin"):
        raise NotBuilt(f"the native backend is built on Linux and macOS, this is {platform.system()}")
    named = os.environ.get("CXX")
    candidates = shlex.split(named)[:1] if named else ["c++", "g++", "clang++"]
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is not None:
            return path
    if named:
        raise NotBuilt(f"no C++ compiler was found: CXX is {named!r}, which is not a program")
    raise NotBuilt("no C++ compiler was found: CXX is not set and none of c++, g++, clang++ is on PATH")


def find_tool(name: str) -> str | None:
    """A program of this environment, which need not be activated, or of PATH."""
    scripts = sysconfig.get_path("scripts")
    return shutil.which(name, path=os.pathsep.join((scripts, os.environ.get("PATH", ""))))


def torch_to_require() -> list[str]:
    """What an isolated build has to download: torch, if a native build can be tried and there is none to use."""
    if not switch("HIERPOOL_NATIVE", True) or find_torch() is not None:
        return []
    try:
        find_compiler()
    except NotBuilt:
        return []
    return [TORCH_REQUIREMENT]


def configure_arguments(python_module: bool) -> tuple[str, list[str], str]:
    """The cmake program, its arguments, and a text that changes whenever a build folder must not be reused."""
    compiler = find_compiler()
    tools = {name: find_tool(name) for name in ("cmake", "ninja")}
    missing = [name for name, path in tools.items() if path is None]
    if python_module and util.find_spec("pybind11") is None:
        missing.append("pybind11")
    if missing:
        raise NotBuilt(f"the build needs {', '.join(missing)}: run `pip install {' '.join(missing)}`")
    torch = find_torch()
    if torch is None:
        minimum = ".".join(map(str, MINIMUM_TORCH))
        raise NotBuilt(f"torch {minimum} or newer was not installed for {sys.executable} when hierpool was")
    arguments = [
        "-GNinja",
        f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}",
        f"-DHIERPOOL_TORCH_DIR={torch[0]}",
        f"-DHIERPOOL_TORCH_VERSION={torch[1]}",
        f"-DHIERPOOL_BUILD_PYMODULE={'ON' if python_module else 'OFF'}",
    ]
    if python_module:
        import pybind11

        arguments += [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}"]
    if platform.system() == "Darwin":
        arguments.append(f"-DCMAKE_OSX_ARCHITECTURES={platform.machine()}")
    seen_by_cmake = [os.environ.get(name, "") for name in ("CXX", "CXXFLAGS", "LDFLAGS")]
    cmake = tools["cmake"] or ""
    return cmake, arguments, json.dumps([cmake, compiler, *arguments, *seen_by_cmake])


def run(command: list[str], step: str) -> None:
    """Run a command, showing its output as it comes; raises NotBuilt with the last lines if it fails."""
    print("+", shlex.join(command), flush=True)
    tail: deque[str] = deque(maxlen=60)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            tail.append(line)
    if process.returncode != 0:
        raise NotBuilt(f"{step} failed with status {process.returncode}", "".join(tail))


def compile_native(python_module: bool) -> Path:
    """Configure and build; returns the folder that holds the libraries."""
    cmake, arguments, fingerprint = configure_arguments(python_module)
    folder = ROOT / "build" / f"native-{sys.implementation.cache_tag}"
    stamp = folder / "fingerprint"
    digest = hashlib.sha256(fingerprint.encode()).hexdigest()
    if folder.exists() and not (stamp.exists() and stamp.read_text() == digest):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run([cmake, "-S", str(ROOT), "-B", str(folder), *arguments], "configuring the native build")
    stamp.write_text(digest)
    run([cmake, "--build", str(folder)], "compiling the native backend")
    return folder


class NativeDistribution(Distribution):
    """Has extension modules if, once built, it turns out to."""

    native = False
    python_module = False

    def has_ext_modules(self) -> bool:
        return self.native


class build_native(Command):
    """Puts the libraries and the record of how they were built into the package."""

    description = "build the native backend"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 (the type setuptools declares)
    editable_mode = False
    distribution: NativeDistribution

    def initialize_options(self) -> None:
        self.build_lib: str | None = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        assert self.build_lib is not None
        package = ROOT / "python" / "hierpool" if self.editable_mode else Path(self.build_lib) / "hierpool"
        package.mkdir(parents=True, exist_ok=True)
        for pattern in OUTPUTS:
            for path in package.glob(pattern):
                path.unlink()  # an earlier build's; a process that runs keeps the file it has mapped
        reason, details = "", ""
        python_module = switch("HIERPOOL_PYMODULE", True)
        required = switch("HIERPOOL_REQUIRE_NATIVE", False)
        try:
            if not switch("HIERPOOL_NATIVE", True):
                raise NotBuilt("hierpool was installed with HIERPOOL_NATIVE=0")
            folder = compile_native(python_module)
            for pattern in OUTPUTS[:2]:
                for path in folder.glob(pattern):
                    shutil.copy2(path, package)
        except NotBuilt as error:
            reason, details = str(error), error.details
            if required:
                sys.exit(f"the native backend was not built, and HIERPOOL_REQUIRE_NATIVE is 1: {reason}")
            print(f"hierpool is installed without its native backend: {reason}", file=sys.stderr)
        self.distribution.native = not reason
        self.distribution.python_module = python_module and not reason
        record = {
            "native": self.distribution.native,
            "python_module": self.distribution.python_module,
            "reason": reason,
            "details": details,
        }
        (package / "_build.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")

    def get_source_files(self) -> list[str]:
        return ["CMakeLists.txt", *(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/**/*") if p.is_file())]

    def get_outputs(self) -> list[str]:
        return []

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class build_with_native(build):
    sub_commands = [*build.sub_commands, ("build_native", None)]  # noqa: RUF012


class tagged_wheel(bdist_wheel):
    """Decides on the wheel's tag after the build, which may have gone without the native part."""

    distribution: NativeDistribution

    def run(self) -> None:
        self.run_command("build")
        self.root_is_pure = not self.distribution.native
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        python, abi, system = super().get_tag()
        system = system.replace("universal2", platform.machine())
        if self.distribution.native and not self.distribution.python_module:
            return "py3", "none", system
        return python, abi, system


setup(
    packages=[
        *find_packages("python"),
        *find_packages(".", include=["hierpool_kernels", "hierpool_kernels.*"]),
    ],
    distclass=NativeDistribution,
    cmdclass={"build": build_with_native, "build_native": build_native, "bdist_wheel": tagged_wheel},
    setup_requires=torch_to_require(),
)
