"""Validation of files in the TU text format."""

from __future__ import annotations

import io
from typing import Any

from hierpool._extras import require
from hierpool.data.files import DatasetError, load_table


def verify(name: str, files: dict[str, bytes], source: str) -> None:
    """Check that files have the TU format and agree with each other.

    Line i of ``graph_indicator`` is the graph of node i; graphs are numbered from 1 and ascend. A line of ``A`` is an
    edge between two nodes of one graph; nodes are numbered from 1. ``graph_labels`` has one line per graph.
    ``node_labels`` and ``node_attributes`` have one line per node.

    Args:
        name: name of the dataset.
        files: contents of ``"A"``, ``"graph_indicator"``, ``"graph_labels"`` and, where they exist,
            ``"node_labels"`` and ``"node_attributes"``.
        source: location of the files, for messages.

    Raises:
        DatasetError: a file is invalid; the message names the file and the reason.
    """
    np = require("numpy", "train")

    def corrupt(kind: str, reason: str) -> DatasetError:
        return DatasetError(f"dataset {name} is corrupt: {name}_{kind}.txt in {source} {reason}")

    def table(kind: str, dtype: type, columns: int | None = None) -> Any:
        try:
            values = load_table(io.BytesIO(files[kind]), dtype=dtype, delimiter=",", ndmin=2)
        except ValueError as error:
            raise corrupt(kind, f"cannot be read: {error}") from error
        if values.size == 0:
            raise corrupt(kind, "is empty")
        if columns is not None and values.shape[1] != columns:
            raise corrupt(kind, f"must have {columns} columns, but has {values.shape[1]}")
        return values

    graph = table("graph_indicator", int, 1)[:, 0]
    if graph[0] != 1 or not np.isin(np.diff(graph), (0, 1)).all():
        raise corrupt("graph_indicator", "must number graphs from 1 upwards without a gap")
    labels = table("graph_labels", int, 1)
    if len(labels) != graph[-1]:
        raise corrupt("graph_labels", f"has {len(labels)} lines for {graph[-1]} graphs")
    edges = table("A", int, 2)
    if edges.min() < 1 or edges.max() > len(graph):
        raise corrupt("A", f"has a node index outside 1 to {len(graph)}")
    crossing = graph[edges[:, 0] - 1] != graph[edges[:, 1] - 1]
    if crossing.any():
        raise corrupt("A", f"joins two graphs in line {int(crossing.argmax()) + 1}")
    for kind, dtype in (("node_labels", int), ("node_attributes", float)):
        if kind in files:
            values = table(kind, dtype)
            if len(values) != len(graph):
                raise corrupt(kind, f"has {len(values)} lines for {len(graph)} nodes")
            if not np.isfinite(values).all():
                raise corrupt(kind, "has a value that is not finite")
