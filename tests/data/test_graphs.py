"""Joining graphs into batches, padded or ragged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from hierpool.data import BatchLoader, DenseBatch, RaggedBatch, collate, collate_ragged
from tests.support.paths import make_graphs


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
    with pytest.raises(TypeError, match="pad_to must be an int, got float"):
        collate(make_graphs([3, 1]), pad_to=4.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("end", [-1, 1])
def test_edges_beyond_the_nodes_of_their_graph_are_refused(end: int) -> None:
    """In a padded batch they would be edges of other nodes, or of padding."""
    whole, single = make_graphs([3, 1])
    wrong = replace(single, edge_index=torch.tensor([[0], [end]]))
    with pytest.raises(ValueError, match=rf"edge_index of graphs\[1\] has the edge \[0, {end}\]"):
        collate([whole, wrong])
    with pytest.raises(ValueError, match=f"is {end}, but there are 1 nodes"):
        collate_ragged([whole, wrong])


@pytest.mark.parametrize("joined", [collate, collate_ragged, lambda graphs: BatchLoader(graphs, 2)])
def test_features_that_differ_are_refused(joined: Callable[..., Any]) -> None:
    whole, single = make_graphs([3, 1])
    for x in (single.x.double(), single.x.repeat(1, 2)):
        with pytest.raises(ValueError, match="graphs must have equally many features x of one dtype, got"):
            joined([whole, replace(single, x=x)])


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
