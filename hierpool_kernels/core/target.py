"""What a launch is planned for: the architecture of a device and the precision of float32 products."""

from __future__ import annotations

import os
from functools import cache
from typing import NamedTuple

import torch

PRECISIONS = ("ieee", "tf32", "tf32x3")
VARIABLE = "HIERPOOL_FP32_PRECISION"


class Architecture(NamedTuple):
    """The properties of a GPU that plans depend on.

    Attributes:
        family: ``"cuda"``, ``"hip"`` or ``"interpreter"``.
        version: compute capability, 80 for 8.0; 0 elsewhere.
        processors: number of multiprocessors.
        shared_bytes: most shared memory of one program.
    """

    family: str
    version: int
    processors: int
    shared_bytes: int


class Target(NamedTuple):
    """An architecture, and one of :data:`PRECISIONS` for products of float32."""

    architecture: Architecture
    fp32: str


INTERPRETER = Architecture("interpreter", 0, 2, 1 << 40)
KNOWN = {
    "sm_80": Architecture("cuda", 80, 108, 163 << 10),
    "sm_90": Architecture("cuda", 90, 132, 227 << 10),
    "sm_100": Architecture("cuda", 100, 148, 227 << 10),
    "gfx942": Architecture("hip", 0, 304, 64 << 10),
}


@cache
def _architecture(index: int) -> Architecture:
    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        return Architecture("hip", 0, properties.multi_processor_count, 64 << 10)
    shared = getattr(properties, "shared_memory_per_block_optin", 99 << 10)
    version = 10 * properties.major + properties.minor
    return Architecture("cuda", version, properties.multi_processor_count, shared)


def fp32_precision() -> str:
    """The precision of float32 products: ``HIERPOOL_FP32_PRECISION``, else the setting of torch for CUDA.

    Raises:
        ValueError: if the variable is set to anything but ``ieee``, ``tf32`` or ``tf32x3``.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen:
        if chosen not in PRECISIONS:
            raise ValueError(f"{VARIABLE} must be one of {', '.join(PRECISIONS)}, got {chosen!r}")
        return chosen
    # Reading the older allow_tf32 raises once the newer setting has been used.
    setting = torch.backends.cuda.matmul.fp32_precision
    if setting == "none":  # not set for CUDA: the setting for all devices applies
        setting = getattr(torch.backends, "fp32_precision", "none")
    return "tf32" if setting == "tf32" else "ieee"


def target_of(device: torch.device) -> Target:
    """The target of tensors on ``device``."""
    if device.type != "cuda":
        return Target(INTERPRETER, "ieee")
    index = torch.cuda.current_device() if device.index is None else device.index
    return Target(_architecture(index), fp32_precision())
