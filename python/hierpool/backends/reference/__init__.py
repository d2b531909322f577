"""The backend in plain PyTorch, for every device.

It has a module for the construction of graphs, and for operators with explicit gradients. On small batches, explicit
gradients are faster, because autograd takes longer to record a step than the device to run it.
"""

from __future__ import annotations

DEVICES = None


def can_run(op: str, device_type: str, has_float64: bool) -> str | None:
    """Always ``None``."""
    return None
