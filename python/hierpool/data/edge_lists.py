"""Text files with an edge in every line, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data.files import DatasetError, load_table

_CHUNK_LINES = 1 << 18  # lines parsed at a time


class EdgeList(NamedTuple):
    """Edges as a file lists them."""

    source: Tensor  # [E] int64, node ids of the file
    target: Tensor  # [E] int64
    weight: Tensor | None  # [E] float64


class _Columns(NamedTuple):
    number: int  # 2, or 3 with weights
    separator: str | None  # None: white space


def read_edge_list(path: str | Path) -> EdgeList:
    """Read ``source target`` or ``source target weight`` from every line.

    Columns are separated by spaces, tabs or commas. Node ids are 64-bit integers. Weights are finite and not negative.
    Empty lines and text after a ``#`` are ignored. A file whose name ends in ``.gz`` is decompressed.

    Raises:
        DatasetError: a line has another form; the message names the file and the line.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    path = Path(path)
    np = require("numpy", "train")
    tables: list[Any] = []
    first = 1  # number of the chunk's first line
    columns: _Columns | None = None
    with _open(path) as file:
        for lines in _chunks(file, path):
            columns = columns or _detect_columns(lines, first, path)
            if columns is not None:
                tables.append(_parse(np, lines, first, columns, path))
            first += len(lines)
    if columns is None:
        raise DatasetError(f"{path} holds no edge")
    table = np.concatenate(tables)
    source, target = (torch.from_numpy(table[name].copy()) for name in ("source", "target"))
    return EdgeList(source, target, torch.from_numpy(table["weight"].copy()) if columns.number == 3 else None)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def _chunks(file: IO[str], path: Path) -> Iterator[list[str]]:
    try:
        while lines := list(itertools.islice(file, _CHUNK_LINES)):
            yield lines
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error


def _edges(lines: Sequence[str], first: int) -> Iterator[tuple[int, str]]:
    """The lines that hold an edge, without comments, and their numbers."""
    for number, line in enumerate(lines, first):
        edge = line.split("#", 1)[0].strip()
        if edge:
            yield number, edge


def _detect_columns(lines: Sequence[str], first: int, path: Path) -> _Columns | None:
    """The columns of the first edge, or ``None`` if no line holds one."""
    for number, edge in _edges(lines, first):
        separator = "," if "," in edge else None
        count = len(edge.split(separator))
        if count not in (2, 3):
            raise DatasetError(
                f"{path}, line {number}: an edge is 'source target' or 'source target weight', got {edge!r}"
            )
        return _Columns(count, separator)
    return None


def _parse(np: Any, lines: Sequence[str], first: int, columns: _Columns, path: Path) -> Any:
    dtype = [("source", "i8"), ("target", "i8"), ("weight", "f8")][: columns.number]
    try:
        table = load_table(lines, dtype=dtype, delimiter=columns.separator, comments="#", ndmin=1)
    except ValueError as error:
        _check_lines(lines, first, columns, path)
        raise DatasetError(f"{path}, lines {first} to {first + len(lines) - 1}: {error}") from error
    if columns.number == 3 and not (np.isfinite(table["weight"]) & (table["weight"] >= 0)).all():
        _check_lines(lines, first, columns, path)
    return table


def _check_lines(lines: Sequence[str], first: int, columns: _Columns, path: Path) -> None:
    """Raise an error that names the first invalid line."""
    for number, edge in _edges(lines, first):
        words = edge.split(columns.separator)
        where = f"{path}, line {number}"
        if len(words) != columns.number:
            raise DatasetError(
                f"{where}: expected {columns.number} columns as in earlier lines, got {edge!r}"
            )
        for word in words[:2]:
            if not _lies_in(int, word, -(1 << 63), 1 << 63):
                raise DatasetError(f"{where}: a node id must be a 64-bit integer, got {word.strip()!r}")
        if columns.number == 3 and not _lies_in(float, words[2], 0, float("inf")):
            raise DatasetError(f"{where}: a weight must be finite and not negative, got {words[2].strip()!r}")


def _lies_in(convert: Callable[[str], float], word: str, low: float, high: float) -> bool:
    try:
        return low <= convert(word) < high
    except ValueError:
        return False
