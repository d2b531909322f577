"""The backends of operators, and how one is selected.

A backend is a folder with three things:

* ``DEVICES``: the device types for which ``"auto"`` selects it; ``None``: all;
* ``can_run(op, device_type, has_float64)``: ``None``, or the reason why the backend cannot run;
* a module for each of its operators.

The ``reference`` backend runs the composites of operators for which it has no module.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import NamedTuple

from hierpool.backends import native, reference, triton

# In order of preference: "auto" takes the first that can run.
_TABLE = {"native": native, "triton": triton, "reference": reference}
NAMES = ("auto", *_TABLE)


class Verdict(NamedTuple):
    """The entry of :func:`explain` for one operator, device type and backend."""

    op: str
    device: str
    backend: str
    runs: bool
    reason: str


@cache
def _modules(folder: ModuleType) -> frozenset[str]:
    """The names of the operators for which a backend has a module."""
    names = (module.name for module in iter_modules(folder.__path__))
    return frozenset(name for name in names if not name.startswith("_"))


@cache
def operators() -> tuple[str, ...]:
    """The names of all operators, in alphabetical order."""
    return tuple(sorted(frozenset[str]().union(*map(_modules, _TABLE.values()))))


def operators_of(name: str) -> frozenset[str]:
    """The names of the operators that the backend ``name`` has a module for."""
    return _modules(_TABLE[name])


def _reason(name: str, op: str, device_type: str, has_float64: bool) -> str | None:
    folder = _TABLE[name]
    if folder is not reference and op not in _modules(folder):
        return f"the {name} backend does not have this operator"
    reason: str | None = folder.can_run(op, device_type, has_float64)
    return reason


def _is_considered(name: str, device_type: str) -> bool:
    devices = _TABLE[name].DEVICES
    return devices is None or device_type in devices


def check_name(backend: str) -> None:
    """Raise ``ValueError`` unless ``backend`` is ``"auto"`` or the name of a backend."""
    if backend not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, NAMES))}, got {backend!r}")


def select(op: str, device_type: str, backend: str = "auto", has_float64: bool = False) -> str:
    """The name of the backend that runs ``op`` on tensors of ``device_type``.

    Args:
        op: the name of an operator.
        device_type: such as ``"cpu"``.
        backend: the name of a backend, or ``"auto"``.
        has_float64: whether one of the tensors is float64.

    Raises:
        ValueError: ``backend`` is unknown.
        RuntimeError: ``backend`` cannot run; the message gives the reason.
    """
    for name in _TABLE:
        if backend == name or (backend == "auto" and _is_considered(name, device_type)):
            reason = _reason(name, op, device_type, has_float64)
            if reason is None:
                return name
            if backend == name:
                raise RuntimeError(f"backend {backend!r} cannot run {op} on {device_type}: {reason}")
    check_name(backend)
    raise RuntimeError(f"no backend runs {op} on {device_type}")


@cache
def module(op: str, device_type: str, backend: str = "auto", has_float64: bool = False) -> ModuleType | None:
    """The module of the backend that :func:`select` returns; ``None`` is the composite of the operator."""
    folder = _TABLE[select(op, device_type, backend, has_float64)]
    return import_module(f"{folder.__name__}.{op}") if op in _modules(folder) else None


def available(op: str, device_type: str = "cpu") -> list[str]:
    """Names of the backends that can run ``op`` on tensors of ``device_type``, best first."""
    return [name for name in _TABLE if _reason(name, op, device_type, False) is None]


def explain(device_types: tuple[str, ...] = ("cpu", "cuda")) -> list[Verdict]:
    """For each operator, device type and backend: whether ``backend="auto"`` selects it, and the reason."""
    verdicts = []
    for op in operators():
        for device in device_types:
            chosen = select(op, device)
            for name in _TABLE:
                reason = _reason(name, op, device, False)
                if name == chosen:
                    float64 = _reason(name, op, device, True)
                    text = "runs" if float64 is None else f"runs, except on float64: {float64}"
                elif reason is None and not _is_considered(name, device):
                    text = f"runs if it is named; {chosen} is preferred"
                else:
                    text = reason or f"{chosen} is preferred"
                verdicts.append(Verdict(op, device, name, name == chosen, text))
    return verdicts
