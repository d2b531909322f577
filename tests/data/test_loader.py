"""The order and the limits of batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hierpool.data import BatchLoader, PackedGraphs, RaggedBatch, collate, collate_ragged
from hierpool.data.loader import BUCKET_BATCHES
from tests.support.paths import make_graphs

SIZES = [1 + (7 * i) % 23 for i in range(100)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"by_size": True},
    {"max_nodes_per_batch": 40},
    {"by_size": True, "max_pairs_per_batch": 600},
]


def labels(loader: BatchLoader, epoch: int) -> list[int]:
    return [int(y) for batch in loader.epoch(epoch) for y in batch.y]


def padding(loader: BatchLoader, epoch: int) -> int:
    """The rows of padding in an epoch."""
    sizes = [[loader.sizes[i] for i in batch] for batch in loader.batches(epoch)]
    return sum(len(batch) * max(batch) - sum(batch) for batch in sizes)


@pytest.mark.parametrize("options", OPTIONS)
def test_every_graph_once_an_epoch_in_an_order_of_its_own(options: dict[str, Any]) -> None:
    graphs = make_graphs(SIZES)
    loader = BatchLoader(graphs, 4, seed=5, **options)
    orders = [labels(loader, epoch) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(len(SIZES))) for order in orders)
    assert orders[0] != orders[1]
    torch.manual_seed(99)  # the global generator is not used
    assert labels(BatchLoader(graphs, 4, seed=5, **options), 2) == orders[1]
    other = [labels(BatchLoader(graphs, 4, seed=seed, **options), 2) for seed in (6, 7)]
    assert orders[1] not in other
    assert other[0] != other[1]
    assert [[graphs[i].y for i in batch] for batch in loader.batches(1)] == [
        batch.y.tolist() for batch in loader.epoch(1)
    ]


@pytest.mark.parametrize("dense", [False, True])
def test_batches_are_those_of_the_collate_functions(dense: bool) -> None:
    graphs = make_graphs(SIZES[:20])
    loader = BatchLoader(graphs, 6, seed=1, dense=dense)
    for places, batch in zip(loader.batches(2), loader.epoch(2), strict=True):
        one = (collate if dense else collate_ragged)([graphs[i] for i in places])
        assert torch.equal(batch.x, one.x)
        assert torch.equal(batch.y, one.y)
        if isinstance(batch, RaggedBatch):
            assert isinstance(one, RaggedBatch)
            assert torch.equal(batch.graph.to_dense(30), one.graph.to_dense(30))


def test_worker_processes_take_batches_of_packed_graphs() -> None:
    graphs = make_graphs(SIZES[:20])
    data: Any = range(len(graphs))
    packed = PackedGraphs(graphs)
    found = DataLoader(data, batch_size=8, collate_fn=packed.batch, num_workers=2)
    for batch, other in zip(found, BatchLoader(graphs, 8).epoch(0), strict=True):
        assert torch.equal(batch.x, other.x)
        assert torch.equal(batch.y, other.y)
        assert torch.equal(batch.graph.to_dense(30), other.graph.to_dense(30))


def test_without_a_seed_the_order_is_that_of_the_list_or_of_sizes() -> None:
    graphs = make_graphs([3, 1, 2])
    assert BatchLoader(graphs, 2).batches(1) == [[0, 1], [2]]
    assert BatchLoader(graphs, 2, by_size=True).batches(1) == [[1, 2], [0]]


def test_a_batch_is_filled_when_the_next_graph_would_exceed_a_limit() -> None:
    graphs = make_graphs([2, 3, 4, 9, 1, 1, 5, 5])
    assert BatchLoader(graphs, 3).batches(0) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    # 2 + 3 + 4 nodes reach the limit. The graph of 9 nodes is alone, and the graph after it begins a batch.
    assert BatchLoader(graphs, 8, max_nodes_per_batch=9).batches(0) == [[0, 1, 2], [3], [4, 5, 6], [7]]
    assert BatchLoader(graphs, 8, max_nodes_per_batch=8).batches(0) == [[0, 1], [2], [3], [4, 5, 6], [7]]
    # Three graphs of at most 4 nodes have 48 pairs, and the graph of 9 nodes has 81 by itself.
    assert BatchLoader(graphs, 8, max_pairs_per_batch=50).batches(0) == [[0, 1, 2], [3], [4, 5], [6, 7]]
    assert BatchLoader(graphs, 8, max_pairs_per_batch=47).batches(0) == [[0, 1], [2], [3], [4, 5], [6], [7]]
    both = BatchLoader(graphs, 8, max_nodes_per_batch=9, max_pairs_per_batch=50)
    assert both.batches(0) == [[0, 1, 2], [3], [4, 5], [6], [7]]
    assert BatchLoader(graphs, 2, max_nodes_per_batch=9).batches(0) == [[0, 1], [2], [3], [4, 5], [6], [7]]


def test_batches_by_size_have_little_padding_and_change_with_the_epoch() -> None:
    graphs = make_graphs([1 + (37 * i) % 101 for i in range(4 * BUCKET_BATCHES * 4 - 3)])
    random, by_size = (BatchLoader(graphs, 4, seed=1, by_size=sort) for sort in (False, True))
    assert padding(by_size, 1) < 0.2 * padding(random, 1)
    first, second = ({frozenset(batch) for batch in by_size.batches(epoch)} for epoch in (1, 2))
    assert len(first & second) < 0.2 * len(first)
    assert len(first) == len(random.batches(1))  # no more steps
    largest = [max(by_size.sizes[i] for i in batch) for batch in by_size.batches(1)]
    assert largest != sorted(largest)
    limited = BatchLoader(graphs, 4, seed=1, by_size=True, max_nodes_per_batch=101)
    assert all(sum(limited.sizes[i] for i in batch) <= 101 for batch in limited.batches(1))


@pytest.mark.parametrize("name", ["batch_size", "max_nodes_per_batch", "max_pairs_per_batch"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        BatchLoader(make_graphs([1]), **{"batch_size": 2, name: 0})


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ValueError, match="graphs must hold at least one graph"):
        BatchLoader([], 4)
