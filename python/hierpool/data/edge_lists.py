"""Text files with an edge in every line."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import text
from hierpool.data.files import DatasetError

_FORMS = "'source target' or 'source target weight'"
# Lower-case names of columns.
_SOURCES = {"source", "from", "src", "fromnodeid", "from_node", "node1", "node_1", "id1", "id_1", "source_id"}
_TARGETS = {"target", "to", "dst", "dest", "tonodeid", "to_node", "node2", "node_2", "id2", "id_2"}
_WEIGHTS = {"weight", "weights", "w", "value", "count", "multiplicity"}
_NO_WEIGHTS = {"time", "timestamp", "t", "date", "year", "id", "type", "label", "timeset", "sign"}
_ATTRIBUTES = re.compile(r"\{.*\}$")  # a dictionary at the end of a line
_NUMPY_NUMBER = re.compile(r"np\.\w+\(([^()]*)\)")  # as its elements are written by NumPy 2
_NUMBERS = re.compile(r"[\s,;]+")


class EdgeList(NamedTuple):
    """Edges as a file lists them."""

    source: Tensor  # [E] int64, node ids of the file, or indices of names
    target: Tensor  # [E] int64
    weight: Tensor | None  # [E] float64
    names: tuple[str, ...] | None = None  # in ascending order
    notes: tuple[str, ...] = ()  # what was read as a header or left out


class _Columns(NamedTuple):
    """How a line is read."""

    number: int
    separator: str | None  # None: white space
    source: int = 0
    target: int = 1
    weight: int | None = None
    names: bool = False
    notes: tuple[str, ...] = ()
    first: int = 1  # number of the first edge's line


def read_edge_list(path: str | Path, *, names: bool | None = None) -> EdgeList:
    """Read ``source target`` or ``source target weight`` from every line.

    Columns are separated by white space, commas or semicolons. Node ids are 64-bit integers, also written as ``1.0``,
    or names: names if the first edge has an id that is no number. Weights are finite and not negative. Empty lines and
    lines that start with ``#`` or ``%`` are ignored, and text after a ``#`` unless ids are names. The first line may
    name the columns; columns other than source, target and weight are then left out. A file that starts with a ``%``
    may have KONECT's fourth column of times. A dictionary of attributes, which NetworkX writes, may have a weight.
    Files compressed by gzip are decompressed.

    Args:
        path: path of the file.
        names: ids are names; ``None`` decides by the first edge.

    Raises:
        DatasetError: a line has another form; the message names the file and the line.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    path = Path(path)
    np = require("numpy", "train")
    parts: list[list[Any]] = []  # source, target and weight of every chunk
    index: dict[str, int] = {}  # of names, in the order of the file
    first = 1  # number of the chunk's first line
    konect = False
    columns: _Columns | None = None
    for lines in text.read_chunks(path):
        if first == 1:
            konect = lines[0].startswith("%")
            if lines[0].startswith("% bip"):
                raise DatasetError(
                    f"{path} holds a bipartite graph, whose two columns number different nodes"
                )
        columns = columns or detect(lines, first, path, konect, names)
        if columns is not None:
            start = max(columns.first - first, 0)
            parts.append(_parse(np, lines[start:], first + start, columns, index, path))
        first += len(lines)
    arrays = [torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True)]
    if columns is None or len(arrays[0]) == 0:
        raise DatasetError(f"{path} holds no edge")
    source, target = arrays[:2]
    weight = arrays[2] if len(arrays) > 2 else None
    if not columns.names:
        return EdgeList(source, target, weight, None, columns.notes)
    ordered = tuple(sorted(index))
    place = torch.empty(len(index), dtype=torch.int64)
    place[torch.tensor([index[name] for name in ordered])] = torch.arange(len(index))
    return EdgeList(place[source], place[target], weight, ordered, columns.notes)


def _plain(line: str) -> str:
    """The line with the weight of a dictionary of attributes in place of it."""
    attributes = _ATTRIBUTES.search(line) if line[-1] == "}" else None
    if attributes is None:
        return line
    head = line[: attributes.start()].rstrip(" \t,;")
    separator = text.detect_separator(head)
    if len(text.split(head, separator)) != 2:
        raise ValueError(f"expected two nodes before the attributes, got {line!r:.80}")
    weight = None if attributes[0] == "{}" else _weight_of(attributes[0])
    return head if weight is None else f"{head}{separator or ' '}{weight}"


def _weight_of(attributes: str) -> Any:
    """The weight in a dictionary, which may be missing."""
    try:
        return ast.literal_eval(_NUMPY_NUMBER.sub(r"\1", attributes)).get("weight")
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        raise ValueError(f"expected a dictionary of attributes, got {attributes!r:.80}") from error


