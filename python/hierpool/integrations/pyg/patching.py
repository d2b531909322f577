"""Putting hierpool's functions in the place of PyTorch Geometric's, and taking them out again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any

from hierpool._extras import require
from hierpool.integrations.pyg import stand_ins
from hierpool.integrations.pyg.stand_ins import Settings

NAMES = {
    "dense_diff_pool": "torch_geometric.nn.dense.diff_pool",
    "dense_mincut_pool": "torch_geometric.nn.dense.mincut_pool",
    "DMoNPooling": "torch_geometric.nn.dense.dmon_pool",
}

_originals: dict[str, Any] = {}  # PyTorch Geometric's by name, while they are replaced


class Patch:
    """What :func:`patch` returns: a context that restores on exit how things were before the call."""

    def __init__(self, was_in_force: bool, pyg_compat: bool) -> None:
        self._was_in_force = was_in_force
        self._pyg_compat = pyg_compat

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._was_in_force:
            unpatch()
        elif _originals:
            Settings.pyg_compat = self._pyg_compat


def patch(*, pyg_compat: bool = False) -> Patch:
    """Let programs that use PyTorch Geometric's dense pooling use hierpool's, without a change.

    ``dense_diff_pool``, ``dense_mincut_pool`` and ``DMoNPooling`` are replaced in ``torch_geometric.nn``, in
    ``torch_geometric.nn.dense``, in their own modules, and in every other module that is loaded and has one of them in
    a global variable, by whatever name: what a program imported from PyTorch Geometric before the call is replaced as
    well. For that all of ``sys.modules`` is looked through, which takes some milliseconds and imports nothing. What is
    kept elsewhere (in an attribute of an object, a default argument, a closure, a layer that exists) stays.

    Calling it twice is calling it once; :func:`unpatch` takes it back however often it was called. As a context
    (``with patch(): ...``) it takes itself back at the end, also after an exception, unless it was in force before.

    Args:
        pyg_compat: that of every :class:`hierpool.DMoNPooling` made under the name of PyTorch Geometric's.

    Raises:
        ImportError: PyTorch Geometric is not installed; the message says what brings it.

    What changes besides speed is listed in ``docs/switching.md``. While it is in force:

    * ``isinstance(layer, torch_geometric.nn.DMoNPooling)`` is about hierpool's class: false of layers made before.
    * ``torch.jit.script`` does not take the functions or the layer, which call operators defined in Python;
      ``torch.compile`` and ``torch.export`` do.
    * A pickled layer, as opposed to a state dict, names hierpool's class and needs hierpool when it is
      loaded. A layer pickled before loads as hierpool's; one made before cannot be pickled, as its class is not found
      under its name.
    * ``pool="pyg"`` of a :class:`hierpool.nn.DiffPool` made now, meant for comparisons, is hierpool as well.
    """
    if not isinstance(pyg_compat, bool):
        raise TypeError(f"pyg_compat must be True or False, got {pyg_compat!r}")
    require("torch_geometric.nn", "pyg")
    before = Patch(bool(_originals), Settings.pyg_compat)
    if not _originals:
        found = {name: getattr(require(module, "pyg"), name) for name, module in NAMES.items()}
        _rebind({id(found[name]): getattr(stand_ins, name) for name in NAMES})
        _originals.update(found)
    Settings.pyg_compat = pyg_compat
    return before


def unpatch() -> None:
    """Give PyTorch Geometric's names back, in every module that :func:`patch` would change. Without a patch, nothing.

    Modules that were loaded while it was in force get PyTorch Geometric's functions, too; layers that were made then
    stay hierpool's.
    """
    if _originals:
        _rebind({id(getattr(stand_ins, name)): original for name, original in _originals.items()})
        _originals.clear()
    Settings.pyg_compat = False


def _rebind(replacements: dict[int, Any]) -> None:
    """Replace objects, given by their ids, in all modules, or, if that fails in one, in none."""
    done: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for variables in _globals():
            for name, value in list(variables.items()):
                if id(value) in replacements:
                    done.append((variables, name, value))
                    variables[name] = replacements[id(value)]
    except BaseException:
        for variables, name, value in reversed(done):
            variables[name] = value
        raise


def _globals() -> Iterator[dict[str, Any]]:
    """Global variables of the loaded modules, but for the one that holds the stand-ins; no attribute is evaluated."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module is not stand_ins:
            yield vars(module)
