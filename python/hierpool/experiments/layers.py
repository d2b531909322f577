"""Message passing and readouts that methods of the comparison need besides those of :mod:`hierpool.nn`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hierpool._extras import require
from hierpool.graph import RaggedGraph
from hierpool.nn import MaskedBatchNorm
from hierpool.nn import readout as reduce_nodes
from hierpool.ops.spmm import spmm

EXTRA = "experiments"


class Structure2Vec(nn.Module):
    r"""Embedding of nodes by rounds that share their weights.

    .. math:: H^{(t)} = \mathrm{ReLU}(X W_1 + A H^{(t - 1)} W_2 + b), \qquad H^{(0)} = 0

    Args:
        in_channels: number of node features.
        out_channels: number of output features.
        rounds: number of rounds.

    Source: Dai, Dai and Song, "Discriminative embeddings of latent variable models for structured data", ICML 2016
    (arXiv:1603.05629), mean field.
    """

    def __init__(self, in_channels: int, out_channels: int, rounds: int) -> None:
        super().__init__()
        self.own = nn.Linear(in_channels, out_channels)
        self.neighbours = nn.Linear(out_channels, out_channels, bias=False)
        self.rounds = rounds

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[N, out_channels]`` of ``x [N, in_channels]``."""
        own = self.own(x)
        h = own.relu()
        for _ in range(self.rounds - 1):
            h = (own + self.neighbours(spmm(graph, h))).relu()
        return h


class EdgeConditionedConv(nn.Module):
    r"""A matrix for each label of edges, :math:`y_i = |N_i|^{-1} \sum_{j \in N_i} W_{l(i, j)} x_j + U x_i + b`.

    The published network computes the matrix from the label. For labels that are numbers of kinds this comes to one
    free matrix for each kind, without a matrix for each edge.

    Args:
        in_channels, out_channels: numbers of features.
        num_labels: number of labels.

    Source: Simonovsky and Komodakis, "Dynamic edge-conditioned filters in convolutional neural networks on graphs",
    CVPR 2017 (arXiv:1704.02901).
    """

    def __init__(self, in_channels: int, out_channels: int, num_labels: int) -> None:
        super().__init__()
        self.of_labels = nn.Linear(in_channels * num_labels, out_channels, bias=False)
        self.own = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, graphs: list[RaggedGraph], degree: Tensor) -> Tensor:
        """``[N, out_channels]`` of ``x [N, in_channels]``, the graphs of each label, and ``degree [N, 1]``."""
        return self.of_labels(torch.cat([spmm(graph, x) for graph in graphs], 1)) / degree + self.own(x)


class _Stack(nn.Module):
    """Layers with ReLU and batch normalisation, whose outputs are concatenated."""

    def __init__(self, convs: list[Any], width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(MaskedBatchNorm(width) for _ in convs)
        self.out_channels = width * len(convs)

    def layers(self, x: Tensor, *arguments: Any) -> Tensor:
        """``[N, out_channels]``."""
        outputs = []
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, *arguments).relu())
            outputs.append(x)
        return torch.cat(outputs, 1)


class ECCStack(_Stack):
    """Layers :class:`EdgeConditionedConv`. The values of the graph are labels of edges from 1, or it has none."""

    def __init__(self, in_channels: int, width: int, layers: int, num_labels: int) -> None:
        sizes = [in_channels] + [width] * (layers - 1)
        super().__init__([EdgeConditionedConv(size, width, num_labels) for size in sizes], width)
        self.num_labels = num_labels

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[N, out_channels]`` of ``x [N, in_channels]``."""
        degree = graph.rowptr.diff().clamp(min=1).to(x.dtype)[:, None]
        labels = graph.value
        if labels is None:
            return self.layers(x, [graph], degree)
        numbers = range(1, self.num_labels + 1)
        return self.layers(x, [graph.with_value((labels == i).to(x.dtype)) for i in numbers], degree)


class GINStack(_Stack):
    """PyTorch Geometric's ``GINConv`` with perceptrons of two layers and a trained epsilon.

    Source: Xu et al., "How powerful are graph neural networks?", ICLR 2019 (arXiv:1810.00826).
    """

    def __init__(self, in_channels: int, width: int, layers: int) -> None:
        conv = require("torch_geometric.nn", EXTRA).GINConv

        def perceptron(size: int) -> nn.Module:
            return nn.Sequential(
                nn.Linear(size, width), MaskedBatchNorm(width), nn.ReLU(), nn.Linear(width, width)
            )

        sizes = [in_channels] + [width] * (layers - 1)
        super().__init__([conv(perceptron(size), train_eps=True) for size in sizes], width)

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[N, out_channels]`` of ``x [N, in_channels]``."""
        return self.layers(x, graph.to_edge_index()[0])


# ---- readouts -------------------------------------------------------------------------------------------------------


class Reduce(nn.Module):
    """:func:`hierpool.nn.readout` as a layer."""

    def __init__(self, channels: int, kind: str) -> None:
        super().__init__()
        self.kind, self.out_channels = kind, channels

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[B, channels]`` of ``x [N, channels]``."""
        return reduce_nodes(x, None, self.kind, graph=graph)


class LastNode(nn.Module):
    """The features of the last node of each graph, its supernode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out_channels = channels

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[B, channels]`` of ``x [N, channels]``."""
        return x[graph.ptr[1:] - 1]


class Set2SetReadout(nn.Module):
    """PyTorch Geometric's ``Set2Set``.

    Source: Vinyals, Bengio and Kudlur, "Order matters: sequence to sequence for sets", ICLR 2016 (arXiv:1511.06391).
    """

    def __init__(self, channels: int, steps: int = 4) -> None:
        super().__init__()
        self.set2set = require("torch_geometric.nn", EXTRA).Set2Set(channels, steps)
        self.out_channels = 2 * channels

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[B, 2 * channels]`` of ``x [N, channels]``."""
        return self.set2set(x, graph.batch, dim_size=graph.num_graphs)


class SortReadout(nn.Module):
    """PyTorch Geometric's ``SortAggregation`` and the convolutions that follow it in DGCNN.

    Args:
        channels: number of node features.
        k: number of nodes that are kept.

    Source: Zhang et al., "An end-to-end deep learning architecture for graph classification", AAAI 2018.
    """

    def __init__(self, channels: int, k: int) -> None:
        super().__init__()
        self.sort = require("torch_geometric.nn", EXTRA).SortAggregation(k)
        self.convs = nn.Sequential(
            nn.Conv1d(1, 16, channels, channels),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 5),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.out_channels = 32 * (k // 2 - 4)

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """``[B, out_channels]`` of ``x [N, channels]``."""
        return self.convs(self.sort(x, graph.batch, dim_size=graph.num_graphs)[:, None])
