"""Tables of measured tiles, one for each architecture, which ``python -m hierpool_kernels.tune`` writes.

A question is what a plan asks a table: the name of the plan's function, how products are taken, the widths. A table
answers with tiles ``(bn, bj, bk, warps, stages)`` where something was found to be faster than the plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hierpool_kernels.target import Architecture, Target

TABLES = Path(__file__).parent / "tables"
FORMAT = 1
SMALLEST, LARGEST = 16, 128  # sides; a slot of the products may have no more than 128 rows
WARPS = (1, 2, 4, 8, 16)

Question = tuple[Any, ...]
Sizes = tuple[int, ...]

_forced: list[tuple[Question, Sizes | None]] = []
_listeners: list[list[Question]] = []


def path_of(architecture: Architecture) -> Path:
    """Where the table of an architecture is, if there is one."""
    return TABLES / f"{architecture.family}_{architecture.version}.json"


def question_of(entry: dict[str, Any]) -> Question:
    """What an entry of a table answers."""
    return (entry["kernel"], *entry["key"])


def checked(tiles: Any) -> Sizes:
    """``tiles`` as a tuple.

    Raises:
        ValueError: no kernel takes such tiles.
    """
    if (
        not isinstance(tiles, (list, tuple))
        or len(tiles) != 5
        or any(type(size) is not int for size in tiles)
    ):
        raise ValueError(f"tiles must be five whole numbers, got {tiles!r}")
    *sides, warps, stages = tiles
    if any(not SMALLEST <= side <= LARGEST or side & (side - 1) for side in sides):
        raise ValueError(f"sides must be powers of two from {SMALLEST} to {LARGEST}, got {sides}")
    if warps not in WARPS or stages < 1:
        raise ValueError(f"warps must be one of {WARPS} and stages at least 1, got {warps} and {stages}")
    return tuple(tiles)


def read(path: Path) -> dict[str, Any]:
    """The contents of a table: its format, the runs that measured it, its entries; none of an absent file.

    Raises:
        ValueError: the file is no table, or one of another format.
    """
    if not path.exists():
        return {"format": FORMAT, "runs": [], "entries": []}
    try:
        table = json.loads(path.read_text())
        if table["format"] != FORMAT:
            raise ValueError(f"its format is {table['format']!r}, not {FORMAT}")
        for entry in table["entries"]:
            hash(question_of(entry))
            table["runs"][entry["run"]]
            if entry["tiles"] is not None:  # the plan was the fastest
                checked(entry["tiles"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a table of tiles: {type(error).__name__}: {error}") from error
    return dict(table)


@cache
def _answers(path: Path) -> dict[Question, Sizes]:
    entries = read(path)["entries"]
    return {question_of(entry): tuple(entry["tiles"]) for entry in entries if entry["tiles"] is not None}


def measured(kernel: str, target: Target, *key: str | int) -> Sizes | None:
    """The tiles of the target's table, which is read once, or ``None`` where it has none; or those that are forced."""
    question = (kernel, *key)
    for found in _listeners:
        found.append(question)
    for asked_for, tiles in reversed(_forced):
        if question[: len(asked_for)] == asked_for:
            return tiles
    return _answers(path_of(target.architecture)).get(question)


@contextmanager
def forced(kernel: str, tiles: Sizes | None, *key: str | int) -> Iterator[None]:
    """Plans inside take these tiles, whatever a table says, for all questions of a kernel or for that of ``key``;
    ``None`` is the plan's own choice."""
    _forced.append(((kernel, *key), None if tiles is None else checked(tiles)))
    try:
        yield
    finally:
        _forced.pop()


@contextmanager
def listen() -> Iterator[list[Question]]:
    """A list of the questions that plans ask inside."""
    found: list[Question] = []
    _listeners.append(found)
    try:
        yield found
    finally:
        _listeners.pop()
