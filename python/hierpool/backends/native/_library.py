"""The native operator library, which is loaded on first use.

``_hierpool_ops.so`` registers the C++ kernels with PyTorch's dispatcher under ``torch.ops.hierpool_native``. It contains
no Python symbols and works with every torch from :data:`MINIMUM_TORCH` on. ``_C`` is an extension module that reads
text files faster; nothing else needs it. ``_build.json`` records which of them were built, and why not otherwise.
"""

from __future__ import annotations

import importlib
import json
import threading
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

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


def python_module() -> ModuleType:
    """The ``_C`` module: ``cpu_features()`` and ``build_info()``.

    Raises:
        ImportError: the module was not built or cannot be loaded; the message gives the reason.
    """
    try:
        return importlib.import_module("hierpool._C")
    except ModuleNotFoundError as error:
        if read_build_record().native:
            cause = "this build was made with HIERPOOL_PYMODULE=0, or for another Python version"
        else:
            cause = "the native part was not built"
        raise ImportError(f"the module hierpool._C is not installed: {cause}") from error
