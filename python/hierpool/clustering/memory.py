"""How much memory a clustering takes, known before it starts."""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from typing import NamedTuple

from hierpool.clustering.config import ClusterConfig

GIB = 1 << 30
_FLOAT = 4
_BATCH_NODES = 32_768
_FEWEST_STEPS, _FEWEST_EPOCHS = 100, 5
_FEWEST_BATCH_NODES = 1024
# Beyond what the rest is multiplied out from: libraries loaded on first use, pictures, the allocator's slack.
_OVERHEAD = GIB // 4


class Size(NamedTuple):
    """Of a graph that is about to be clustered."""

    nodes: int
    entries: int
    weighted: bool
    given_channels: int  # of given features; 0: there are none


class MemoryEstimate(NamedTuple):
    """Bytes at the peak of a clustering."""

    before: int  # the process so far, at its peak
    graph: int
    features: int  # while they are computed
    training: int  # features that are kept, and a step

    @property
    def total(self) -> int:
        return self.before + self.graph + max(self.features, self.training) + _OVERHEAD

    def __str__(self) -> str:
        return (
            f"{self.total / GIB:.2f} GiB ({self.before / GIB:.2f} so far, graph {self.graph / GIB:.2f}, computing "
            f"features {self.features / GIB:.2f}, then training {self.training / GIB:.2f})"
        )


def peak_memory_bytes() -> int:
    """The largest memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def generator_bytes(nodes: int, mean_degree: float) -> int:
    """What making a random graph takes beyond the graph itself."""
    return round(nodes * (24 + mean_degree / 2 * 80))


def plan(
    config: ClusterConfig, size: Size, limit_gib: float | None, *, before: int | None = None, making: int = 0
) -> tuple[ClusterConfig, MemoryEstimate]:
    """Settle what the configuration leaves to the program, within a limit of memory.

    Args:
        config: with ``k`` chosen.
        size: of the graph.
        limit_gib: the limit, in GiB of 2^30 bytes; ``None``: none.
        before: bytes held so far; ``None``: :func:`peak_memory_bytes`. What of it is free again is counted twice.
        making: bytes that making the graph takes, if it is still to be made.

    Returns:
        The configuration without zeros, and what it takes.

    Raises:
        ValueError: it does not fit; the message has the estimate.
    """
    before = (peak_memory_bytes() if before is None else before) + making
    channels = config.feature_channels or max(64, -(-5 * config.k // 4) + 3)
    config = replace(config, feature_channels=min(channels, max(1, size.nodes - 1)))
    nodes = min(config.batch_nodes or _BATCH_NODES, size.nodes)
    estimate = _estimate(config, size, nodes, before)
    if limit_gib is not None:
        fewest = nodes if config.batch_nodes else min(nodes, max(_FEWEST_BATCH_NODES, 8 * config.k))
        while estimate.total > limit_gib * GIB and nodes > fewest:
            nodes = max(fewest, nodes // 2)
            estimate = _estimate(config, size, nodes, before)
        if estimate.total > limit_gib * GIB:
            raise ValueError(
                f"memory-limit is {limit_gib:g} GiB, but with batches of {nodes} nodes this takes {estimate}"
            )
    steps = -(-size.nodes // nodes) if size.nodes else 1
    epochs = config.epochs or max(_FEWEST_EPOCHS, -(-_FEWEST_STEPS // steps))
    return replace(config, batch_nodes=nodes, epochs=epochs), estimate


def _estimate(config: ClusterConfig, size: Size, batch: int, before: int) -> MemoryEstimate:
    channels = size.given_channels or config.feature_channels
    matrix = size.nodes * channels * _FLOAT
    share = batch / size.nodes if size.nodes else 1.0
    # A step holds of every node its inputs, the layer's four values forward and two backward, and, K wide: logits,
    # assignment, its product with the adjacency, their gradients, and the head's.
    step = batch * _FLOAT * ((2 * channels if share < 1 else 0) + 6 * config.hidden_channels + 6 * config.k)
    subgraph = round(size.entries * share * 40) if share < 1 else 0
    nodes = 64 * size.nodes  # degrees, labels, clusters, a permutation
    given = matrix if size.given_channels else 0
    return MemoryEstimate(
        before,
        size.entries * (8 if size.weighted else 4) + 8 * size.nodes,
        3 * matrix + given + nodes,
        2 * matrix + given + nodes + step + subgraph,
    )
