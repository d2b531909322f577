"""Replace poolers of PyTorch Geometric, and restore them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any

from hierpool._extras import require
from hierpool.integrations.pyg import asap_pooling, stand_ins
from hierpool.integrations.pyg.stand_ins import Settings

NAMES = {
    "ClusterPooling": "torch_geometric.nn.pool.cluster_pool",
    "dense_diff_pool": "torch_geometric.nn.dense.diff_pool",
    "dense_mincut_pool": "torch_geometric.nn.dense.mincut_pool",
    "DMoNPooling": "torch_geometric.nn.dense.dmon_pool",
    "EdgePooling": "torch_geometric.nn.pool.edge_pool",
    "filter_adj": "torch_geometric.nn.pool.connect.filter_edges",
    "graclus": "torch_geometric.nn.pool.graclus",
    "pool_edge": "torch_geometric.nn.pool.pool",
    "topk": "torch_geometric.nn.pool.select.topk",
}

METHODS = {("torch_geometric.nn.pool.asap", "ASAPooling", "forward"): asap_pooling.forward}

_originals: dict[str, Any] = {}  # the replaced objects of PyTorch Geometric by name


_methods: list[tuple[Any, str, Any]] = []  # class, name and replaced method


class Patch:
    """The context manager of :func:`patch`. It restores on exit what the call changed."""

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
    """Replace poolers of PyTorch Geometric by those of hierpool, in the whole program.

    ``dense_diff_pool``, ``dense_mincut_pool``, ``DMoNPooling``, ``EdgePooling``, ``ClusterPooling``, ``graclus``, and
    the functions ``topk``, ``filter_adj`` and ``pool_edge`` are replaced in ``torch_geometric.nn``, in its packages
    ``dense`` and ``pool``, in their own modules, and in the global variables of all loaded modules. Names that the
    program has imported before are therefore replaced as well. So ``TopKPooling``, ``SAGPooling``, ``PANPooling``,
    ``ASAPooling``, ``max_pool`` and ``avg_pool``, also existing layers, select nodes, filter edges and merge them by
    hierpool's kernels, and ``graclus`` needs no compiled package. The forward pass of ``ASAPooling`` is replaced, too,
    of which hierpool computes the product of three sparse matrices. The search through ``sys.modules`` takes some
    milliseconds and imports nothing. Other references are not replaced: attributes of objects, default arguments,
    closures, and existing layers of the replaced classes.

    A second call has no effect. :func:`unpatch` undoes any number of calls. The context manager (``with patch(): ...``)
    restores PyTorch Geometric at the end, also after an exception, unless the patch was active before.

    Args:
        pyg_compat: the argument of every :class:`hierpool.DMoNPooling` that is made under the name of PyTorch
            Geometric's layer.

    Raises:
        ImportError: PyTorch Geometric is not installed; the message says how to install it.

    ``docs/switching.md`` lists the differences of results. While the patch is active:

    * ``isinstance(layer, torch_geometric.nn.DMoNPooling)`` tests for hierpool's class and is ``False`` for layers made
      before. So do those of ``EdgePooling`` and ``ClusterPooling``.
    * ``torch.jit.script`` does not support the functions and the layers, because they call operators defined in Python.
      ``torch.compile`` and ``torch.export`` do, but for sparse poolers, whose sizes depend on values.
    * A pickled layer, unlike a state dict, contains the name of hierpool's class and needs hierpool when it is loaded.
      A layer pickled before the patch is loaded as hierpool's layer. A layer made before cannot be pickled, because its
      class is not found under its name.
    * A new :class:`hierpool.nn.DiffPool` with ``pool="pyg"`` uses hierpool as well.
    """
    if not isinstance(pyg_compat, bool):
        raise TypeError(f"pyg_compat must be True or False, got {pyg_compat!r}")
    require("torch_geometric.nn", "pyg")
    before = Patch(bool(_originals), Settings.pyg_compat)
    if not _originals:
        found = {name: getattr(require(module, "pyg"), name) for name, module in NAMES.items()}
        _rebind({id(found[name]): getattr(stand_ins, name) for name in NAMES})
        _originals.update(found)
        for (module, kind, name), function in METHODS.items():
            owner = getattr(require(module, "pyg"), kind)
            _methods.append((owner, name, owner.__dict__[name]))
            setattr(owner, name, _method(function))
    Settings.pyg_compat = pyg_compat
    return before


def unpatch() -> None:
    """Undo :func:`patch` in all modules, also in those loaded since. Without a patch, do nothing.

    Layers that were made under the patch remain hierpool's.
    """
    if _originals:
        _rebind({id(getattr(stand_ins, name)): original for name, original in _originals.items()})
        _originals.clear()
    while _methods:
        owner, name, method = _methods.pop()
        setattr(owner, name, method)
    Settings.pyg_compat = False


def _method(function: Any) -> Any:
    """A function as a method of a class."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    return forward


def _rebind(replacements: dict[int, Any]) -> None:
    """Replace objects, given by their ids, in all modules; if one module fails, in none."""
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
    """The global variables of all loaded modules except :mod:`.stand_ins`, without evaluating attributes."""
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module is not stand_ins:
            yield vars(module)
