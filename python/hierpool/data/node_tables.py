"""Features and labels of nodes from files, and the nodes that only these files name."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import text
from hierpool.data.files import DatasetError
from hierpool.data.large_graphs import LargeGraph, with_nodes
from hierpool.data.matrix_files import as_features, as_labels, check_rows

_IDS = {"id", "node", "node_id", "nodeid", "name"}
_LABELS = {"label", "labels", "class", "cluster", "community", "y"}


class NodeTable(NamedTuple):
    """A row for each node."""

    path: Path
    ids: list[str] | None  # ids of the rows; None: rows are in the order of ids
    values: Tensor  # float32 [rows, F], or int64 [rows], numbered from 0, -1 for unknown labels


def read_rows(path: str | Path, kind: str, *, ids: bool = False) -> NodeTable:
    """Read features or labels of nodes from a ``.npy`` file or a text table.

    Columns are separated by white space, commas or semicolons. The first line may name them. The first column holds ids
    if it is named ``id``, ``node`` or ``name``, if ``ids`` is true, or if a file of labels has two columns without
    names.

    Args:
        path: path of the file.
        kind: ``"features"`` are finite numbers. ``"labels"`` are integers from 0, or -1 for an unknown label; they are
            numbered from 0 in ascending order.
        ids: the first column holds ids of nodes.

    Raises:
        DatasetError: the contents are invalid; the message names the file and the line.
        OSError: the file cannot be read.
        ImportError: NumPy is not installed.
    """
    path = Path(path)
    labels = kind == "labels"
    names: list[str] | None = None
    lines: list[int] | None = None
    if path.suffix.lower() == ".npy":
        if ids:
            raise DatasetError(f"{path} cannot hold ids; a text file can")
        values = _load_array(path, kind)
    else:
        names, values, lines = _read_text(path, kind, ids)
    if labels and values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != (1 if labels else 2):
        shape = "[N]" if labels else "[N, F]"
        raise DatasetError(f"{path} must hold {kind} of shape {shape}, got {list(values.shape)}")
    return NodeTable(path, names, (as_labels if labels else as_features)(values, str(path), lines))


def _load_array(path: Path, kind: str) -> Any:
    np = require("numpy", "train")
    with open(path, "rb") as file:
        try:
            values = np.load(file, allow_pickle=False)
        except Exception as error:  # damaged files raise many types
            raise DatasetError(f"{path} cannot be read as {kind}: {error}") from error
    if not isinstance(values, np.ndarray):
        raise DatasetError(f"{path} cannot be read as {kind}: it holds several arrays")
    return values


def _read_text(path: Path, kind: str, ids: bool) -> tuple[list[str] | None, Any, list[int]]:
    """The ids, if the file has any, the other columns, and the numbers of the lines."""
    labels = kind == "labels"
    lines = (line for chunk in text.read_chunks(path) for line in chunk)
    rows = list(text.contents(lines, trailing=not ids))
    if not rows:
        raise DatasetError(f"{path} holds no {kind}")
    separator = text.detect_separator(rows[0][1])

    def words_of(row: text.Numbered) -> list[str]:
        try:
            return text.split(row[1], separator)
        except ValueError as error:
            raise DatasetError(f"{path}, line {row[0]}: {error}") from error

    names, after = words_of(rows[0]), words_of(rows[min(1, len(rows) - 1)])
    header = _is_header(names, after, ids)
    chosen = _choose_column(names) if header and labels else None
    first = ids or (header and names[0].lower() in _IDS) or (labels and len(names) == 2 and chosen != 0)
    rows = rows[header:]
    found: list[str] | None = None
    if first or chosen is not None:
        table = [words_of(row) for row in rows]
        for (number, line), words in zip(rows, table, strict=True):
            if len(words) != len(names):
                raise DatasetError(
                    f"{path}, line {number}: expected {len(names)} columns as in the first line, got {line!r:.80}"
                )
        found = [words[0] for words in table] if first else None
        part = slice(int(first), None) if chosen is None else slice(chosen, chosen + 1)
        rows = [(number, "\t".join(words[part])) for (number, _), words in zip(rows, table, strict=True)]
        separator = "\t"
    try:
        values = text.parse_numbers(rows, separator, integers=labels)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read as {kind}: {error}") from error
    return found, values, [number for number, _ in rows]


def _is_header(words: list[str], after: list[str], ids: bool) -> bool:
    """True for names of columns, which numbers follow."""
    if len(after) != len(words) or any(map(text.is_number, words[ids:])):
        return False
    values = after[1:] if len(after) > 1 else after
    return all(map(text.is_number, values))


def _choose_column(names: list[str]) -> int | None:
    """The column of labels by its name."""
    return next((i for i, name in enumerate(names) if name.lower() in _LABELS), None)


def attach(
    data: LargeGraph,
    features: NodeTable | None,
    labels: NodeTable | None,
    *,
    num_nodes: int | None = None,
    first_id: int | None = None,
) -> LargeGraph:
    """Add features and labels to the nodes of a graph, and the nodes without edges that they or ``num_nodes`` name.

    A row belongs to the node of its id. Rows without ids belong to the nodes in the order of ids if there are as many,
    otherwise to the ids that are counted from ``first_id``.

    Args:
        data: the graph.
        features: table of features.
        labels: table of labels. Nodes that a table with ids lacks have the label -1.
        num_nodes: number of nodes.
        first_id: the smallest id, 0 or 1. ``None`` takes 0 if a node has the id 0, and 1 if a node has the id N.

    Raises:
        DatasetError: nodes and rows do not correspond; the message names the file.
        ValueError: ``num_nodes`` does not suit the ids.
    """
    tables = [table for table in (features, labels) if table is not None]
    if num_nodes is not None:
        data = _count(data, check_rows(num_nodes, "num-nodes: the graph"), first_id)
    for table in tables:
        if table.ids is not None:
            data = _add(data, _parse_ids(data, table), str(table.path))
    for table in tables:
        if table.ids is None and len(table.values) != data.graph.num_nodes:
            if (
                num_nodes is not None
                or data.names is not None
                or any(other.ids is not None for other in tables)
            ):
                raise _wrong_number(data, table)
            data = _count(data, len(table.values), first_id, table)
    if features is not None:
        data = data._replace(x=_align(data, features))
    if labels is not None:
        data = data._replace(labels=_align(data, labels))
    return data


def _wrong_number(data: LargeGraph, table: NodeTable) -> DatasetError:
    nodes, labels = data.graph.num_nodes, table.values.dim() == 1
    shape = f"labels of shape [{nodes}]" if labels else f"features of shape [{nodes}, F]"
    return DatasetError(f"{table.path} must hold {shape}, got {list(table.values.shape)}")


def _count(data: LargeGraph, nodes: int, first_id: int | None, table: NodeTable | None = None) -> LargeGraph:
    """The graph with nodes of successive ids: as many as ``num-nodes``, or as the rows of a table."""
    ids = torch.arange(data.graph.num_nodes) if data.node_ids is None else data.node_ids
    low, high = ids[[0, -1]].tolist()
    first = int(low > 0 and high == nodes) if first_id is None else first_id
    fits = data.names is None and first <= low and high < first + nodes
    if table is not None and not (fits and data.is_open):
        raise _wrong_number(data, table)
    name = "num-nodes" if table is None else str(table.path)
    run = f"the ids in {data.source} run from {low} to {high}"
    if data.names is not None:
        raise ValueError(
            "num-nodes needs integers as ids; name nodes without edges in the first column of features"
        )
    if not fits:
        raise ValueError(f"{name} is {nodes}, but {run}, outside {first} to {first + nodes - 1}")
    if first_id is None and low > 0 and high < nodes:
        raise ValueError(
            f"{name} has {nodes} nodes, and {run}; pass first-id, 0 or 1, the id of the first node"
        )
    return _add(data, torch.arange(first, first + nodes), name)


def _add(data: LargeGraph, ids: Tensor | list[str], name: str) -> LargeGraph:
    wider = with_nodes(data, ids)
    if wider is not data and not data.is_open:
        added = wider.graph.num_nodes - data.graph.num_nodes
        raise DatasetError(f"{name} has {added} nodes that {data.source} lacks")
    return wider


def _parse_ids(data: LargeGraph, table: NodeTable) -> Tensor | list[str]:
    """The ids of a table as those of the graph, all different."""
    assert table.ids is not None
    ids: list[Any] = list(table.ids)
    if data.names is None:
        ids = [text.as_integer(word) for word in table.ids]
        if None in ids:
            bad = table.ids[ids.index(None)]
            raise DatasetError(
                f"{table.path}: an id must be a 64-bit integer as in {data.source}, got {bad!r:.80}"
            )
    if len(set(ids)) != len(ids):
        twice = max(ids, key=Counter(ids).__getitem__)
        raise DatasetError(f"{table.path} has the id {twice!r:.80} twice")
    return torch.tensor(ids) if data.names is None else ids


def _align(data: LargeGraph, table: NodeTable) -> Tensor:
    """The rows of a table in the order of nodes."""
    if table.ids is None:
        if data.names is not None:
            raise DatasetError(
                f"{table.path} must have the names of nodes in its first column, as the graph has names"
            )
        return table.values
    place = data.places(_parse_ids(data, table))
    missing = torch.ones(data.graph.num_nodes, dtype=torch.bool)
    missing[place] = False
    if table.values.dim() == 2 and bool(missing.any()):
        node = int(missing.nonzero()[0])
        one = node if data.node_ids is None else int(data.node_ids[node])
        raise DatasetError(f"{table.path} lacks the node {one if data.names is None else data.names[node]!r}")
    rows = table.values.new_full((data.graph.num_nodes, *table.values.shape[1:]), -1)
    rows[place] = table.values
    return rows
