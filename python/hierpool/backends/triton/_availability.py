"""Whether the Triton kernels can run. Every call of an operator asks, so that answers are cached.

This module does not import triton.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import metadata, util

import torch

MINIMUM_TRITON = (3, 5)
MINIMUM_CAPABILITY = (8, 0)


@cache
def version() -> str | None:
    """The version of the installed triton, or ``None``."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return None


def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, which takes CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _missing() -> str | None:
    """The reason why a package is missing or too old, or ``None``."""
    found = version()
    if found is None:
        return "triton is not installed; install it with: pip install 'hierpool[triton]'"
    if tuple(int(part) for part in found.split("+")[0].split(".")[:2]) < MINIMUM_TRITON:
        minimum = ".".join(map(str, MINIMUM_TRITON))
        return f"the kernels need triton {minimum} or newer, this is triton {found}"
    if util.find_spec("hierpool_kernels") is None:
        return "the package hierpool_kernels, which is part of the installation of hierpool, cannot be found"
    return None


@cache
def _device_reason() -> str | None:
    """The reason why kernels cannot run on the GPUs of this machine, or ``None``."""
    if not torch.cuda.is_available():
        if not torch.backends.cuda.is_built():
            return "this torch is built without CUDA"
        return "torch does not find a CUDA device"
    if torch.version.hip:
        return None
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        if capability < MINIMUM_CAPABILITY:
            wanted, got = (".".join(map(str, pair)) for pair in (MINIMUM_CAPABILITY, capability))
            return f"the kernels need compute capability {wanted} (Ampere) or newer, device {index} has {got}"
    return None


def unavailable_reason(device_type: str, has_float64: bool) -> str | None:
    """``None`` if the kernels can run, else the reason."""
    missing = _missing()
    if missing is not None:
        return missing
    if interpreted() and device_type in ("cpu", "cuda"):
        return None
    if device_type != "cuda":
        return (
            f"the kernels run on CUDA tensors, not on {device_type};"
            " Triton's interpreter runs them on CPU tensors, with TRITON_INTERPRET=1 in the environment"
        )
    if has_float64:
        return "the kernels take float32, bfloat16 and float16, not float64"
    return _device_reason()
