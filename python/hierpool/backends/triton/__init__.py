"""The backend of the Triton kernels, for CUDA tensors, and for CPU tensors in Triton's interpreter."""

from __future__ import annotations

from hierpool.backends.triton import _availability

DEVICES = ("cuda",)


def can_run(op: str, device_type: str, has_float64: bool) -> str | None:
    """``None`` if the kernels can run, else the reason."""
    return _availability.unavailable_reason(device_type, has_float64)
