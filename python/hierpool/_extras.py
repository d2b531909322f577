"""Imports of optional dependencies."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        module: name of the module, for example ``"matplotlib.figure"``.
        extra: extra of this package that installs it.

    Raises:
        ImportError: the module cannot be imported; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed here and could not be imported ({error}); "
            f"install it with: pip install 'hierpool[{extra}]'"
        ) from error
