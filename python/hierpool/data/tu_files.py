"""Checking files in the TU text format before anything is built from them."""

from __future__ import annotations

import io
import warnings
from typing import Any

from hierpool._extras import require


class DatasetError(ValueError):
    """A dataset is missing, incomplete or corrupt."""


def verify(name: str, files: dict[str, bytes], source: str) -> None:
    """Check that files agree with the format and with each other.

    The format: line i of ``graph_indicator`` is the number of the graph of node i, ascending from 1; a line of ``A``
    is an edge between two nodes of one graph, numbered from 1; ``graph_labels`` has a line per graph; ``node_labels``
    and ``node_attributes`` have a line per node.

    Args:
        name: of the dataset.
        files: contents by what they hold: ``"A"``, ``"graph_indicator"``, ``"graph_labels"`` and, if the set has
            them, ``"node_labels"``, ``"node_attributes"``.
        source: where they are, for messages.

    Raises:
        DatasetError: they do not; the message names the file and what is wrong.
    """
    np = require("numpy", "train")

    def fail(kind: str, reason: str) -> DatasetError:
        return DatasetError(f"dataset {name} is corrupt: {name}_{kind}.txt in {source} {reason}")

    def table(kind: str, dtype: type, columns: int | None = None) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of empty files, which are refused below
                warnings.simplefilter("error", DeprecationWarning)  # older NumPy reads 0.5 as the integer 0
                values = np.loadtxt(io.BytesIO(files[kind]), dtype=dtype, delimiter=",", ndmin=2)
        except (ValueError, DeprecationWarning) as error:
            raise fail(kind, f"cannot be read: {error}") from error
        if values.size == 0:
            raise fail(kind, "is empty")
        if columns is not None and values.shape[1] != columns:
            raise fail(kind, f"must have {columns} columns, but has {values.shape[1]}")
        return values

    graph = table("graph_indicator", int, 1)[:, 0]
    if graph[0] != 1 or not np.isin(np.diff(graph), (0, 1)).all():
        raise fail("graph_indicator", "must count graphs upwards from 1 without a gap")
    labels = table("graph_labels", int, 1)
    if len(labels) != graph[-1]:
        raise fail("graph_labels", f"has {len(labels)} lines for {graph[-1]} graphs")
    edges = table("A", int, 2)
    if edges.min() < 1 or edges.max() > len(graph):
        raise fail("A", f"names a node outside 1 to {len(graph)}")
    crossing = graph[edges[:, 0] - 1] != graph[edges[:, 1] - 1]
    if crossing.any():
        raise fail("A", f"joins two graphs in line {int(crossing.argmax()) + 1}")
    for kind, dtype in (("node_labels", int), ("node_attributes", float)):
        if kind in files:
            values = table(kind, dtype)
            if len(values) != len(graph):
                raise fail(kind, f"has {len(values)} lines for {len(graph)} nodes")
            if not np.isfinite(values).all():
                raise fail(kind, "holds a value that is not finite")
