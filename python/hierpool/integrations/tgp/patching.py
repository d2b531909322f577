"""Make poolers of torch-geometric-pool use hierpool, and undo that."""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any

_REPLACEMENTS = "hierpool.integrations.tgp.poolers", "hierpool.integrations.tgp.selecting"
_replaced: list[tuple[Any, str, Any]] = []  # owner, attribute and original value, while the patch is active


def patch() -> Patch:
    r"""Make the poolers of torch-geometric-pool ("tgp") use hierpool.

    Of the dense poolers, the patch changes the forward pass of ``DiffPool``, ``MinCutPooling``, ``DMoNPooling``,
    ``AsymCheegerCutPooling``, ``JustBalancePooling`` and ``HOSCPooling``, also of existing poolers, to
    :func:`hierpool.soft_pool`. One pass over the nodes and edges computes :math:`S^T X`, :math:`S^T A S` and the
    losses. Sparse input is not converted to an ``N x N`` matrix, also in batched mode. The results are those of tgp, in
    the same ``PoolingOutput``, except in cases in which tgp fails. A loss with weight 0 is not computed and is the
    constant 0.

    Their own forward pass still runs in these cases:

    * lifting, or a pooler with ``cached`` set;
    * no adjacency, or a dense adjacency in unbatched mode;
    * a class or instance that overrides ``reduce``, ``connect``, a loss or preprocessing, that has a reducer or
      connector other than tgp's, or hooks on them;
    * a selector that does not return a dense assignment.

    Of the sparse poolers, the patch replaces functions that select nodes and connect supernodes: those of
    ``TopkPooling``, ``SAGPooling``, ``ASAPooling`` and ``PANPooling``, whose edges join other nodes without it, of
    ``KMISPooling`` and ``EdgeContractionPooling``, which need no compiled package then, of ``GraclusPooling``,
    ``NDPPooling``, with ``KronConnect`` wherever it is, and ``MaxCutPooling``.

    Use it as a statement or as a context manager::

        with hierpool.integrations.tgp.patch():
            out = pooler(x, edge_index, batch=batch)

    A second call has no effect. The context manager restores tgp unless the patch was active before.

    Returns:
        The context manager.

    Raises:
        ImportError: torch-geometric-pool cannot be imported, or its version is not 1.0.
    """
    return Patch()


def unpatch() -> None:
    """Undo any number of calls of :func:`patch`. Without a patch, do nothing."""
    while _replaced:
        owner, name, original = _replaced.pop()
        setattr(owner, name, original)


class Patch:
    """The context manager of :func:`patch`. It undoes the patch unless the patch was active before."""

    def __init__(self) -> None:
        self._mine = _apply()

    def __enter__(self) -> Patch:
        self._mine = _apply() or self._mine
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mine:
            unpatch()
            self._mine = False


def _apply() -> bool:
    """Activate the patch; returns whether it was inactive before."""
    if _replaced:
        return False
    replacements = [found for module in _import_replacements() for found in module.replacements()]
    try:
        for owner, name, function in replacements:
            _replaced.append((owner, name, owner.__dict__[name]))
            setattr(owner, name, function)
    except BaseException:
        unpatch()
        raise
    return True


def _import_replacements() -> list[Any]:
    try:
        tgp = importlib.import_module("tgp")
        importlib.import_module("tgp.poolers")
    except ImportError as error:
        raise ImportError(
            f"torch-geometric-pool is needed by hierpool.integrations.tgp.patch and could not be imported ({error}); "
            "install it with: pip install torch-geometric-pool torch-scatter scikit-learn"
        ) from error
    version = str(getattr(tgp, "__version__", "unknown"))
    if version.split(".")[:2] != ["1", "0"]:
        raise ImportError(
            f"torch-geometric-pool must have version 1.0 for hierpool.integrations.tgp.patch, got {version}"
        )
    return [importlib.import_module(name) for name in _REPLACEMENTS]
