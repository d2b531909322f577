"""Division of graphs into batches: in random order or by size, of limited size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch

from hierpool.data.graphs import Batch, Graph, collate, require_graphs
from hierpool.data.packed import PackedGraphs
from hierpool.graph.checks import check_size

# Full batches in a bucket. More leave less padding, and fewer batches that a graph may be in.
BUCKET_BATCHES = 8


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """A CPU generator for one epoch of a run."""
    # The generator reads 32 bits of its seed.
    return torch.Generator().manual_seed((1_000_003 * seed + epoch) % (1 << 32))


class BatchLoader:
    """Batches of a list of graphs.

    Every graph is in one batch of an epoch. The batches depend on the seed and the epoch only, so a resumed run gets
    the same ones. Graphs are added to a batch in the order of the epoch until it is filled: the next graph would exceed
    ``batch_size`` or a limit. A graph that exceeds a limit by itself is a batch of its own. Ragged batches are taken of
    a copy of all graphs, which is made for the first of them.

    Args:
        graphs: at least one graph.
        batch_size: largest number of graphs in a batch.
        seed: seed of the order; ``None`` keeps the order of the list, or with ``by_size`` that of sizes.
        dense: yield padded batches with dense adjacency instead of ragged ones.
        by_size: put graphs of similar numbers of nodes into a batch. Each epoch divides the shuffled graphs into
            buckets of ``BUCKET_BATCHES * batch_size`` graphs, sorts each bucket by size, and shuffles the batches.
        max_nodes_per_batch: largest number of nodes in a batch, as ``max_num`` of PyTorch Geometric's
            ``DynamicBatchSampler``; ``None``: no limit.
        max_pairs_per_batch: largest number of pairs of nodes in a padded batch, :math:`B N^2` for ``B`` graphs of at
            most ``N`` nodes; ``None``: no limit.

    Raises:
        ValueError: ``graphs`` is empty, or a number is below 1.
    """

    def __init__(
        self,
        graphs: Sequence[Graph],
        batch_size: int,
        *,
        seed: int | None = None,
        dense: bool = False,
        by_size: bool = False,
        max_nodes_per_batch: int | None = None,
        max_pairs_per_batch: int | None = None,
    ) -> None:
        require_graphs(graphs)
        limits = {"max_nodes_per_batch": max_nodes_per_batch, "max_pairs_per_batch": max_pairs_per_batch}
        for name, value in ({"batch_size": batch_size} | limits).items():
            if value is not None and check_size(name, value) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.graphs = list(graphs)
        self.sizes = [graph.x.size(0) for graph in self.graphs]
        self.batch_size = batch_size
        self.seed = seed
        self.by_size = by_size
        self.max_nodes_per_batch = max_nodes_per_batch
        self.max_pairs_per_batch = max_pairs_per_batch
        self.dense = dense
        self._packed: PackedGraphs | None = None  # of ragged batches, made for the first one

    def batches(self, number: int) -> list[list[int]]:
        """The positions in ``graphs`` of each batch of an epoch."""
        # The global generator belongs to the model (dropout).
        generator = None if self.seed is None else epoch_generator(self.seed, number)
        order = list(range(len(self.graphs)))
        if generator is not None:
            order = torch.randperm(len(order), generator=generator).tolist()
        if not self.by_size:
            return self._cut(order)
        if generator is None:
            return self._cut(sorted(order, key=self.sizes.__getitem__))
        batches = self._cut(self._sort_buckets(order))
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        for batch in self.batches(number):
            yield self.collated(batch)

    def collated(self, batch: Sequence[int]) -> Batch:
        """The batch of the graphs at some positions."""
        if self.dense:
            return collate([self.graphs[i] for i in batch])
        if self._packed is None:
            self._packed = PackedGraphs(self.graphs)
        return self._packed.batch(batch)

    def _sort_buckets(self, order: list[int]) -> list[int]:
        """Sort every bucket by size, upwards and downwards in turn, so that neighbours begin where others end."""
        length = BUCKET_BATCHES * self.batch_size
        buckets = [order[start : start + length] for start in range(0, len(order), length)]
        return [
            i
            for k, bucket in enumerate(buckets)
            for i in sorted(bucket, key=self.sizes.__getitem__, reverse=k % 2 == 1)
        ]

    def _cut(self, order: list[int]) -> list[list[int]]:
        """Divide an order into batches."""
        most_graphs = self.batch_size
        most_nodes = self.max_nodes_per_batch or math.inf
        most_pairs = self.max_pairs_per_batch or math.inf
        batch: list[int] = []
        batches = [batch]
        nodes = largest = 0
        for i in order:
            size = self.sizes[i]
            nodes += size
            largest = max(largest, size)
            graphs = len(batch) + 1
            full = graphs > most_graphs or nodes > most_nodes or graphs * largest**2 > most_pairs
            if full and batch:
                batch = []
                batches.append(batch)
                nodes = largest = size
            batch.append(i)
        return batches
