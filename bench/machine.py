"""What identifies a run: commit, processor, versions, settings. No host names."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = (
    "hierpool", "numpy", "torch-geometric", "torch-geometric-pool", "torch-scatter", "scikit-learn", "scipy",
    "grakel",
)  # fmt: skip
ISA_FLAG = re.compile(r"^(sse4_2|avx\w*|fma|f16c|amx\w*|asimd\w*|sve\w*|bf16|i8mm)$")


def _cpuinfo(keys: tuple[str, ...]) -> str:
    """The first value of any of ``keys`` in /proc/cpuinfo, or an empty string."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() in keys:
            return value.strip()
    return ""


def cpu_model() -> str:
    """The processor's name."""
    return _cpuinfo(("model name", "Model", "Processor")) or platform.processor() or platform.machine()


def isa_flags() -> list[str]:
    """The vector instruction sets that the processor reports."""
    return sorted(flag for flag in set(_cpuinfo(("flags", "Features")).split()) if ISA_FLAG.match(flag))


def slug(text: str) -> str:
    """Lower case, words joined by hyphens: fit for a folder name."""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-") or "unknown"


def git_state(root: Path) -> tuple[str, bool | None]:
    """The commit ("nogit" outside a checkout) and whether tracked or new files differ from it."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=root, capture_output=True, text=True)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return "nogit", None
    return commit, bool(git("status", "--porcelain", "--", ".", ":(exclude)bench/results"))


def versions() -> dict[str, str]:
    """Versions of the installed packages that a figure depends on."""
    found = {"torch": torch.__version__}  # with the build's tag, which package metadata may lack
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def describe(root: Path) -> dict:
    """Everything about the machine and the code that a result row does not repeat."""
    commit, dirty = git_state(root)
    return {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "dirty": dirty,
        "device": "cpu",
        "cpu_model": cpu_model(),
        "isa_flags": isa_flags(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(),
        "isa_cap": os.environ.get("HIERPOOL_CPU_ISA"),
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions(),
    }
