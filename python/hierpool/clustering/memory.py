"""Estimates of the memory of a clustering, before it starts."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from hierpool.clustering.config import ClusterConfig
from hierpool.clustering.shared import columns_at_a_time
from hierpool.training.memory import GIB, OVERHEAD, peak_memory_bytes

_FLOAT = 4
_BATCH_NODES = 32_768
_MIN_STEPS, _MIN_EPOCHS = 100, 5
_MIN_BATCH_NODES = 1024


class Share(NamedTuple):
    """The part of a graph that a process has."""

    processes: int
    nodes: int
    entries: int
    halo: int  # rows of other processes


class GraphSize(NamedTuple):
    """Size of a graph to cluster."""

    nodes: int
    entries: int
    weighted: bool
    given_channels: int  # number of given features; 0: none are given
    share: Share | None = None  # of the process with the most, if several share the graph


class MemoryEstimate(NamedTuple):
    """Peak memory of a clustering, in bytes."""

    before: int  # peak of the process so far
    graph: int
    features: int  # while features are computed
    training: int  # features and a step
    refinement: int  # features and the levels of the graph; 0: there is none

    @property
    def total(self) -> int:
        return self.before + self.graph + max(self.features, self.training, self.refinement) + OVERHEAD

    def __str__(self) -> str:
        refinement = f", then refinement {self.refinement / GIB:.2f}" if self.refinement else ""
        return (
            f"{self.total / GIB:.2f} GiB ({self.before / GIB:.2f} so far, graph {self.graph / GIB:.2f}, computing "
            f"features {self.features / GIB:.2f}, then training {self.training / GIB:.2f}{refinement})"
        )


def generator_bytes(nodes: int, mean_degree: float, processes: int = 1) -> int:
    """The memory of drawing a random graph, in addition to the graph; of a process of several that draw it in parts."""
    edges = nodes * mean_degree / 2
    if processes == 1:
        return round(24 * nodes + 80 * edges)
    return round(16 * nodes + 160 * edges / processes)


def resolve(
    config: ClusterConfig,
    size: GraphSize,
    limit_gib: float | None,
    *,
    refine: bool = False,
    before: int | None = None,
) -> tuple[ClusterConfig, MemoryEstimate]:
    """Replace the zeros of a configuration by values that suit the graph and the memory.

    Args:
        config: configuration; ``k`` is not 0.
        size: size of the graph.
        limit_gib: limit of the memory in GiB (2^30 bytes), or ``None``.
        refine: whether the clusters will be refined.
        before: memory of the process so far, in bytes. The default is :func:`peak_memory_bytes`, which also counts
            memory that is free again.

    Returns:
        The configuration without zeros, and its memory.

    Raises:
        ValueError: the estimate is above the limit; the message has the estimate.
    """
    before = peak_memory_bytes() if before is None else before
    channels = config.feature_channels or max(64, -(-5 * config.k // 4) + 3)
    config = replace(config, feature_channels=min(channels, max(1, size.nodes - 1)))
    nodes = min(config.batch_nodes or _BATCH_NODES, size.nodes)
    estimate = _estimate(config, size, nodes, before, refine)
    if limit_gib is not None:
        minimum = nodes if config.batch_nodes else min(nodes, max(_MIN_BATCH_NODES, 8 * config.k))
        while estimate.total > limit_gib * GIB and nodes > minimum:
            nodes = max(minimum, nodes // 2)
            estimate = _estimate(config, size, nodes, before, refine)
        if estimate.total > limit_gib * GIB:
            raise ValueError(
                f"memory-limit is {limit_gib:g} GiB, but a clustering in batches of {nodes} nodes takes {estimate}"
            )
    steps = -(-size.nodes // nodes) if size.nodes else 1
    epochs = config.epochs or max(_MIN_EPOCHS, -(-_MIN_STEPS // steps))
    return replace(config, batch_nodes=nodes, epochs=epochs), estimate


def _estimate(
    config: ClusterConfig, size: GraphSize, batch: int, before: int, refine: bool
) -> MemoryEstimate:
    channels = size.given_channels or config.feature_channels
    if size.share is not None:
        return _estimate_share(config, size, size.share, batch, before, refine)
    matrix = size.nodes * channels * _FLOAT
    share = batch / size.nodes if size.nodes else 1.0
    # For every node a step holds the inputs, four hidden values in the forward and two in the backward, and rows of
    # size K: logits, assignment, product with the adjacency, their gradients, and that of the head.
    step = batch * _FLOAT * ((2 * channels if share < 1 else 0) + 6 * config.hidden_channels + 6 * config.k)
    subgraph = round(size.entries * share * 40) if share < 1 else 0
    nodes = 64 * size.nodes  # degrees, labels, clusters, a permutation
    given = matrix if size.given_channels else 0
    # The first levels of the graph have nearly as many entries as the graph.
    levels = size.entries * (68 if size.weighted else 52) + 100 * size.nodes
    return MemoryEstimate(
        before,
        size.entries * (12 if size.weighted else 4)
        + 8 * size.nodes,  # weights twice: in their unit, and divided
        3 * matrix + given + nodes,
        2 * matrix + given + nodes + step + subgraph,
        2 * matrix + given + nodes + levels if refine else 0,
    )


def _estimate_share(
    config: ClusterConfig, size: GraphSize, share: Share, batch: int, before: int, refine: bool
) -> MemoryEstimate:
    """The estimate for a process of several that share the graph; the terms are explained above."""
    own = GraphSize(share.nodes, share.entries, size.weighted, size.given_channels)
    alone = _estimate(config, own, -(-batch // share.processes), before, False)
    channels = size.given_channels or config.feature_channels
    # Random features are overwritten. The rows of the process as one matrix, with its weights; and blocks of columns:
    # own rows and those of the halo, rows that are sent, and a product.
    width = columns_at_a_time(share.nodes, channels)
    blocks = share.entries * (8 if size.weighted else 4) + 2 * (share.nodes + share.halo) * width * _FLOAT
    features = alone.features - share.nodes * channels * _FLOAT + blocks
    # A permutation of all nodes, and what is made of it, at the start of a pass.
    training = alone.training + (24 * size.nodes if batch < size.nodes else 0)
    # What the first process writes: clusters, ids and probabilities of all nodes, as numbers and as text.
    refinement = alone.training + 200 * size.nodes if refine else 0
    return alone._replace(features=features, training=training, refinement=refinement)
