"""Whether the Triton kernels can run, or the reason why they cannot; asked at every call, cheap after the first.

Nothing of triton is imported before the kernels are known to be wanted.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import metadata, util

import torch

OPS = (
    "asymmetric_norm",
    "edge_distances",
    "link_bce",
    "soft_pool_dense",
    "soft_pool_csr",
    "spmm",
    "total_variation",
)
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
    """Whether kernels are run by Triton's interpreter, which takes tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


@cache
def _missing() -> str | None:
    """What has to be installed."""
    found = version()
    if found is None:
        return "triton is not installed; pip install 'hierpool[triton]' brings it"
    if tuple(int(part) for part in found.split("+")[0].split(".")[:2]) < MINIMUM_TRITON:
        minimum = ".".join(map(str, MINIMUM_TRITON))
        return f"the kernels need triton {minimum} or newer, this is triton {found}"
    if util.find_spec("hierpool_kernels") is None:
        return "the package hierpool_kernels, which is installed beside hierpool, cannot be found"
    return None


@cache
def _device_reason() -> str | None:
    """Why no kernel can run on the GPUs of this machine."""
    if not torch.cuda.is_available():
        if not torch.backends.cuda.is_built():
            return "this torch is built without CUDA"
        return "torch finds no CUDA device"
    if torch.version.hip:
        return None
    for index in range(torch.cuda.device_count()):
        capability = torch.cuda.get_device_capability(index)
        if capability < MINIMUM_CAPABILITY:
            wanted, got = (".".join(map(str, pair)) for pair in (MINIMUM_CAPABILITY, capability))
            return f"the kernels need compute capability {wanted} (Ampere) or newer, device {index} has {got}"
    return None


def unavailable_reason(op: str, device_type: str, wide: bool) -> str | None:
    """``None`` if the kernels of ``op`` can run, else the sentence that says why not; ``wide``: on float64."""
    if op not in OPS:
        return "there is no Triton kernel of it"
    missing = _missing()
    if missing is not None:
        return missing
    if interpreted() and device_type in ("cpu", "cuda"):
        return None
    if device_type != "cuda":
        return (
            f"the kernels run on CUDA tensors, not on {device_type};"
            " those of the CPU are taken by Triton's interpreter alone, with TRITON_INTERPRET=1 in the environment"
        )
    if wide:
        return "the kernels are for float32, bfloat16 and float16, not for float64"
    return _device_reason()
