"""torch-geometric-pool's dense poolers on the fused operator, without a change to the code that uses them."""

from __future__ import annotations

import importlib
from types import TracebackType
from typing import Any

_POOLERS = "hierpool.integrations._tgp_poolers"
_replaced: list[tuple[type, str, Any]] = []  # class, attribute and what it was, while the patch is in force


def patch() -> Patch:
    r"""Let the dense poolers of an installed torch-geometric-pool ("tgp") pool by :func:`hierpool.soft_pool`.

    From now on, and for poolers that exist already, the forward pass of ``DiffPool``, ``MinCutPooling``,
    ``DMoNPooling``, ``AsymCheegerCutPooling``, ``JustBalancePooling`` and ``HOSCPooling`` makes :math:`S^T X`,
    :math:`S^T A S` and the losses in one pass over the nodes. A sparse input stays sparse: in batched mode, too, no
    ``N x N`` matrix is made. Results are tgp's, in the same ``PoolingOutput``, but where tgp fails. A loss whose
    weight is 0 is a constant 0 and is not computed.

    tgp's own forward pass runs for lifting, for a pooler with ``cached`` set, without an adjacency or with a dense one
    in unbatched mode, and where a class or an instance has its own ``reduce``, ``connect``, loss or preprocessing, a
    reducer or connector other than tgp's, or hooks on these. Selectors may be any that return a dense assignment.

    Use it as a statement, or as a context manager that restores what it found::

        with hierpool.integrations.tgp.patch():
            out = pooler(x, edge_index, batch=batch)

    Calling it again changes nothing, and a context manager inside another leaves the patch in force.

    Returns:
        The context manager.

    Raises:
        ImportError: torch-geometric-pool cannot be imported, or is not of version 1.0.
    """
    return Patch()


def unpatch() -> None:
    """Undo :func:`patch`, however often it was called; without it, nothing happens."""
    while _replaced:
        owner, name, original = _replaced.pop()
        setattr(owner, name, original)


class Patch:
    """Context manager of :func:`patch`: takes the patch back unless it was in force before."""

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
    """Put the patch in force; whether it was not before."""
    if _replaced:
        return False
    replacements = _import_poolers().replacements()
    try:
        for owner, name, function in replacements:
            _replaced.append((owner, name, owner.__dict__[name]))
            setattr(owner, name, function)
    except BaseException:
        unpatch()
        raise
    return True


def _import_poolers() -> Any:
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
            f"torch-geometric-pool must be of version 1.0 for hierpool.integrations.tgp.patch, got {version}"
        )
    return importlib.import_module(_POOLERS)
