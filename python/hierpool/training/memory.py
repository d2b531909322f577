"""Estimates of the memory of a training run, before it starts."""

from __future__ import annotations

import ctypes
import math
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from hierpool.data import BatchLoader, GraphDataset, Split
from hierpool.nn import POOLERS, ASAPool, DETPool, MaxCutPool, ScorePooling, SoftPooling
from hierpool.training.config import TrainConfig
from hierpool.training.loop import build_model, fold_seed, make_loader

GIB = 1 << 30
# Libraries that are loaded on first use, plots, and unused memory of the allocator.
OVERHEAD = GIB // 4
_FLOAT = 4
# Measured: memory of activations in mixed precision, whose layers keep more for their backward than those in float32;
# and resident memory for each byte of tensors, as the allocator has gaps.
_MIXED, _GAPS = 1.4, 1.1
# Weights, gradients, average, best average, and two moments of Adam. A checkpoint holds all but the gradients, and is
# made as bytes twice.
_COPIES, _CHECKPOINT_COPIES = 6, 10

Clusters = Callable[[int], int]
"""The number of clusters of a graph, from its number of nodes at that level."""


def peak_memory_bytes() -> int:
    """The peak memory of this process so far."""
    peak = _status("VmHWM")
    if peak is not None:
        return peak
    # On Linux this is not below the memory of the process that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_memory_bytes() -> int:
    """The memory of this process now; its peak where only that is known."""
    now = _status("VmRSS")
    return peak_memory_bytes() if now is None else now


def release_memory() -> None:
    """Give memory that is free, but that the allocator still holds, back to the system, where it is glibc's."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _status(field: str) -> int | None:
    """A number of bytes that Linux knows about this process."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def limit_text(limit_gib: float | None) -> str:
    """The memory limit in GiB (2^30 bytes), for a line about an estimate."""
    return "no limit" if limit_gib is None else f"limit {limit_gib:g} GiB"


def memory_metrics(estimated: int) -> dict[str, float]:
    """The measured and the estimated peak memory of a run, for its metrics."""
    return {"peak_memory_gib": peak_memory_bytes() / GIB, "estimated_memory_gib": estimated / GIB}


class Network(NamedTuple):
    """What of a network determines its memory."""

    in_channels: int
    hidden_channels: int
    embedding_channels: int
    layers: int
    dense: bool  # padded first level
    foreign: bool  # the pooling operator of another library, which keeps more for its backward
    mixed: bool  # activations in bfloat16
    relative: bool  # graphs have numbers of clusters of their own
    soft: bool  # levels are padded and have an assignment; otherwise all are sparse
    stacks: int  # of a level that is pooled

    @classmethod
    def of(cls, config: TrainConfig, dataset: GraphDataset) -> Network:
        """The network of a run."""
        widths = config.hidden_channels, config.embedding_channels, config.layers
        foreign, mixed = config.pool != "hierpool", config.dtype != "float32"
        soft, stacks = config.pooler in POOLERS, 2 if config.pooler == "diff" else 1
        if config.pooler != "diff":
            widths = config.hidden_channels, config.hidden_channels, config.layers
        dense, relative = config.dense_batches and soft, soft and config.clusters_of == "graph"
        return cls(dataset.num_features, *widths, dense, foreign, mixed, relative, soft, stacks)


class MemoryEstimate(NamedTuple):
    """Peak memory of a training run, in bytes."""

    before: int  # of the process so far
    graphs: int  # compressed rows, which are made at first use
    parameters: int  # parameters with all that has their size
    step: int  # on the largest batch
    batch: tuple[int, ...]  # nodes of the graphs of that batch

    @property
    def total(self) -> int:
        return self.before + self.graphs + self.parameters + self.step + OVERHEAD

    def __str__(self) -> str:
        return (
            f"{self.total / GIB:.2f} GiB ({self.before / GIB:.2f} so far, parameters and optimizer "
            f"{self.parameters / GIB:.2f}, a step {self.step / GIB:.2f} on {len(self.batch)} graphs of at most "
            f"{max(self.batch)} nodes, {sum(self.batch)} in all)"
        )

    def check(self, limit_gib: float | None) -> None:
        """Raise ``ValueError`` if the estimate is above the limit in GiB (2^30 bytes)."""
        if limit_gib is not None and self.total > limit_gib * GIB:
            raise ValueError(
                f"memory-limit is {limit_gib:g} GiB, but training takes about {self}; a smaller --batch-size, "
                "--max-nodes-per-batch or --ratio takes less"
            )


def estimate(
    config: TrainConfig, dataset: GraphDataset, splits: Sequence[Split], *, before: int | None = None
) -> MemoryEstimate:
    """Estimate the memory of a training run, from all of its batches.

    Args:
        config: configuration of the run.
        dataset: all graphs.
        splits: the splits to train on, as :func:`hierpool.training.make_splits` returns them.
        before: memory of the process so far, in bytes; ``None``: :func:`resident_memory_bytes`.
    """
    with torch.device("meta"):
        model = build_model(config, dataset)
    clusters = [count_of(pool, config) for pool in model.pools]
    network = Network.of(config, dataset)
    trained = (
        (make_loader(config, dataset, split.train, fold_seed(config, fold)), range(1, config.epochs + 1))
        for fold, split in enumerate(splits)
    )
    evaluated = (
        (make_loader(config, dataset, indices), range(1))
        for split in splits
        for indices in (split.validation, split.test)
    )
    step, batch = max(
        (step_bytes(sizes, network, clusters, backward=backward), tuple(sizes))
        for passes, backward in ((trained, True), (evaluated, False))
        for sizes in largest_batches(_sizes(passes))
    )
    parameters = _FLOAT * sum(parameter.numel() for parameter in model.parameters())
    return MemoryEstimate(
        resident_memory_bytes() if before is None else before,
        0 if network.dense else sum(4 * g.edge_index.size(1) + 16 * g.x.size(0) for g in dataset.graphs),
        parameters * _COPIES,
        max(step, parameters * _CHECKPOINT_COPIES),  # checkpoints are made between steps
        batch,
    )


