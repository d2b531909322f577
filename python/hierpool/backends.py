"""Which implementation runs an operator, and why the others do not.

A backend is a *filler*: a module with ``forward`` and ``backward`` that takes the operator's checked arguments and
returns its outputs, in the shapes of the fake kernel; that of ``csr`` has the building blocks that
:mod:`hierpool.graph.csr` asks for. Schemas, shapes, autograd and argument checks exist once, in :mod:`hierpool.ops`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from hierpool import _native

OPS = (
    "asymmetric_norm",
    "csr",
    "cut_pool",
    "edge_distances",
    "linear_maps",
    "link_bce",
    "soft_pool_dense",
    "soft_pool_csr",
    "spmm",
    "total_variation",
    "unit_rows",
)


class Backend(NamedTuple):
    """One row of the table.

    Attributes:
        name: what ``backend=`` calls it.
        module: the package of its fillers.
        devices: the types of devices that ``"auto"`` considers it for; ``None``: all.
        can_run: ``can_run(op, device_type, wide)`` is ``None``, or the sentence that says why not; ``wide``: a tensor
            is float64.
    """

    name: str
    module: str
    devices: tuple[str, ...] | None
    can_run: Callable[[str, str, bool], str | None]

    def filler(self, op: str) -> ModuleType:
        """The module with ``forward`` and ``backward`` of an operator."""
        return _load(f"{self.module}.{op}")


_load = lru_cache(maxsize=None)(import_module)


class Verdict(NamedTuple):
    """What :func:`explain` says of one operator, device and backend."""

    op: str
    device: str
    backend: str
    runs: bool
    reason: str


def _native_can_run(op: str, device_type: str, wide: bool) -> str | None:
    if device_type != "cpu":
        return f"the C++ kernels run on CPU tensors, not on {device_type}"
    return _native.unavailable_reason()


def _triton_can_run(op: str, device_type: str, wide: bool) -> str | None:
    from hierpool import _triton

    return _triton.unavailable_reason(op, device_type, wide)


def _reference_can_run(op: str, device_type: str, wide: bool) -> str | None:
    return None


# In order of preference: "auto" takes the first that can run.
_TABLE = (
    Backend("native", "hierpool.ops.native", ("cpu",), _native_can_run),
    Backend("triton", "hierpool.ops.triton", ("cuda",), _triton_can_run),
    Backend("reference", "hierpool.ops.fallback", None, _reference_can_run),
)
NAMES = ("auto", *(backend.name for backend in _TABLE))


def check_name(backend: str) -> None:
    """Raise ``ValueError`` unless ``backend`` is ``"auto"`` or in the table."""
    if backend not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, got {backend!r}")


def _considered(row: Backend, device_type: str) -> bool:
    return row.devices is None or device_type in row.devices


def select(op: str, device_type: str, backend: str = "auto", wide: bool = False) -> Backend:
    """The backend that runs ``op`` on tensors of ``device_type``, of which one is float64 if ``wide``.

    Raises:
        RuntimeError: a backend was named and cannot run; the message is its reason.
    """
    for row in _TABLE:
        if backend == row.name or (backend == "auto" and _considered(row, device_type)):
            reason = row.can_run(op, device_type, wide)
            if reason is None:
                return row
            if backend == row.name:
                raise RuntimeError(f"backend {backend!r} cannot run {op} on {device_type}: {reason}")
    raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, got {backend!r}")


def available(op: str, device_type: str = "cpu") -> list[str]:
    """Names of the backends that can run ``op`` on tensors of ``device_type``, best first."""
    return [row.name for row in _TABLE if row.can_run(op, device_type, False) is None]


def explain(device_types: tuple[str, ...] = ("cpu", "cuda")) -> list[Verdict]:
    """For each operator, device type and backend: whether ``backend="auto"`` takes it, and why not otherwise."""
    verdicts = []
    for op in OPS:
        for device in device_types:
            chosen = select(op, device).name
            for row in _TABLE:
                reason = row.can_run(op, device, False)
                if row.name == chosen:
                    wide = row.can_run(op, device, True)
                    text = "runs" if wide is None else f"runs, except on float64: {wide}"
                elif reason is None and not _considered(row, device):
                    text = f"runs if it is named; {chosen} is preferred"
                else:
                    text = reason or f"{chosen} is preferred"
                verdicts.append(Verdict(op, device, row.name, row.name == chosen, text))
    return verdicts
