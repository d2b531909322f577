"""What identifies a run: commit, processor, GPU, versions, settings; and why no GPU can be used. No host names."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "hierpool", "triton", "numpy", "torch-geometric", "torch-geometric-pool", "torch-scatter", "scikit-learn", "scipy",
    "grakel",
)  # fmt: skip
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
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


def available_bytes(meminfo: Path = Path("/proc/meminfo"), limits: tuple[Path, ...] = LIMITS) -> int:
    """Memory that a process can still take: what the system has available, within the limit of its control group."""
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found = int(fields["MemAvailable"].split()[0]) * 1024
    else:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    texts = [path.read_text().strip() for path in limits if path.is_file()]
    return min([found, *(int(text) for text in texts if text.isdigit())])  # or "max"


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
    found = {"torch": str(torch.__version__)}  # with the build's tag, which package metadata may lack
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def missing() -> str | None:
    """One sentence on what a run on a GPU lacks, or None."""
    if not torch.cuda.is_available():
        if not torch.backends.cuda.is_built():
            return f"the GPU benchmark needs a torch that is built with CUDA, this one is {torch.__version__}"
        return f"the GPU benchmark needs a CUDA device, torch {torch.__version__} finds none"
    try:
        metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "the GPU benchmark needs triton, which is not installed"
    return None


def driver() -> str | None:
    """The version of the driver, as nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        return None
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True)
    return done.stdout.split("\n")[0].strip() if done.returncode == 0 else None


def describe(device: torch.device, root: Path = ROOT) -> dict:
    """Everything about the machine and the code that a result row does not repeat."""
    commit, dirty = git_state(root)
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    found = {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"), "commit": commit, "dirty": dirty,
        "device": device.type, "device_name": cpu_model(), "cpu_model": cpu_model(), "isa_flags": isa_flags(),
        "torch_capability": torch.backends.cpu.get_cpu_capability(), "isa_cap": os.environ.get("HIERPOOL_CPU_ISA"),
        "threads": torch.get_num_threads(), "processors": os.cpu_count(), "load_average": load,
        "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version(),
        "packages": versions(),
    }  # fmt: skip
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    return found | {
        "device_name": properties.name, "capability": [properties.major, properties.minor], "driver": driver(),
        "processors_of_device": properties.multi_processor_count, "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
    }  # fmt: skip