def count_of(pool: nn.Module, config: TrainConfig) -> Clusters:
    """The number of supernodes that a layer gives a graph, by its number of nodes."""
    if isinstance(pool, SoftPooling):
        return pool.clusters.for_nodes
    if isinstance(pool, ScorePooling | ASAPool | DETPool | MaxCutPool):
        return lambda nodes: math.ceil(config.ratio * nodes)
    return lambda nodes: math.ceil(0.6 * nodes)  # of matchings and independent sets, about


def _sizes(passes: Iterable[tuple[BatchLoader, range]]) -> Iterator[list[int]]:
    """The numbers of nodes of the graphs of each batch, in epochs of loaders."""
    for loader, epochs in passes:
        for epoch in epochs:
            for batch in loader.batches(epoch):
                yield [loader.sizes[i] for i in batch]


def largest_batches(batches: Iterable[Sequence[int]]) -> list[Sequence[int]]:
    """Those batches that no other one exceeds in its graphs, its nodes and its largest graph."""
    front: list[tuple[tuple[int, int, int], Sequence[int]]] = []
    for sizes in batches:
        key = len(sizes), sum(sizes), max(sizes)
        if any(a >= key[0] and b >= key[1] and c >= key[2] for (a, b, c), _ in front):
            continue
        front = [item for item in front if any(x > y for x, y in zip(item[0], key, strict=True))]
        front.append((key, sizes))
    return [sizes for _, sizes in front]


class _Level(NamedTuple):
    """Bytes of a level in a step."""

    kept: float  # inputs, and what the backward needs
    gradients: float  # alive at once in the backward
    forward: float  # alive at once without a backward


def step_bytes(
    sizes: Sequence[int], network: Network, clusters: Sequence[Clusters], *, backward: bool = True
) -> int:
    """Estimate the memory of a step on one batch, without parameters.

    Args:
        sizes: numbers of nodes of the graphs.
        network: the network.
        clusters: for each level, the number of clusters of a graph. A level is padded to the largest of the batch.
        backward: whether the step trains, or only evaluates.
    """
    kept = peak = 0.0
    counts = list(sizes)
    for number in range(len(clusters) + 1):
        padded = network.dense or (number > 0 and network.soft)
        rows = len(counts) * max(counts) if padded else sum(counts)
        pairs = len(counts) * max(counts) ** 2 if padded else 0
        next_counts = [clusters[number](n) for n in counts] if number < len(clusters) else []
        level = _level(network, sum(counts), rows, pairs, number == 0, max(next_counts, default=0))
        kept += level.kept
        peak = max(peak, kept + level.gradients if backward else level.forward)
        counts = next_counts
    return round(peak * _GAPS)


def _level(network: Network, nodes: int, rows: int, pairs: int, first: bool, k: int) -> _Level:
    """The bytes of a level of ``rows``, some of them padding, that is pooled to ``k`` clusters; 0: it is the last."""
    hidden, inner = network.hidden_channels, network.layers - 1
    widths = [network.embedding_channels]
    if k and network.stacks > 1:
        widths.append(network.embedding_channels if network.relative else k)
    outputs = [inner * hidden + width for width in widths]
    fan_in = network.in_channels if first else outputs[0]
    # A stack keeps its results; and of nodes, the rows before ReLU and normalisation with their lengths, and the sum
    # over neighbours of its input, if that is narrower than the first layer.
    node = 0
    for width, output in zip(widths, outputs, strict=True):
        aggregated = fan_in * (1 if first else 2) < 2 * (hidden if inner else width)
        node += output + network.layers + (fan_in if aggregated else 0)
    k = k if network.soft else 0
    row = fan_in + 2 + sum(outputs) + 3 * k  # two for the number of the graph; logits, S, and A S
    gradient = sum(outputs) + (max(k, 4 * hidden) if k else 2 * hidden)
    forward = 2 * fan_in + 2 * sum(outputs) + 3 * k
    # The adjacency, and that of valid nodes with its mask, or S^T S.
    masks_pairs = first and network.dense
    matrices, gradients = (2.25, 0.0) if masks_pairs else (2.0, 3.0)
    if network.stacks == 1 and network.soft:
        matrices += 3  # the steps of the losses and of the post-processing
    if network.foreign and k:
        row, matrices, gradients = row + 3 * k, matrices + 1, gradients + 2
    row_bytes = _FLOAT * (_MIXED if network.mixed else 1)
    return _Level(
        (rows * row + nodes * node) * row_bytes + matrices * pairs * _FLOAT,
        rows * gradient * row_bytes + gradients * pairs * _FLOAT,
        rows * forward * _FLOAT + (matrices + 1) * pairs * _FLOAT,
    )
