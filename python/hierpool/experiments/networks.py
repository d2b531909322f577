"""The networks of the comparison. All have the widths and depths of the protocol."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hierpool.data import GraphDataset
from hierpool.experiments import layers
from hierpool.experiments.protocol import Protocol
from hierpool.graph import RaggedGraph
from hierpool.models import DiffPoolNet, DiffPoolNetOutput, PoolNet
from hierpool.nn import POOLERS, MaskedBatchNorm, SAGEStack
from hierpool.nn import readout as reduce_nodes

Build = Callable[[GraphDataset, Protocol], nn.Module]
# The part of the graphs that have at least k nodes, as in DGCNN, and the least k that its convolutions allow.
_SORTED_SHARE, _LEAST_SORTED = 0.6, 10


class Classified(NamedTuple):
    """Output of networks without pooling layers."""

    logits: Tensor  # [B, classes]
    loss: Tensor | None = None


class FlatNet(nn.Module):
    """Message passing, a readout, and a perceptron with one hidden layer.

    Args:
        embed: stack of layers on nodes, with ``out_channels``.
        readout: layer from nodes to graphs, with ``out_channels``.
        num_classes: number of classes.
        head_channels: width of the hidden layer of the classifier.
    """

    def __init__(self, embed: nn.Module, readout: nn.Module, num_classes: int, head_channels: int) -> None:
        super().__init__()
        self.embed, self.readout = embed, readout
        width: Any = readout.out_channels
        self.head = nn.Sequential(
            nn.Linear(width, head_channels), nn.ReLU(), nn.Linear(head_channels, num_classes)
        )

    def forward(self, x: Tensor, graph: RaggedGraph) -> Classified:
        """Class logits of a ragged batch."""
        return Classified(self.head(self.readout(self.embed(x, graph), graph)))


class SumPerceptron(nn.Module):
    """A perceptron with two hidden layers on the sum of the features of the nodes, which ignores edges."""

    def __init__(self, in_channels: int, width: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MaskedBatchNorm(in_channels),
            nn.Linear(in_channels, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, num_classes),
        )

    def forward(self, x: Tensor, graph: RaggedGraph) -> Classified:
        """Class logits of a ragged batch."""
        return Classified(self.layers(reduce_nodes(x, None, "sum", graph=graph)))


class Structure2VecDiffPool(nn.Module):
    """:class:`hierpool.models.DiffPoolNet` on the embedding of :class:`hierpool.experiments.layers.Structure2Vec`."""

    def __init__(self, embed: layers.Structure2Vec, net: DiffPoolNet) -> None:
        super().__init__()
        self.embed, self.net = embed, net

    def forward(self, x: Tensor, graph: RaggedGraph) -> DiffPoolNetOutput:
        """Output of the network for a ragged batch."""
        return self.net(self.embed(x, graph), graph)


def auxiliary_loss(out: Any) -> Tensor | None:
    """The sum of the losses of pooling layers, or ``None``."""
    names = ("loss", "link_loss", "entropy_loss")
    found = [term for term in (getattr(out, name, None) for name in names) if term is not None]
    return torch.stack(found).sum() if found else None


# ---- builders -------------------------------------------------------------------------------------------------------


def perceptron(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """:class:`SumPerceptron`."""
    return SumPerceptron(dataset.num_features, protocol.hidden_channels, dataset.num_classes)


def _sage(dataset: GraphDataset, protocol: Protocol) -> SAGEStack:
    width = protocol.hidden_channels
    return SAGEStack(dataset.num_features, width, width, layers=protocol.layers)


def _flat(embed: Any, readout: nn.Module, dataset: GraphDataset, protocol: Protocol) -> FlatNet:
    return FlatNet(embed, readout, dataset.num_classes, protocol.head_channels)


def graph_sage(kind: str) -> Build:
    """GraphSAGE with a readout of :func:`hierpool.nn.readout`."""

    def build(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
        stack = _sage(dataset, protocol)
        return _flat(stack, layers.Reduce(stack.out_channels, kind), dataset, protocol)

    return build


def graph_sage_supernode(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """GraphSAGE on graphs with a supernode, which is read out."""
    stack = _sage(dataset, protocol)
    return _flat(stack, layers.LastNode(stack.out_channels), dataset, protocol)


def set2set(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """GraphSAGE with Set2Set."""
    stack = _sage(dataset, protocol)
    return _flat(stack, layers.Set2SetReadout(stack.out_channels), dataset, protocol)


def sort_pool(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """GraphSAGE with the sorting and the convolutions of DGCNN."""
    stack = _sage(dataset, protocol)
    sizes = sorted(graph.x.size(0) for graph in dataset.graphs)
    k = max(_LEAST_SORTED, sizes[math.ceil(_SORTED_SHARE * len(sizes)) - 1])
    return _flat(stack, layers.SortReadout(stack.out_channels, k), dataset, protocol)


def gin(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """GIN with the sum over nodes."""
    stack = layers.GINStack(dataset.num_features, protocol.hidden_channels, protocol.layers)
    return _flat(stack, layers.Reduce(stack.out_channels, "sum"), dataset, protocol)


def ecc(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """Edge-conditioned convolutions with the mean over nodes."""
    labels = dataset.num_edge_labels or 1
    stack = layers.ECCStack(dataset.num_features, protocol.hidden_channels, protocol.layers, labels)
    return _flat(stack, layers.Reduce(stack.out_channels, "mean"), dataset, protocol)


def _widths(protocol: Protocol) -> dict[str, Any]:
    names = ("levels", "hidden_channels", "layers", "head_channels")
    return {name: getattr(protocol, name) for name in names} | {"readout": "max"}


def diff_pool(**pool_options: Any) -> Build:
    """The network of the DiffPool paper, with clusters in proportion to each graph."""

    def build(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
        return DiffPoolNet(
            dataset.num_features,
            dataset.num_classes,
            max_nodes=dataset.max_nodes,
            ratio=protocol.ratio,
            embedding_channels=protocol.hidden_channels,
            pool_options=pool_options,
            **_widths(protocol),
        )

    return build


def structure2vec_diff_pool(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
    """:class:`Structure2VecDiffPool`."""
    width = protocol.hidden_channels
    embed = layers.Structure2Vec(dataset.num_features, width, protocol.layers)
    return Structure2VecDiffPool(
        embed,
        DiffPoolNet(
            width,
            dataset.num_classes,
            max_nodes=dataset.max_nodes,
            ratio=protocol.ratio,
            embedding_channels=width,
            **_widths(protocol),
        ),
    )


def diff_pool_one_k(pool: str) -> Build:
    """The network of the DiffPool paper with one number of clusters for all graphs, a part of their mean size."""

    def build(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
        widths = _widths(protocol)
        k = [sum(graph.x.size(0) for graph in dataset.graphs) / len(dataset.graphs)]
        for _ in range(widths.pop("levels")):
            k.append(max(1, math.ceil(protocol.ratio * k[-1])))
        return DiffPoolNet(
            dataset.num_features,
            dataset.num_classes,
            k=[int(count) for count in k[1:]],
            embedding_channels=protocol.hidden_channels,
            pool=pool,
            **widths,
        )

    return build


def pool_net(pooler: str) -> Build:
    """:class:`hierpool.models.PoolNet` with a pooler."""

    def build(dataset: GraphDataset, protocol: Protocol) -> nn.Module:
        return PoolNet(
            dataset.num_features,
            dataset.num_classes,
            pooler,
            ratio=protocol.ratio,
            max_nodes=dataset.max_nodes if pooler in POOLERS else None,
            **_widths(protocol),
        )

    return build
