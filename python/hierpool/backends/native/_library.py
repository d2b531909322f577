"""The native operator library, which is loaded on first use.

``_hierpool_ops.so`` registers the C++ kernels with PyTorch's dispatcher under ``torch.ops.hierpool_native``. It has
no Python symbols, and works with every torch from :data:`MINIMUM_TORCH` on. ``_C`` is an extension module that reads
text files faster; nothing needs it. ``_build.json`` records which of them were built, and why not otherwise.
"""

from __future__ import annotations

import ctypes
import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

MINIMUM_TORCH = (2, 10)
LIBRARY_NAME = "_hierpool_ops.so"
REMEDY = (
    "To get the native backend, install a C++20 compiler (g++ 11, clang 14 or newer) and run, in a checkout of"
    " hierpool, `HIERPOOL_REQUIRE_NATIVE=1 pip install --force-reinstall --no-deps .`;"
    " if the build fails, this stops with the compiler's error."
)

_HERE = Path(__file__).parents[2]  # the folder of the package


class BuildRecord(NamedTuple):
    """The contents of ``_build.json``.

    Attributes:
        native: whether the operator library was built.
        python_module: whether the ``_C`` module was built.
        reason: why the library was not built; empty if it was.
        details: the end of the output of a failed build; empty otherwise.
    """

    native: bool
    python_module: bool
    reason: str
    details: str


def read_build_record(folder: Path = _HERE) -> BuildRecord:
    """The build record, or a record whose reason is that the file is missing or unreadable."""
    path = folder / "_build.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return BuildRecord(**{name: content[name] for name in BuildRecord._fields})
    except FileNotFoundError:
        reason = f"{path} does not exist: the package was not installed by pip (running from a source tree?)"
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{path} cannot be read as a build record ({type(error).__name__}: {error})"
    return BuildRecord(native=False, python_module=False, reason=reason, details="")


def _load_reason(folder: Path) -> str | None:
    """Load the library in ``folder``; returns ``None``, or the reason why it was not loaded."""
    import torch

    library = folder / LIBRARY_NAME
    if not library.exists():
        record = read_build_record(folder)
        cause = "its file is gone although it was built" if record.native else record.reason
        return f"the native library is not installed: {cause}"
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MINIMUM_TORCH:
        minimum = ".".join(map(str, MINIMUM_TORCH))
        return f"the native library needs torch {minimum} or newer, this is torch {torch.__version__}"
    try:
        torch.ops.load_library(str(library))
    except (OSError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        return f"the native library {library} was found but does not load in torch {torch.__version__}: {first_line}"
    return None


class NativeLibrary:
    """Loads a library at most once and keeps the outcome. It is thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._tried = False
        self._reason: str | None = None

    def unavailable_reason(self) -> str | None:
        """``None`` if the library is loaded, else the reason."""
        if not self._tried:
            with self._lock:
                if not self._tried:
                    self._reason = _load_reason(self._folder)
                    self._tried = True
        return self._reason


_LIBRARY = NativeLibrary(_HERE)
unavailable_reason = _LIBRARY.unavailable_reason


def build_facts(folder: Path = _HERE) -> dict[str, Any]:
    """What the library says of the processor (``cpu``) and of its build (``build``).

    ``cpu`` has the ``supported`` instruction sets, ``cap``, the value of ``HIERPOOL_CPU_ISA`` or None, and ``isa``, the
    instruction set that the kernels use now. ``build`` has compiler, flags, processor and version of torch's headers.

    Raises:
        ImportError: the library is not there or does not load; the message is the reason.
        ValueError: ``HIERPOOL_CPU_ISA`` names an unknown or unsupported instruction set.
    """
    reason = unavailable_reason() if folder == _HERE else _load_reason(folder)
    if reason is not None:
        raise ImportError(reason)
    library = ctypes.CDLL(str(folder / LIBRARY_NAME))

    def ask(name: str) -> dict[str, Any]:
        function = getattr(library, name)
        function.restype = ctypes.c_char_p
        answer: dict[str, Any] = json.loads(function().decode())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    return {"cpu": ask("hierpool_cpu_features"), "build": ask("hierpool_build_info")}
