"""diff_pool: what it takes for a graph, what it divides by, what it leaves out, and the coarsened graphs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph, diff_pool, losses, mincut_pool, soft_pool
from tests.support.sparse import Ragged, ragged

SEED = 2


def inputs_of(name: str) -> Ragged:
    (case,) = ragged(name)
    return case.make(SEED)


def assert_equal(one: Any, other: Any) -> None:
    for name, value, same in zip(one._fields, one, other, strict=True):
        assert (value is None) == (same is None), name
        assert value is None or torch.equal(value, same), name


@pytest.mark.parametrize("name", ["directed-holes", "tails", "one-graph-tail", "many"])
def test_every_form_of_a_graph_gives_the_same(name: str) -> None:
    inputs = inputs_of(name)
    graph = inputs.graph
    edges, weight = graph.to_edge_index()
    n, b = graph.num_nodes, graph.num_graphs
    expected = diff_pool(inputs.x, graph, inputs.s)
    by_batch = diff_pool(inputs.x, edges, inputs.s, weight, graph.batch, batch_size=b)
    assert_equal(by_batch, expected)
    assert_equal(diff_pool(inputs.x, edges.int(), inputs.s, weight, ptr=graph.ptr), expected)
    matrix = torch.sparse_coo_tensor(edges, weight, (n, n), check_invariants=True)
    assert_equal(diff_pool(inputs.x, matrix, inputs.s, ptr=graph.ptr), expected)
    if b == 1:
        assert_equal(diff_pool(inputs.x, edges, inputs.s, weight), expected)


@pytest.mark.parametrize("name", ["directed-holes", "tails", "last-empty", "all-empty"])
@pytest.mark.parametrize("normalize", ["pyg", "valid", None])
def test_divisors(name: str, normalize: Any) -> None:
    inputs = inputs_of(name)
    sizes = inputs.graph.ptr.diff().double()
    result = diff_pool(inputs.x, inputs.graph, inputs.s, normalize=normalize)
    record = inputs.pool()
    padded = sizes.numel() * sizes.max()
    link, entropy = {
        "pyg": (padded * sizes.max(), padded),
        "valid": (sizes.square().sum(), sizes.sum()),
        None: (torch.tensor(1.0), torch.tensor(1.0)),
    }[normalize]
    torch.testing.assert_close(result.link_loss, record.link_norm / link.clamp(min=1))
    torch.testing.assert_close(result.ent_loss, record.total_entropy / entropy.clamp(min=1))
    assert torch.equal(result.x, record.x)
    assert torch.equal(result.adj, record.adj)
    assert torch.equal(result.s, record.s)


def test_losses_that_are_not_asked_for() -> None:
    inputs = inputs_of("directed-holes")
    whole = diff_pool(inputs.x, inputs.graph, inputs.s)
    for options, left_out in (({"link_loss": None}, "link_loss"), ({"entropy": False}, "ent_loss")):
        part = diff_pool(inputs.x, inputs.graph, inputs.s, **options)
        assert getattr(part, left_out) is None
        assert_equal(part, whole._replace(**{left_out: None}))


@pytest.mark.parametrize("temperature", [0.5, torch.tensor(0.5)], ids=["float", "tensor"])
def test_temperature(temperature: Any) -> None:
    inputs = inputs_of("directed-holes")
    expected = diff_pool(inputs.x, inputs.graph, inputs.s / 0.5)
    assert_equal(diff_pool(inputs.x, inputs.graph, inputs.s, temperature=temperature), expected)


@pytest.mark.parametrize("name", ["directed-holes", "last-edgeless", "middle-empty", "no-graphs"])
def test_the_coarsened_graphs_are_ready_for_the_next_layer(name: str) -> None:
    inputs = inputs_of(name)
    result = diff_pool(inputs.x, inputs.graph, inputs.s, sparse_output=True)
    b, k, f = result.x.shape
    coarse = result.sparse
    assert coarse is not None
    assert torch.equal(coarse.x, result.x.reshape(b * k, f))
    assert coarse.edge_index.shape == (2, b * k * k)
    graph = RaggedGraph.from_edge_index(
        coarse.edge_index,
        b * k,
        edge_weight=coarse.edge_weight,
        batch=coarse.batch,
        num_graphs=b,
        is_coalesced=True,
    )
    if b:
        assert torch.equal(graph.to_dense(), result.adj)
    assert coarse.mask.tolist() == (inputs.graph.ptr.diff() > 0).repeat_interleave(k).tolist()
    again = diff_pool(coarse.x, graph, torch.zeros(b * k, 2, dtype=torch.float64))
    dense = hierpool.dense_diff_pool(result.x, result.adj, torch.zeros(b, k, 2, dtype=torch.float64))
    for one, other in zip(again[:4], dense, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_dropped_entries(drop: float) -> None:
    inputs = inputs_of("signed")
    whole = diff_pool(inputs.x, inputs.graph, inputs.s, sparse_output=True).sparse
    leaves = inputs.leaves()
    result = diff_pool(leaves.x, inputs.graph, leaves.s, sparse_output=True, drop=drop)
    part = result.sparse
    assert whole is not None
    assert part is not None
    kept = whole.edge_weight.abs() > drop
    assert kept.any()
    assert bool(kept.all()) == (drop == 0)
    assert torch.equal(part.edge_index, whole.edge_index[:, kept])
    assert torch.equal(part.edge_weight, whole.edge_weight[kept])
    (got,) = torch.autograd.grad(part.edge_weight.square().sum(), leaves.s, retain_graph=True)
    expected = torch.where(result.adj.abs() > drop, result.adj, 0).square().sum()
    torch.testing.assert_close(got, torch.autograd.grad(expected, leaves.s)[0])


@pytest.mark.parametrize("name", ["tails", "tails-shuffled", "last-empty"])
def test_losses_of_the_record_are_those_of_diff_pool(name: str) -> None:
    inputs = inputs_of(name)
    leaves: list[Tensor] = [inputs.x.requires_grad_(), inputs.s.requires_grad_()]
    record = soft_pool(leaves[0], inputs.graph, leaves[1])
    chosen = losses.CONVENTIONS["pyg"]
    of_record = losses.link_pred_loss(record, **chosen.link), losses.entropy_loss(record, **chosen.entropy)
    result = diff_pool(leaves[0], inputs.graph, leaves[1])
    torch.testing.assert_close((result.link_loss, result.ent_loss), of_record)
    weights = (3.0, 0.7)
    got, expected = (
        torch.autograd.grad(sum(w * v for w, v in zip(weights, pair, strict=True)), leaves[1])  # type: ignore[arg-type]
        for pair in ((result.link_loss, result.ent_loss), of_record)
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("normalize", ["pyg", "valid", None])
@pytest.mark.parametrize("name", ["tails", "tails-shuffled", "last-empty"])
def test_cross_entropy(name: str, normalize: Any) -> None:
    inputs = inputs_of(name)
    leaf = inputs.s.requires_grad_()
    result = diff_pool(inputs.x, inputs.graph, leaf, link_loss="bce", normalize=normalize)
    padded = inputs.padded
    s = torch.where(padded.valid[..., None], inputs.pad(leaf).softmax(-1), 0)
    divisor = "numel" if normalize == "pyg" else normalize
    expected = hierpool.link_bce(s, padded.adj, num_nodes=padded.num_nodes, normalize=divisor)
    torch.testing.assert_close(result.link_loss, expected)
    assert result.link_loss is not None
    (got,) = torch.autograd.grad(result.link_loss, leaf)
    torch.testing.assert_close(got, torch.autograd.grad(expected, leaf)[0])


@pytest.mark.parametrize("function", [diff_pool, mincut_pool])
def test_bounds_that_are_no_numbers_are_refused(function: Any) -> None:
    """No weight is larger than NaN, so that all edges would be dropped."""
    x, edges = torch.ones(2, 3), torch.tensor([[0, 1], [1, 0]])
    for bound, error in ((float("nan"), ValueError), (-1.0, ValueError), ("0.1", TypeError)):
        with pytest.raises(error, match="drop must be a number"):
            function(x, edges, x, sparse_output=True, drop=bound)
