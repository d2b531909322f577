"""Inputs of the assignment network: given and random features, their means over walks, and batches of nodes."""

from __future__ import annotations

import pytest
import torch

from hierpool import RaggedGraph
from hierpool.clustering.features import count_products, node_inputs
from hierpool.clustering.sampling import batches, count_batches, induced_subgraph
from hierpool.data import stochastic_block_model


def make_graph(*, weighted: bool = False, seed: int = 0) -> RaggedGraph:
    """Undirected, 40 nodes, one of them isolated."""
    generator = torch.Generator().manual_seed(seed)
    adj = torch.rand(40, 40, generator=generator)
    adj = torch.maximum(adj, adj.t()).sub(0.93).clamp(min=0)
    adj[7], adj[:, 7] = 0, 0
    adj.fill_diagonal_(0)
    return RaggedGraph.from_dense(adj if weighted else adj > 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_given_features_are_means_over_walks(weighted: bool) -> None:
    graph = make_graph(weighted=weighted)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    calls: list[int] = []
    inputs = node_inputs(graph, x, channels=9, products=9, seed=0, progress=lambda: calls.append(1))
    assert torch.equal(x, before)
    assert len(calls) == count_products(x, 9) == 4
    adj = graph.to_dense()[0].double()
    adj /= adj[adj > 0].mean()
    weight = adj.sum(1) + 1
    walk = (adj + torch.eye(40)) / weight[:, None]
    z = walk @ walk @ x.double()
    z -= (weight / weight.sum()) @ z
    p2z = walk @ walk @ z
    for ours, expected in ((inputs.features, z), (inputs.propagated, p2z)):
        torch.testing.assert_close(
            ours.double(), torch.nn.functional.normalize(expected, dim=1), rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("unit", [1e-30, 3e-5, 1e30])
def test_units_of_weights_and_features_are_of_no_account(unit: float) -> None:
    graph = make_graph(weighted=True)
    assert graph.value is not None
    scaled = graph.with_value(graph.value * unit)
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    for given, other in ((None, None), (x, x * unit), (x, x)):
        ours = node_inputs(scaled, other, channels=9, products=9, seed=0)
        expected = node_inputs(graph, given, channels=9, products=9, seed=0)
        for one, two in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=2e-4)


def test_inputs_that_say_nothing_are_refused() -> None:
    graph = make_graph(weighted=True)
    with pytest.raises(ValueError, match="features must differ between nodes, but all rows are equal"):
        node_inputs(graph, torch.ones(40, 2), channels=9, products=9, seed=0)
    assert graph.value is not None
    with pytest.raises(ValueError, match="weights must not all be 0"):
        node_inputs(graph.with_value(graph.value * 0), None, channels=9, products=9, seed=0)


def test_random_features_span_the_communities() -> None:
    graph, labels = stochastic_block_model(3000, 6, mean_degree=12, mixing=0.2, seed=1)
    calls: list[int] = []
    inputs = node_inputs(graph, None, channels=16, products=12, seed=0, progress=lambda: calls.append(1))
    assert len(calls) == count_products(None, 12) == 14
    one = torch.nn.functional.one_hot(labels).float()
    z = inputs.features.double()
    fitted = z @ torch.linalg.lstsq(z, one.double()).solution
    assert (fitted.argmax(1) == labels).float().mean() > 0.97
    torch.testing.assert_close(inputs.propagated.norm(dim=1), torch.ones(3000))
    again = node_inputs(graph, None, channels=16, products=12, seed=0)
    other = node_inputs(graph, None, channels=16, products=12, seed=1)
    assert torch.equal(again.features, inputs.features)
    assert not torch.equal(other.features, inputs.features)


def test_more_random_features_than_a_graph_has_modes() -> None:
    pair = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 2, 3], [1, 0, 3, 2]]), 6)
    inputs = node_inputs(pair, None, channels=5, products=24, seed=0)
    assert inputs.features.isfinite().all()
    assert inputs.propagated.isfinite().all()


@pytest.mark.parametrize("nodes", [[], [3], [0, 7, 8, 20, 39], list(range(40))])
@pytest.mark.parametrize("weighted", [False, True])
def test_induced_subgraphs(nodes: list[int], weighted: bool) -> None:
    graph = make_graph(weighted=weighted)
    index = torch.tensor(nodes, dtype=torch.int64)
    part = induced_subgraph(graph, index)
    assert torch.equal(part.to_dense(max_num_nodes=len(nodes))[0], graph.to_dense()[0][index][:, index])
    assert part.is_symmetric
    assert (part.value is None) is not weighted


def test_batches_are_a_partition_of_the_nodes() -> None:
    parts = list(batches(103, 20, seed=5, epoch=2))
    assert len(parts) == count_batches(103, 20) == 6
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert max(map(len, parts)) <= 20
    assert torch.cat(parts).sort().values.tolist() == list(range(103))
    assert all(torch.equal(part, part.sort().values) for part in parts)
    later = list(batches(103, 20, seed=5, epoch=2, start=4))
    assert all(torch.equal(a, b) for a, b in zip(later, parts[4:], strict=True))
    assert not torch.equal(next(batches(103, 20, seed=5, epoch=3)), parts[0])
    assert not torch.equal(next(batches(103, 20, seed=6, epoch=2)), parts[0])
