"""Optional dependencies: imported when used, and named by their extra when they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: name to import, for example ``"matplotlib.figure"``.
        extra: the extra of this package that brings it.

    Raises:
        ImportError: it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed here and could not be imported ({error}); "
            f"install it with: pip install 'hierpool[{extra}]'"
        ) from error
