"""Features and labels of nodes as methods get them."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from hierpool.data import Graph, GraphDataset
from hierpool.experiments.protocol import Protocol
from hierpool.graph import RaggedGraph


def binary_columns(dataset: GraphDataset) -> Tensor:
    """The features that are 0 or 1 on all nodes, as one-hot labels are: bool ``[F]``."""
    found = torch.ones(dataset.num_features, dtype=torch.bool)
    for graph in dataset.graphs:
        found &= ((graph.x == 0) | (graph.x == 1)).all(0)
    return found


def node_labels(dataset: GraphDataset) -> list[Tensor]:
    """A number for each node of each graph, equal where labels are; 0 without labels in the files. int64 ``[n]`` each.

    Degrees, which are features in the place of labels, are none: kernels find them in the graph.
    """
    sizes = [graph.x.size(0) for graph in dataset.graphs]
    columns = binary_columns(dataset)
    if "labels" not in dataset.features or not bool(columns.any()):
        return [torch.zeros(size, dtype=torch.int64) for size in sizes]
    one_hot = torch.cat([graph.x[:, columns] for graph in dataset.graphs])
    return list(one_hot.unique(dim=0, return_inverse=True)[1].split(sizes))


def without_attributes(dataset: GraphDataset, protocol: Protocol) -> GraphDataset:
    """The data set with its labels alone, if the protocol says so."""
    if dataset.name not in protocol.labels_only or dataset.features != "attributes and labels":
        return dataset
    columns = binary_columns(dataset)
    graphs = tuple(replace(graph, x=graph.x[:, columns]) for graph in dataset.graphs)
    return replace(dataset, graphs=graphs, features="labels")


def standardized(dataset: GraphDataset, train: Tensor) -> GraphDataset:
    """Attributes with mean 0 and variance 1 over the nodes of the training graphs; labels as they are."""
    binary = binary_columns(dataset)
    if bool(binary.all()):
        return dataset
    x = torch.cat([graph.x for graph in dataset.select(train)]).double()
    mean = torch.where(binary, 0.0, x.mean(0))
    scale = torch.where(binary, 1.0, x.std(0, correction=0))
    scale[scale == 0] = 1.0

    def scaled(graph: Graph) -> Graph:
        return replace(graph, x=((graph.x.double() - mean) / scale).float())

    return replace(dataset, graphs=tuple(map(scaled, dataset.graphs)))


def with_supernode(dataset: GraphDataset) -> GraphDataset:
    """Every graph with one more node at its end, joined to all others; one more feature marks it."""

    def extended(graph: Graph) -> Graph:
        n = graph.x.size(0)
        x = torch.nn.functional.pad(graph.x, (0, 1, 0, 1))
        x[n, -1] = 1.0
        spokes = torch.stack([torch.arange(n), torch.full((n,), n)])
        return Graph(x, torch.cat([graph.edge_index, spokes, spokes.flip(0)], 1), graph.y)

    return replace(dataset, graphs=tuple(map(extended, dataset.graphs)))


class LabelledGraph(Graph):
    """A graph whose adjacency has the labels of edges as values, counted from 1, if it has labels."""

    @cached_property
    def adj(self) -> RaggedGraph:
        """The adjacency matrix in compressed rows, built on first access."""
        weight = None if self.edge_labels is None else self.edge_labels.float() + 1
        return RaggedGraph.from_edge_index(self.edge_index, self.x.size(0), edge_weight=weight)


def with_edge_labels(dataset: GraphDataset) -> GraphDataset:
    """The data set of :class:`LabelledGraph`."""
    graphs = tuple(
        LabelledGraph(graph.x, graph.edge_index, graph.y, edge_labels=graph.edge_labels)
        for graph in dataset.graphs
    )
    return replace(dataset, graphs=graphs)
