"""Graphs in memory and their batches: ragged with sparse adjacency, or padded with dense adjacency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.graph.levels import Level, collate_levels


@dataclass(frozen=True, eq=False)
class Graph:
    """One labelled graph."""

    x: Tensor  # [n, F] float32
    edge_index: Tensor  # [2, E] int64, both directions of an undirected edge, each once
    y: int
    levels: tuple[Level, ...] = ()  # of hierpool.nn.Precoarsening
    edge_labels: Tensor | None = None  # [E] int64 from 0, if the files have them

    @cached_property
    def adj(self) -> RaggedGraph:
        """The adjacency matrix in compressed rows, built on first access."""
        return RaggedGraph.from_edge_index(self.edge_index, self.x.size(0))


@dataclass(frozen=True)
class GraphDataset:
    """Labelled graphs.

    Attributes:
        name: name of the dataset.
        graphs: all graphs, in the order of the files.
        num_classes: number of classes; labels run from 0.
        features: kind of node features, for example ``"labels"``.
        source: location of the files.
        fingerprint: hash of the files.
    """

    name: str
    graphs: tuple[Graph, ...]
    num_classes: int
    features: str
    source: str
    fingerprint: str

    @property
    def num_features(self) -> int:
        return self.graphs[0].x.size(1)

    @property
    def num_edge_labels(self) -> int:
        """Number of labels of edges; 0 if the files have none."""
        given = [graph.edge_labels for graph in self.graphs if graph.edge_labels is not None]
        return max((int(labels.max()) + 1 for labels in given if labels.numel()), default=0)

    @property
    def max_nodes(self) -> int:
        return max(graph.x.size(0) for graph in self.graphs)

    @property
    def labels(self) -> Tensor:
        """int64 ``[graphs]``."""
        return torch.tensor([graph.y for graph in self.graphs])

    @property
    def majority_rate(self) -> float:
        """Accuracy of always predicting the most frequent class."""
        return int(self.labels.bincount().max()) / len(self.graphs)

    def select(self, indices: Tensor) -> list[Graph]:
        """The graphs at ``indices``, int64 ``[m]``."""
        return [self.graphs[i] for i in indices.tolist()]


class DenseBatch(NamedTuple):
    """Graphs padded to a common number of nodes; padding is zero."""

    x: Tensor  # [B, N, F] float32
    adj: Tensor  # [B, N, N] float32
    mask: Tensor  # [B, N] bool
    y: Tensor  # [B] int64

    def to(self, device: torch.device | str) -> DenseBatch:
        """The batch on another device."""
        return DenseBatch(*(t.to(device) for t in self))

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of a network: ``x``, ``adj``, ``mask``."""
        return self.x, self.adj, self.mask


class RaggedBatch(NamedTuple):
    """Graphs one after the other, without padding."""

    x: Tensor  # [N, F] float32, the nodes of all graphs
    graph: RaggedGraph
    y: Tensor  # [B] int64
    levels: tuple[Level, ...] = ()  # if all graphs have them

    def to(self, device: torch.device | str) -> RaggedBatch:
        """The batch on another device."""
        levels = tuple(level.to(device) for level in self.levels)
        return RaggedBatch(self.x.to(device), self.graph.to(device), self.y.to(device), levels)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The arguments of a network: ``x`` and ``graph``, and with levels ``None``, as there is no mask, and these."""
        return (self.x, self.graph, None, self.levels) if self.levels else (self.x, self.graph)


Batch = DenseBatch | RaggedBatch


def require_graphs(graphs: Sequence[Graph]) -> None:
    """Raise ``ValueError`` if there is no graph, or features differ in number or dtype."""
    if not graphs:
        raise ValueError("graphs must hold at least one graph, got none")
    kinds = {(graph.x.size(1), graph.x.dtype) for graph in graphs}
    if len(kinds) > 1:
        names = ", ".join(sorted(f"{f} of {str(dtype).removeprefix('torch.')}" for f, dtype in kinds))
        raise ValueError(f"graphs must have equally many features x of one dtype, got {names}")


def collate_ragged(graphs: Sequence[Graph]) -> RaggedBatch:
    """Concatenate graphs into one ragged batch.

    This is also a ``collate_fn`` for :class:`torch.utils.data.DataLoader`. The adjacency of a graph is compressed once,
    not once per batch.

    Args:
        graphs: at least one graph; all have the same number of features.

    Raises:
        ValueError: ``graphs`` is empty, features differ in number or dtype, or an edge has an end that is no node.
    """
    require_graphs(graphs)
    return RaggedBatch(
        torch.cat([graph.x for graph in graphs]),
        RaggedGraph.collate([graph.adj for graph in graphs]),
        torch.tensor([graph.y for graph in graphs]),
        collate_levels([graph.levels for graph in graphs]) if graphs[0].levels else (),
    )


def collate(graphs: Sequence[Graph], *, pad_to: int | None = None) -> DenseBatch:
    """Pad graphs into one dense batch.

    Args:
        graphs: at least one graph; all have the same number of features.
        pad_to: number of nodes to pad to; ``None`` takes that of the largest graph.

    Raises:
        ValueError: ``graphs`` is empty, a graph is larger than ``pad_to``, features differ in number or dtype, or an
            edge has an end that is no node.
    """
    require_graphs(graphs)
    sizes = torch.tensor([graph.x.size(0) for graph in graphs])
    largest = int(sizes.max())
    n = largest if pad_to is None else check_size("pad_to", pad_to)
    if n < largest:
        raise ValueError(
            f"pad_to must be at least {largest}, the number of nodes of the largest graph, got {n}"
        )
    b = len(graphs)
    mask = torch.arange(n) < sizes[:, None]
    x = graphs[0].x.new_zeros(b, n, graphs[0].x.size(1))
    x[mask] = torch.cat([graph.x for graph in graphs])
    adj = torch.zeros(b, n, n)
    edges = torch.tensor([graph.edge_index.size(1) for graph in graphs])
    ends = torch.cat([graph.edge_index for graph in graphs], 1)
    graph_of_edge = torch.arange(b).repeat_interleave(edges)
    wrong = ((ends < 0) | (ends >= sizes[graph_of_edge])).any(0)
    if wrong.any():  # it would be an edge of padding, or of another node counted from the end
        edge = int(wrong.nonzero()[0])
        number = int(graph_of_edge[edge])
        raise ValueError(
            f"edge_index of graphs[{number}] has the edge {ends[:, edge].tolist()}, but there are {int(sizes[number])}"
            " nodes, numbered from 0"
        )
    adj[graph_of_edge, ends[0], ends[1]] = 1.0
    return DenseBatch(x, adj, mask, torch.tensor([graph.y for graph in graphs]))
