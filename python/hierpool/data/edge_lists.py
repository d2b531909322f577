"""Text files with an edge in every line, plain or compressed by gzip."""

from __future__ import annotations

import gzip
import itertools
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data.tu_files import DatasetError

_LINES = 1 << 18  # parsed at a time


class EdgeList(NamedTuple):
    """Edges as a file lists them."""

    source: Tensor  # [E] int64, node ids as written
    target: Tensor  # [E] int64
    weight: Tensor | None  # [E] float64


def read_edge_list(path: str | Path) -> EdgeList:
    """Read ``source target`` or ``source target weight`` from every line.

    Columns are separated by spaces, tabs or commas; node ids are integers of 64 bits, weights finite and not
    negative. Empty lines and what follows a ``#`` are passed over. A name that ends in ``.gz`` is decompressed.

    Raises:
        DatasetError: a line is not that; the message names the file and the line.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    path = Path(path)
    np = require("numpy", "train")
    parts: list[Any] = []
    first = 1
    columns: tuple[int, str | None] | None = None
    with _open(path) as file:
        for lines in _batches(file, path):
            columns = columns or _columns(lines, first, path)
            if columns is not None:
                parts.append(_parse(np, lines, first, columns, path))
            first += len(lines)
    if columns is None:
        raise DatasetError(f"{path} has no edge in it")
    table = np.concatenate(parts)
    source, target = (torch.from_numpy(table[name].copy()) for name in ("source", "target"))
    return EdgeList(source, target, torch.from_numpy(table["weight"].copy()) if columns[0] == 3 else None)


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def _batches(file: IO[str], path: Path) -> Iterator[list[str]]:
    while True:
        try:
            lines = list(itertools.islice(file, _LINES))
        except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise DatasetError(f"{path} cannot be read as text: {error}") from error
        if not lines:
            return
        yield lines


def _content(line: str) -> str:
    return line.split("#", 1)[0].strip()


def _columns(lines: Sequence[str], first: int, path: Path) -> tuple[int, str | None] | None:
    """Number of columns and their separator, from the first line that has any."""
    for number, line in enumerate(lines, first):
        content = _content(line)
        if content:
            separator = "," if "," in content else None
            count = len(content.split(separator))
            if count not in (2, 3):
                raise DatasetError(
                    f"{path}, line {number}: an edge is 'source target' or 'source target weight', got {content!r}"
                )
            return count, separator
    return None


def _parse(np: Any, lines: Sequence[str], first: int, columns: tuple[int, str | None], path: Path) -> Any:
    count, separator = columns
    fields = [("source", "i8"), ("target", "i8"), ("weight", "f8")][:count]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of lines that are all comments
            warnings.simplefilter("error", DeprecationWarning)  # older NumPy reads 0.5 as the integer 0
            table = np.loadtxt(lines, dtype=fields, delimiter=separator, comments="#", ndmin=1)
    except (ValueError, DeprecationWarning) as error:
        _blame(lines, first, columns, path)
        raise DatasetError(f"{path}, lines {first} to {first + len(lines) - 1}: {error}") from error
    if count == 3 and not (np.isfinite(table["weight"]) & (table["weight"] >= 0)).all():
        _blame(lines, first, columns, path)
    return table


def _blame(lines: Sequence[str], first: int, columns: tuple[int, str | None], path: Path) -> None:
    """Find the line that is wrong, and raise."""
    count, separator = columns
    for number, line in enumerate(lines, first):
        content = _content(line)
        if not content:
            continue
        words = content.split(separator)
        where = f"{path}, line {number}"
        if len(words) != count:
            raise DatasetError(
                f"{where}: {count} columns were expected as in the lines before, got {content!r}"
            )
        for word in words[:2]:
            if not _is_id(word):
                raise DatasetError(f"{where}: a node id must be an integer of 64 bits, got {word.strip()!r}")
        if count == 3 and not _is_weight(words[2]):
            raise DatasetError(f"{where}: a weight must be finite and not negative, got {words[2].strip()!r}")


def _is_id(word: str) -> bool:
    try:
        return -(1 << 63) <= int(word) < 1 << 63
    except ValueError:
        return False


def _is_weight(word: str) -> bool:
    try:
        return 0 <= float(word) < float("inf")
    except ValueError:
        return False
