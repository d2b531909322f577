"""What identifies a run on a GPU, and why there can be none."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from bench import machine

ROOT = Path(__file__).resolve().parents[2]


def missing() -> str | None:
    """One sentence on what a run lacks, or None."""
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


def describe(device: torch.device) -> dict:
    """`bench.machine.describe`, and the device."""
    found = machine.describe(ROOT) | {"device": device.type, "device_name": machine.cpu_model()}
    if device.type != "cuda":
        return found
    properties = torch.cuda.get_device_properties(device)
    return found | {
        "device_name": properties.name,
        "capability": [properties.major, properties.minor],
        "processors_of_device": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "driver": driver(),
        "cuda": torch.version.cuda,
    }
