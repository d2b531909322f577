"""Lines and columns of text files, plain or compressed by gzip."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, cast

from hierpool._extras import require
from hierpool.data.files import DatasetError

CHUNK_LINES = 1 << 18  # lines parsed at a time
_GZIP = b"\x1f\x8b"  # first bytes of a compressed file, whatever its name
_INTEGER = re.compile(r"([+-]?\d{1,30})(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?", re.ASCII)
Numbered = tuple[int, str]  # the number of a line, from 1, and its text


def without_compression(path: Path) -> Path:
    """The path without the suffix of a compressed file."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, decompressed if its name ends in ``.gz`` or it starts as such a file does."""
    with open(path, "rb") as file:
        if path.suffix.lower() == ".gz" or file.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=file) as decompressed:
                yield cast(IO[bytes], decompressed)
        else:
            yield file


def read_chunks(path: Path) -> Iterator[list[str]]:
    """Yield the lines of UTF-8 text, with or without byte order mark, many at a time.

    Raises:
        DatasetError: the file is damaged or no text.
        OSError: the file cannot be read.
    """
    try:
        with open_binary(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as text:
            while lines := list(itertools.islice(text, CHUNK_LINES)):
                yield lines
    except (EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as text: {error}") from error


def contents(lines: Iterable[str], first: int = 1, *, trailing: bool = True) -> Iterator[Numbered]:
    """The lines that are neither empty nor comments, which start with ``#`` or ``%``, and their numbers.

    ``trailing`` also removes text after a ``#`` in a line.
    """
    for number, line in enumerate(lines, first):
        text = line.strip()
        if text and text[0] not in "#%":
            yield number, text.partition("#")[0].rstrip() if trailing else text


def detect_separator(text: str) -> str | None:
    """The separator of a line: a semicolon, a comma, a tab, or ``None`` for white space."""
    for separator in ";,":
        if separator in text:
            return separator
    # Tabs and spaces may be mixed between numbers; names may have spaces.
    return "\t" if "\t" in text and not all(map(is_number, text.split())) else None


def split(text: str, separator: str | None) -> list[str]:
    """The columns of a line; quoted columns may hold separators.

    Raises:
        ValueError: a quotation mark is missing.
    """
    if '"' in text:
        try:
            options: Any = {"delimiter": separator or " ", "skipinitialspace": True, "strict": True}
            return [word.strip() for word in next(csv.reader([text], **options))]
        except csv.Error as error:
            raise ValueError(f"{error}, got {text!r:.80}") from error
    return text.split() if separator is None else [word.strip() for word in text.split(separator)]


def is_number(word: str) -> bool:
    """True for a finite decimal number."""
    return _NUMBER.fullmatch(word) is not None


def as_integer(word: str) -> int | None:
    """The 64-bit integer that a word is, also with decimals of 0, or ``None``."""
    if match := _INTEGER.fullmatch(word):
        value = int(match[1])
    elif is_number(word) and (number := Decimal(word)).adjusted() < 19 and number == int(number):
        value = int(number)
    else:
        return None
    return value if -(1 << 63) <= value < 1 << 63 else None


def load_table(lines: Any, **options: Any) -> Any:
    """Read a table with ``numpy.loadtxt``; an empty table is no warning, and 0.5 is no integer.

    Raises:
        ValueError: a value cannot be read.
        ImportError: NumPy is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # NumPy warns of empty tables
        warnings.simplefilter("error", DeprecationWarning)  # older NumPy reads 0.5 as the integer 0
        try:
            return require("numpy", "train").loadtxt(lines, **options)
        except DeprecationWarning as error:
            raise ValueError(str(error)) from error


def parse_numbers(lines: Sequence[Numbered], separator: str | None, *, integers: bool) -> Any:
    """A table of numbers, int64 or float64 ``[rows, columns]``.

    Raises:
        ValueError: a line has another number of columns than the first, or a word is no number; the message has the
            number of the line.
        ImportError: NumPy is not installed.
    """
    np = require("numpy", "train")
    try:
        return load_table(
            [text for _, text in lines],
            dtype=np.int64 if integers else np.float64,
            delimiter=separator,
            comments=None,
            ndmin=2,
        )
    except ValueError:
        rows = []
        for number, text in lines:
            try:
                words = split(text, separator)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            rows.append(words)
            if len(words) != len(rows[0]):
                expected = f"expected {len(rows[0])} columns as in the first line"
                raise ValueError(f"line {number}: {expected}, got {text!r:.80}") from None
            for word in words:
                if as_integer(word) is None if integers else not is_number(word):
                    kind = "a 64-bit integer" if integers else "a finite number"
                    raise ValueError(f"line {number}: expected {kind}, got {word!r:.80}") from None
        convert: Any = as_integer if integers else float
        return np.array([[convert(word) for word in words] for words in rows])
