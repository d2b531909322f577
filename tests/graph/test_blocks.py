"""Some graphs of a batch as a batch of their own."""

from __future__ import annotations

import random

import pytest
import torch

from hierpool import Assignment, RaggedGraph
from hierpool.graph.blocks import assignments_at, graphs_at
from tests.selection.graphs import alone, drawn_batch

pytestmark = pytest.mark.usefixtures("builder")


def drawn_choice(rng: random.Random, graphs: int) -> torch.Tensor:
    """Some graphs, some of them several times."""
    return torch.tensor([rng.randrange(graphs) for _ in range(rng.randint(0, 5))], dtype=torch.int64)


@pytest.mark.parametrize("seed", range(60))
def test_graphs_are_those_that_are_taken_one_by_one(seed: int) -> None:
    batch, rng = drawn_batch(seed)
    if seed % 3 == 0:
        batch = batch.with_edge_attr(torch.rand(batch.num_edges, 2))
    index = drawn_choice(rng, batch.num_graphs)
    found, nodes = graphs_at(batch, index)
    assert found.num_graphs == index.numel()
    assert torch.equal(found.batch, torch.arange(index.numel()).repeat_interleave(found.ptr.diff()))
    of_each = []
    for b in index.tolist():
        one, own = alone(batch.with_edge_attr(None), b)
        edges = (batch.batch[batch.to_edge_index()[0][0]] == b).nonzero()[:, 0]
        attr = None if batch.edge_attr is None else batch.edge_attr[edges]
        of_each.append((one.with_edge_attr(attr), own))
    assert torch.equal(nodes, torch.cat([own for _, own in of_each] or [nodes[:0]]))
    if not of_each:
        return
    joined = RaggedGraph.collate([one for one, _ in of_each])
    for name in ("rowptr", "col", "value", "edge_attr", "ptr", "order", "is_symmetric"):
        ours, expected = getattr(found, name), getattr(joined, name)
        if isinstance(expected, torch.Tensor):
            assert ours.dtype is expected.dtype
            assert torch.equal(ours, expected)
        else:
            assert ours == expected


@pytest.mark.parametrize("seed", range(30))
def test_assignments_are_blocks_of_the_matrix(seed: int) -> None:
    batch, rng = drawn_batch(seed)
    torch.manual_seed(seed)
    n = batch.num_nodes
    weight = torch.rand(n) if seed % 2 else None
    cluster = torch.tensor([rng.randint(-1, 3) for _ in range(n)], dtype=torch.int64)
    if seed % 3:
        whole = Assignment.from_clusters(cluster, batch, weight)
    else:
        whole = Assignment.from_dense(torch.rand(n, 3), batch, 2)
    index = drawn_choice(rng, batch.num_graphs)
    found = assignments_at(whole, index)
    dense, starts = whole.to_dense(), whole.cluster_ptr.tolist()
    _, nodes = graphs_at(batch, index)
    assert found.num_nodes == nodes.numel()
    assert (found.is_hard, found.is_injective) == (whole.is_hard, whole.is_injective)
    blocks = [dense[(batch.batch == b)][:, starts[b] : starts[b + 1]] for b in index.tolist()]
    assert torch.equal(found.to_dense(), torch.block_diag(*blocks) if blocks else dense[:0, :0])


def test_gradients_flow_to_the_weights_of_the_batch() -> None:
    batch, _ = drawn_batch(4)
    weight = torch.rand(batch.num_edges, dtype=torch.float64, requires_grad=True)
    of_entry = batch.graph_of_node()[batch.row.long()]
    b = of_entry[0]
    found, _ = graphs_at(batch.with_value(weight), torch.stack([b, b]))
    assert found.value is not None
    found.value.sum().backward()
    inside = (of_entry == b).double()
    assert weight.grad is not None
    assert torch.equal(weight.grad, 2 * inside)


def test_int64_indices_become_int32_where_these_hold_them() -> None:
    batch, _ = drawn_batch(4)
    wide = RaggedGraph(batch.rowptr.long(), batch.col.long(), None, batch.ptr)
    found, _ = graphs_at(wide, torch.tensor([1]))
    assert found.rowptr.dtype is found.col.dtype is torch.int32
