"""Padding graphs into batches, and the order of batches."""

from __future__ import annotations

import pytest
import torch

from hierpool.data import BatchLoader, DenseBatch, Graph, RaggedBatch, collate, collate_ragged


def make_graphs(sizes: list[int]) -> list[Graph]:
    """Paths: node i is joined to node i + 1."""
    graphs = []
    for label, n in enumerate(sizes):
        forward = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        edges = torch.cat([forward, forward.flip(0)], 1)
        graphs.append(Graph(torch.full((n, 2), float(label + 1)), edges, label))
    return graphs


def labels(loader: BatchLoader, epoch: int) -> list[int]:
    return [int(y) for batch in loader.epoch(epoch) for y in batch.y]


def test_collate_pads_with_zeros() -> None:
    batch = collate(make_graphs([3, 1]), pad_to=4)
    assert batch.mask.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert batch.x[..., 0].tolist() == [[1, 1, 1, 0], [2, 0, 0, 0]]
    path = torch.tensor([[0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])
    assert torch.equal(batch.adj, torch.stack([path, torch.zeros_like(path)]).float())
    assert batch.y.tolist() == [0, 1]
    assert collate(make_graphs([3, 1])).adj.shape == (2, 3, 3)


def test_collate_refuses() -> None:
    with pytest.raises(ValueError, match="graphs must hold at least one graph"):
        collate([])
    with pytest.raises(
        ValueError, match="pad_to must be at least 3, the number of nodes of the largest graph, got 2"
    ):
        collate(make_graphs([3, 1]), pad_to=2)


def test_collate_ragged_is_the_padded_batch_without_its_padding() -> None:
    graphs = make_graphs([3, 1, 4])
    dense, ragged = collate(graphs), collate_ragged(graphs)
    assert torch.equal(ragged.x, dense.x[dense.mask])
    assert torch.equal(ragged.graph.to_dense(), dense.adj)
    assert torch.equal(ragged.y, dense.y)
    assert ragged.graph.is_symmetric
    assert ragged.graph.value is None
    assert graphs[0].adj is graphs[0].adj  # built once
    assert torch.equal(collate_ragged(graphs[1:2]).graph.ptr, torch.tensor([0, 1]))
    assert [type(t) for t in ragged.to("cpu")] == [type(t) for t in ragged]
    with pytest.raises(ValueError, match="graphs must hold at least one graph"):
        collate_ragged([])


def test_loader_yields_either_form() -> None:
    graphs = make_graphs([3, 1, 4])
    for dense, form in ((True, DenseBatch), (False, RaggedBatch)):
        (batch,) = BatchLoader(graphs, 4, dense=dense).epoch(0)
        assert isinstance(batch, form)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_loader_takes_ragged_batches(workers: int) -> None:
    graphs = make_graphs([3, 1, 4, 2])
    context = "fork" if workers else None
    options = {"num_workers": workers, "multiprocessing_context": context, "collate_fn": collate_ragged}
    batches = list(torch.utils.data.DataLoader(graphs, 2, **options))
    expected = [collate_ragged(graphs[:2]), collate_ragged(graphs[2:])]
    for batch, other in zip(batches, expected, strict=True):
        assert torch.equal(batch.x, other.x)
        assert torch.equal(batch.graph.col, other.graph.col)
        assert torch.equal(batch.graph.ptr, other.graph.ptr)
        assert batch.graph.is_symmetric


def test_every_graph_once_an_epoch_in_an_order_of_its_own() -> None:
    graphs = make_graphs([1 + i % 4 for i in range(11)])
    loader = BatchLoader(graphs, 4, seed=5)
    orders = [labels(loader, epoch) for epoch in (1, 2)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert orders[0] != orders[1]
    torch.manual_seed(99)  # the global generator is not used
    assert labels(BatchLoader(graphs, 4, seed=5), 2) == orders[1]
    other = [labels(BatchLoader(graphs, 4, seed=seed), 2) for seed in (6, 7)]
    assert orders[1] not in other
    assert other[0] != other[1]
    assert len(loader) == len(list(loader.epoch(1))) == 3
    assert labels(BatchLoader(graphs, 4), 1) == list(range(11))


def test_loader_refuses() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        BatchLoader(make_graphs([1]), 0)
    with pytest.raises(ValueError, match="graphs must hold at least one graph"):
        BatchLoader([], 4)