def detect(lines: Sequence[str], first: int, path: Path, konect: bool, names: bool | None) -> _Columns | None:
    """The columns of the first edge, or ``None`` if no line holds one."""
    rows = text.contents(lines, first, trailing=names is not True)
    number, line = next(rows, (0, ""))
    if not line:
        return None
    after, following = next(rows, (number + 1, ""))
    try:
        line = _plain(line)
        separator = text.detect_separator(line)
        words, next_words = text.split(line, separator), _words_after(following, separator)
        found = _read_header(words, next_words, names is True)
        if found is not None:
            head = f"line {number} was read as names of columns: {', '.join(words)}"
            found = found._replace(notes=(head, *found.notes), first=after)
            words = next_words or words
        elif len(words) in (2, 3) or (len(words) == 4 and konect):
            notes = ("the fourth column, times, was left out",) if len(words) == 4 else ()
            found = _Columns(
                len(words), None, weight=2 if len(words) > 2 else None, notes=notes, first=number
            )
        else:
            raise ValueError(f"an edge is {_FORMS}, got {line!r:.80}")
        if names is None and len(words) == found.number:
            ids = words[found.source], words[found.target]
            names = not all(map(text.is_number, ids))
            if names and any(map(_is_several_numbers, ids)):
                raise ValueError(f"an edge is {_FORMS}, got {line!r:.80}")
    except ValueError as error:
        raise DatasetError(f"{path}, line {number}: {error}") from error
    return found._replace(separator=separator, names=names is True)


def _words_after(line: str, separator: str | None) -> list[str]:
    """The columns of the line after the first; none if it is invalid, which is reported when it is parsed."""
    try:
        return text.split(_plain(line), separator) if line else []
    except ValueError:
        return []


def _is_several_numbers(word: str) -> bool:
    """True for ``0 1`` and ``0,5``, which are no names but come of another separator."""
    parts = _NUMBERS.split(word)
    return len(parts) > 1 and all(map(text.is_number, parts))


def _read_header(words: list[str], after: list[str], names: bool) -> _Columns | None:
    """The columns that a line names, or ``None`` if it is an edge."""
    lower = [word.lower() for word in words]
    named = [i for i, word in enumerate(lower) if word]  # a column of row numbers may have no name
    if len(named) < 2 or any(map(text.is_number, words)):
        return None
    source = next((i for i in named if lower[i] in _SOURCES), None)
    target = next((i for i in named if lower[i] in _TARGETS), None)
    if source is None or target is None:
        source, target = named[:2]
        numeric = len(after) == len(words) and all(text.is_number(after[i]) for i in (source, target))
        if names or not numeric:
            return None
    others = [i for i in named if i not in (source, target)]
    weight = next((i for i in others if lower[i] in _WEIGHTS), None)
    if weight is None and len(others) == 1 and lower[others[0]] not in _NO_WEIGHTS:
        weight = others[0]
    unused = [words[i] for i in others if i != weight]
    notes = (f"columns were left out: {', '.join(unused)}",) if unused else ()
    return _Columns(len(words), None, source, target, weight, notes=notes)


def _parse(
    np: Any, lines: Sequence[str], first: int, columns: _Columns, index: dict[str, int], path: Path
) -> list[Any]:
    """Arrays of the sources, the targets and, if there are any, the weights of the edges in ``lines``."""
    kinds = {columns.source: "i8", columns.target: "i8"}
    if columns.weight is not None:
        kinds[columns.weight] = "f8"
    if not columns.names:
        fast = _parse_plain(list(lines), columns)
        if fast is not None:
            return fast
        dtype = [(str(i), kinds.get(i, "U1")) for i in range(columns.number)]
        try:
            table = text.load_table(lines, dtype=dtype, delimiter=columns.separator, comments="#", ndmin=1)
            found = [np.ascontiguousarray(table[str(i)]) for i in kinds]
            if columns.weight is None or (np.isfinite(found[2]) & (found[2] >= 0)).all():
                return found
        except ValueError:
            pass  # other forms and errors are found line by line
    rows = []
    for number, line in text.contents(lines, first, trailing=not columns.names):
        try:
            rows.append(_parse_edge(_plain(line), columns, index))
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from error
    parts = zip(*rows, strict=True) if rows else [()] * len(kinds)
    return [np.array(part, dtype=kind) for part, kind in zip(parts, kinds.values(), strict=True)]


def _parse_plain(lines: list[str], columns: _Columns) -> list[Any] | None:
    """The same in C++, or ``None`` if a line has another form or this installation has no module for this Python."""
    try:
        module = importlib.import_module("hierpool._C")
    except ImportError:
        return None
    weight = -1 if columns.weight is None else columns.weight
    found = module.read_edges(
        lines, columns.separator or "", columns.number, columns.source, columns.target, weight
    )
    return None if found is None else list(found)


def _parse_edge(line: str, columns: _Columns, index: dict[str, int]) -> tuple[float, ...]:
    """Source, target and, if there is one, the weight of an edge."""
    words = text.split(line, columns.separator)
    if len(words) != columns.number:
        hint = "" if columns.names else "; lines of any length are read by the format metis"
        raise ValueError(f"expected {columns.number} columns as in earlier lines, got {line!r:.80}{hint}")
    pair = words[columns.source], words[columns.target]
    ids: list[float] = []
    if columns.names:
        if not all(pair) or (columns.separator is None and ("," in line or ";" in line)):
            raise ValueError(f"a name must not be empty nor have another separator, got {line!r:.80}")
        ids += [index.setdefault(name, len(index)) for name in pair]
    else:
        for word in pair:
            if (value := text.as_integer(word)) is None:
                raise ValueError(
                    f"a node id must be a 64-bit integer, got {word!r:.80}; pass the format names if ids are names"
                )
            ids.append(value)
    if columns.weight is not None:
        word = words[columns.weight]
        ids.append(float(word) if text.is_number(word) else -1.0)
        if not 0 <= ids[2] < float("inf"):
            raise ValueError(f"a weight must be finite and not negative, got {word!r:.80}")
    return (*ids,)
