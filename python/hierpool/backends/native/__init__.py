"""The backend of the C++ kernels, for CPU tensors."""

from __future__ import annotations

from hierpool.backends.native import _library

DEVICES = ("cpu",)


def can_run(op: str, device_type: str, has_float64: bool) -> str | None:
    """``None`` if the kernels can run, else the reason."""
    if device_type != "cpu":
        return f"the C++ kernels run on CPU tensors, not on {device_type}"
    return _library.unavailable_reason()
