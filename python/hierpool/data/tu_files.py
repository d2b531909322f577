"""Graphs from files in the TU text format."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import text
from hierpool.data.files import DatasetError
from hierpool.data.graphs import Graph

# Larger degrees share the last column.
_MAX_DEGREE = 511
_MAX_LABELS = 1 << 14  # columns of one-hot node labels


class Contents(NamedTuple):
    """The graphs of a dataset."""

    graphs: tuple[Graph, ...]
    num_classes: int
    features: str  # kind of node features


class _Files:
    """The tables of a dataset."""

    def __init__(self, name: str, files: dict[str, bytes], source: str) -> None:
        self.name, self.files, self.source = name, files, source

    def corrupt(self, kind: str, reason: str) -> DatasetError:
        return DatasetError(
            f"dataset {self.name} is corrupt: {self.name}_{kind}.txt in {self.source} {reason}"
        )

    def open(self, kind: str) -> io.TextIOWrapper:
        return io.TextIOWrapper(io.BytesIO(self.files[kind]), encoding="utf-8-sig")

    def lines(self, kind: str) -> list[text.Numbered]:
        try:
            return list(text.contents(self.open(kind)))
        except UnicodeDecodeError as error:
            raise self.corrupt(kind, f"cannot be read: {error}") from error

    def table(self, kind: str, *, columns: int | None = None, integers: bool = True) -> Tensor:
        """The numbers of a file, int64 or float64 ``[rows, columns]``."""
        dtype = "int64" if integers else "float64"
        try:
            values = text.load_table(self.open(kind), dtype=dtype, delimiter=",", ndmin=2)
        except ValueError:  # another form, or an error, which is found line by line
            values = self._parse(kind, integers)
        if values.size == 0:
            raise self.corrupt(kind, "is empty")
        if columns is not None and values.shape[1] != columns:
            raise self.corrupt(kind, f"must have {columns} columns, but has {values.shape[1]}")
        return torch.from_numpy(values)

    def _parse(self, kind: str, integers: bool) -> Any:
        lines = self.lines(kind)
        if not lines:
            raise self.corrupt(kind, "is empty")
        try:
            return text.parse_numbers(lines, text.detect_separator(lines[0][1]), integers=integers)
        except ValueError as error:
            raise self.corrupt(kind, f"cannot be read: {error}") from error

    def rows(self, kind: str, nodes: int, *, integers: bool) -> Tensor:
        """A table with a row for each node."""
        values = self.table(kind, integers=integers)
        if len(values) != nodes:
            raise self.corrupt(kind, f"has {len(values)} lines for {nodes} nodes")
        wrong = ~(values.isfinite() & (values.abs() <= torch.finfo(torch.float32).max)).all(1)
        if bool(wrong.any()):
            line = self.line_of(kind, wrong)
            raise self.corrupt(kind, f"has a value that is not finite in float32 in line {line}")
        return values

    def line_of(self, kind: str, wrong: Tensor) -> int:
        """The number of the first line that is wrong, of those with numbers."""
        return self.lines(kind)[int(wrong.nonzero()[0])][0]


def read_graphs(name: str, files: dict[str, bytes], source: str) -> Contents:
    """Read the graphs of a dataset.

    Line i of ``graph_indicator`` is the graph of node i; graphs are numbered from 1 and ascend. A line of ``A`` is an
    edge between two nodes of one graph; nodes are numbered from 1. Self-loops and duplicates are removed, as in PyTorch
    Geometric. ``graph_labels`` has one line per graph; labels are numbered from 0 in ascending order. ``node_labels``
    and ``node_attributes`` have one line per node. ``edge_labels`` has one line per line of ``A``; labels are numbered
    from 0 in ascending order, and of an edge that is there twice the first counts. Features are attributes, then
    one-hot labels with a column for every integer from the smallest to the largest, or for every different one if these
    are more than the nodes. Without both, features are one-hot degrees.

    Args:
        name: name of the dataset.
        files: contents of ``"A"``, ``"graph_indicator"``, ``"graph_labels"`` and, where they exist,
            ``"node_labels"``, ``"node_attributes"`` and ``"edge_labels"``.
        source: location of the files, for messages.

    Raises:
        DatasetError: a file is invalid; the message names the file, the line and the reason.
        ImportError: NumPy is not installed.
    """
    require("numpy", "train")
    tables = _Files(name, files, source)
    graph = tables.table("graph_indicator", columns=1)[:, 0] - 1
    step = graph.diff(prepend=graph.new_tensor([-1]))
    wrong = (step != 1) & ((step != 0) | (torch.arange(len(graph)) == 0))
    if bool(wrong.any()):
        number, line = int(graph[wrong][0]) + 1, tables.line_of("graph_indicator", wrong)
        raise tables.corrupt(
            "graph_indicator",
            f"must number graphs from 1 upwards without a gap, but has {number} in line {line}",
        )
    count = int(graph[-1]) + 1
    labels = tables.table("graph_labels", columns=1)[:, 0]
    if len(labels) != count:
        raise tables.corrupt("graph_labels", f"has {len(labels)} lines for {count} graphs")
    classes, y = labels.unique(return_inverse=True)
    edges, edge_labels = _read_edges(tables, graph)
    x, features = _read_features(tables, len(graph), edges)
    sizes = graph.bincount(minlength=count)
    first = sizes.cumsum(0) - sizes
    owner = graph[edges[0]]
    edges = edges - first[owner]
    lengths = owner.bincount(minlength=count).tolist()
    kinds = [None] * count if edge_labels is None else edge_labels.split(lengths)
    graphs = tuple(
        Graph(nodes, part.contiguous(), label, edge_labels=kind)
        for nodes, part, label, kind in zip(
            x.split(sizes.tolist()), edges.split(lengths, 1), y.tolist(), kinds, strict=True
        )
    )
    return Contents(graphs, len(classes), features)


def _read_edges(tables: _Files, graph: Tensor) -> tuple[Tensor, Tensor | None]:
    """Edges without self-loops and duplicates, ascending, int64 ``[2, E]``, and their labels ``[E]`` if there are."""
    edges = tables.table("A", columns=2).t() - 1
    nodes = len(graph)

    outside = ((edges < 0) | (edges >= nodes)).any(0)
    if bool(outside.any()):
        raise tables.corrupt(
            "A", f"has a node index outside 1 to {nodes} in line {tables.line_of('A', outside)}"
        )
    crossing = graph[edges[0]] != graph[edges[1]]
    if bool(crossing.any()):
        raise tables.corrupt("A", f"joins two graphs in line {tables.line_of('A', crossing)}")
    kept = edges[0] != edges[1]
    keys = (edges[0] * nodes + edges[1])[kept]
    if "edge_labels" not in tables.files:
        keys = keys.unique()
        return torch.stack([keys // nodes, keys % nodes]), None
    given = tables.table("edge_labels")
    if len(given) != edges.size(1):
        raise tables.corrupt("edge_labels", f"has {len(given)} lines for {edges.size(1)} lines of A")
    keys, place = keys.unique(return_inverse=True)
    numbers = given.unique(dim=0, return_inverse=True)[1][kept]
    first = torch.full((len(keys),), len(place)).scatter_reduce(
        0, place, torch.arange(len(place)), "amin", include_self=True
    )
    return torch.stack([keys // nodes, keys % nodes]), numbers[first]


def _read_features(tables: _Files, nodes: int, edges: Tensor) -> tuple[Tensor, str]:
    """Features of all nodes, float32 ``[N, F]``, and their kind."""
    parts, kinds = [], []
    if "node_attributes" in tables.files:
        parts.append(tables.rows("node_attributes", nodes, integers=False).float())
        kinds.append("attributes")
    if "node_labels" in tables.files:
        labels = tables.rows("node_labels", nodes, integers=True)
        parts += [_one_hot_labels(tables, column) for column in labels.t()]
        kinds.append("labels")
    if parts:
        return torch.cat(parts, 1), " and ".join(kinds)
    degree = edges[0].bincount(minlength=nodes).clamp(max=_MAX_DEGREE)
    return _one_hot(degree, int(degree.max()) + 1), "degree"


def _one_hot(numbers: Tensor, columns: int) -> Tensor:
    """float32 ``[N, columns]``; torch's function makes it in int64 first."""
    return torch.zeros(len(numbers), columns).scatter_(1, numbers[:, None], 1.0)


def _one_hot_labels(tables: _Files, labels: Tensor) -> Tensor:
    low, high = (int(end) for end in labels.aminmax())
    if high - low < len(labels):
        labels = labels - low
    else:
        labels = labels.unique(return_inverse=True)[1]
    columns = int(labels.max()) + 1
    if columns > _MAX_LABELS:
        raise tables.corrupt(
            "node_labels", f"has {columns} labels, more than the {_MAX_LABELS} that are supported"
        )
    return _one_hot(labels, columns)
