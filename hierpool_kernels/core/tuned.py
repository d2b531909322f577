"""Tables of tuned tiles, one for each architecture, written by ``python -m hierpool_kernels.tune``.

The key of an entry is the name of the plan's function, the precision of products, and the widths of the matrices. Its
value is the tiles ``(bn, bj, bk, warps, stages)`` that were measured to be faster than those of the plan.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

from hierpool_kernels.core.target import Architecture, Target

TABLES = Path(__file__).parents[1] / "tables"
FORMAT = 1
SMALLEST, LARGEST = 16, 256  # sides
ROWS_OF_PRODUCTS = 128  # a chunk of the products may have no more rows
WARPS = (1, 2, 4, 8, 16)

Key = tuple[Any, ...]
Sizes = tuple[int, ...]
Plan = TypeVar("Plan", bound=Callable[..., Any])

_forced: list[tuple[Key, Sizes | None]] = []
_recorders: list[list[Key]] = []


def path_of(architecture: Architecture, folder: Path | None = None) -> Path:
    """The file of the table of an architecture in ``folder``, by default the one of this package; it need not exist."""
    return (folder or TABLES) / f"{architecture.family}_{architecture.version}.json"


def key_of(entry: dict[str, Any]) -> Key:
    """The key of an entry of a table."""
    return (entry["kernel"], *entry["key"])


def checked(tiles: Any, kernel: str = "") -> Sizes:
    """``tiles`` as a tuple.

    Raises:
        ValueError: if no kernel can take such tiles, or the named one cannot.
    """
    if (
        not isinstance(tiles, (list, tuple))
        or len(tiles) != 5
        or any(type(size) is not int for size in tiles)
    ):
        raise ValueError(f"tiles must be five integers, got {tiles!r}")
    *sides, warps, stages = tiles
    if any(not SMALLEST <= side <= LARGEST or side & (side - 1) for side in sides):
        raise ValueError(f"sides must be powers of two from {SMALLEST} to {LARGEST}, got {sides}")
    if kernel == "products" and sides[0] > ROWS_OF_PRODUCTS:
        raise ValueError(f"products take at most {ROWS_OF_PRODUCTS} rows at a time, got {sides[0]}")
    if warps not in WARPS or stages < 1:
        raise ValueError(f"warps must be one of {WARPS} and stages at least 1, got {warps} and {stages}")
    return tuple(tiles)


def read(path: Path) -> dict[str, Any]:
    """The contents of a table: its format, the runs that measured it, its entries; none of an absent file.

    Raises:
        ValueError: if the file is not a table, or has another format.
    """
    if not path.exists():
        return {"format": FORMAT, "runs": [], "entries": []}
    try:
        table = json.loads(path.read_text())
        if table["format"] != FORMAT:
            raise ValueError(f"its format is {table['format']!r}, not {FORMAT}")
        for entry in table["entries"]:
            hash(key_of(entry))
            table["runs"][entry["run"]]
            if entry["tiles"] is not None:  # the plan was the fastest
                checked(entry["tiles"], entry["kernel"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a table of tiles: {type(error).__name__}: {error}") from error
    return dict(table)


@cache
def _entries(folder: Path, architecture: Architecture) -> dict[Key, Sizes]:
    entries = read(path_of(architecture, folder))["entries"]
    return {key_of(entry): tuple(entry["tiles"]) for entry in entries if entry["tiles"] is not None}


def measured(kernel: str, target: Target, precision: str, *widths: int) -> Sizes | None:
    """The tiles of the target's table (read once), or ``None`` if it has none. Those set by :func:`forced` win."""
    key = (kernel, precision, *widths)
    for found in _recorders:
        found.append(key)
    for prefix, tiles in reversed(_forced):
        if key[: len(prefix)] == prefix:
            return tiles
    return _entries(TABLES, target.architecture).get(key)


def kept(plan: Plan) -> Plan:
    """``plan``, which asks the tables, with its answers kept: calls of the same shapes ask again and again."""

    @lru_cache(1024)
    def known(folder: Path, *shapes: Any) -> Any:
        return plan(*shapes)

    @wraps(plan)
    def answer(*shapes: Any) -> Any:
        return plan(*shapes) if _forced or _recorders else known(TABLES, *shapes)

    return answer  # type: ignore[return-value]


@contextmanager
def forced(kernel: str, tiles: Sizes | None, *rest: str | int) -> Iterator[None]:
    """Plans inside the context take these tiles for all keys that start with ``kernel`` and ``rest``; with ``None``,
    their own."""
    _forced.append(((kernel, *rest), None if tiles is None else checked(tiles, kernel)))
    try:
        yield
    finally:
        _forced.pop()


@contextmanager
def record_keys() -> Iterator[list[Key]]:
    """A list of the keys that plans look up inside the context."""
    found: list[Key] = []
    _recorders.append(found)
    try:
        yield found
    finally:
        _recorders.pop()
