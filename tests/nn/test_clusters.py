"""Numbers of clusters by the size of each graph: a layer on a batch is the layer on each graph alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from hierpool import RaggedGraph
from hierpool.nn import DiffPool, DMoNPooling, PoolingOutput, SelectOutput
from hierpool.nn.clusters import ClusterCount
from tests.support.poolers import NAMES, SIZES, F, assert_same, forms, make_batch, make_pooler, scalar

COUNTS = (3, 1, 2, 2)


def alone(name: str, counts: tuple[int, ...], **options: Any) -> list[PoolingOutput]:
    """The outputs of a pooler for each graph, with the first columns of its assignment."""
    b, found = make_batch(), []
    for g, (size, count) in enumerate(zip(SIZES, counts, strict=True)):
        pooler = make_pooler(name, **options)
        x, adj = b.padded[g : g + 1, :size], b.adj[g : g + 1, :size, :size]
        one = type(pooler)(F, count, **options).double()
        logits = pooler.assignment(x, adj, None)[..., :count]
        found.append(one(x, adj, logits=logits))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_graphs_alone(name: str) -> None:
    b, expected = make_batch(), alone(name, COUNTS)
    pooler = make_pooler(name)
    counts = torch.tensor(COUNTS)
    calls = [((b.padded, b.adj), {"mask": b.mask}), *forms(b).values()]
    outputs = [pooler(*args, **options, num_clusters=counts) for args, options in calls]
    for out in outputs:
        assert_same(out, outputs[0])
        assert torch.equal(out.so.num_clusters, counts)
        for g, (one, count) in enumerate(zip(expected, COUNTS, strict=True)):
            torch.testing.assert_close(out.x[g, :count], one.x[0])
            torch.testing.assert_close(out.adj[g, :count, :count], one.adj[0])
            assert not out.x[g, count:].any()
            assert not out.adj[g, count:].any()
            assert not out.adj[g, :, count:].any()
        for loss, value in out.loss.items():
            if loss in ("link_loss", "entropy_loss"):  # normalised by the padding of the batch
                continue
            torch.testing.assert_close(value, torch.stack([one.loss[loss] for one in expected]).mean())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_every_form(name: str) -> None:
    b, counts = make_batch(), torch.tensor(COUNTS)
    pooler = make_pooler(name)
    dense = pooler(b.padded, b.adj, mask=b.mask, num_clusters=counts)
    expected = torch.autograd.grad(scalar(dense), list(pooler.parameters()))
    for args, options in forms(b).values():
        out = pooler(*args, **options, num_clusters=counts)
        torch.testing.assert_close(torch.autograd.grad(scalar(out), list(pooler.parameters())), expected)
    record = pooler(b.padded, b.adj, mask=b.mask, num_clusters=counts).record
    assert torch.equal(record.num_clusters, counts)


@pytest.mark.parametrize("name", NAMES)
def test_sparse_output_has_no_clusters_that_do_not_exist(name: str) -> None:
    b, counts = make_batch(), torch.tensor(COUNTS)
    dense = make_pooler(name)(b.padded, b.adj, mask=b.mask, num_clusters=counts)
    pooler = make_pooler(name, sparse_output=True)
    out = pooler(b.padded, b.adj, mask=b.mask, num_clusters=counts)
    assert out.x.shape == (sum(COUNTS), F)
    assert out.batch is not None
    assert out.batch.tolist() == [g for g, count in enumerate(COUNTS) for _ in range(count)]
    graph = RaggedGraph.from_edge_index(
        out.edge_index, sum(COUNTS), edge_weight=out.edge_weight, batch=out.batch
    )
    torch.testing.assert_close(graph.to_dense(3), dense.adj)
    lifted = pooler.lift(out.x, out.so)
    torch.testing.assert_close(lifted, pooler.lift(dense.x, dense.so))
    poisoned = torch.where(dense.so.existing[..., None], dense.x, torch.nan)
    torch.testing.assert_close(pooler.lift(poisoned, dense.so), lifted)
    with pytest.raises(ValueError, match=r"x must have shape \[4, 3, 'F'\] or \[8, 'F'\], got \[5, 4\]"):
        pooler.lift(out.x[:5], out.so)
    inverse = make_pooler(name, lift="inverse")
    torch.testing.assert_close(
        inverse.lift(inverse(b.x, b.edge_index, b.edge_weight, batch=b.batch, num_clusters=counts).x, out.so),
        inverse.lift(dense.x, dense.so),
    )


@pytest.mark.parametrize("name", NAMES)
def test_ratio_is_of_the_nodes_of_each_graph(name: str) -> None:
    b = make_batch()
    pooler = make_pooler(name)
    relative = type(pooler)(F, ratio=0.3, max_nodes=10).double()
    assert relative.k == 3
    relative.load_state_dict(pooler.state_dict())
    counts = torch.tensor([2, 1, 3, 1])
    expected = pooler(b.padded, b.adj, mask=b.mask, num_clusters=counts)
    for args, options in [((b.padded, b.adj), {"mask": b.mask}), *forms(b).values()]:
        out = relative(*args, **options)
        assert_same(out, expected)
        assert torch.equal(out.so.num_clusters, counts)
    small = relative(b.padded[:1, :4], b.adj[:1, :4, :4])  # four nodes have two clusters
    assert small.adj.shape == (1, 2, 2)
    with pytest.raises(
        ValueError, match=r"max_nodes must be at least .*max_nodes=10 and a graph of 11 nodes"
    ):
        relative(torch.ones(1, 11, F, dtype=torch.float64), torch.ones(1, 11, 11, dtype=torch.float64))
    given = SelectOutput(expected.so.s, None, b.mask, None, counts)
    assert_same(
        relative(b.padded, b.adj, so=given, mask=b.mask), pooler(b.padded, b.adj, so=given, mask=b.mask)
    )


def test_ratio_of_the_largest_rounds_down_and_is_the_same_for_all() -> None:
    def k(nodes: int) -> int:
        return DiffPool(4, ratio=0.25, max_nodes=nodes, ratio_of="largest").k

    assert (k(28), k(11), k(2)) == (7, 2, 1)
    b = make_batch()
    pooler = DiffPool(F, ratio=0.3, max_nodes=10, ratio_of="largest").double()
    out = pooler(b.padded, b.adj, mask=b.mask)
    assert out.adj.shape == (4, 3, 3)
    assert out.so.num_clusters is None


def test_counts_are_rounded_up_exactly() -> None:
    sizes = torch.arange(1, 2000)
    for over, under in ((7, 100), (1, 10), (1, 3), (2, 3), (1, 4), (29, 100), (1, 1)):
        count = ClusterCount(None, over / under, 2000)
        ptr = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
        graph = RaggedGraph(torch.zeros(int(ptr[-1]) + 1, dtype=torch.int64), ptr[:0], None, ptr, None, True)
        assert torch.equal(count.of(torch.ones(int(ptr[-1]), 1), graph, None), -(-sizes * over // under))


def test_graphs_without_nodes_have_a_cluster() -> None:
    pooler = DiffPool(F, ratio=0.5, max_nodes=8)
    none = torch.zeros(1, dtype=torch.int64)
    empty = RaggedGraph.from_edge_index(none.new_zeros(2, 0), 0, ptr=none)
    assert pooler(torch.ones(0, F), empty).x.shape == (0, 4, F)
    mask = torch.tensor([[True, True, True], [False] * 3])
    out = pooler(torch.ones(2, 3, F), torch.ones(2, 3, 3), mask=mask)
    assert out.so.num_clusters.tolist() == [2, 1]


@pytest.mark.parametrize("ragged", [False, True])
def test_batches_of_other_sizes_compile_nothing_new(ragged: bool) -> None:
    counter = CompileCounter()
    pooler = DiffPool(F, ratio=0.25, max_nodes=40)
    compiled = torch.compile(
        lambda x, adj, mask: tuple(pooler(x, adj, mask=mask).loss.values()),
        backend=counter, fullgraph=True, dynamic=True,
    )  # fmt: skip
    for b, n in ((2, 9), (3, 14), (5, 40)):
        mask = torch.arange(n) < torch.arange(n - b + 1, n + 1)[:, None]
        x, adj = torch.randn(b, n, F), torch.ones(b, n, n)
        args: tuple[Any, ...] = (x, adj, mask)
        if ragged:
            args = (x[mask], RaggedGraph.from_dense(adj, mask), None)
        got, expected = compiled(*args), tuple(pooler(args[0], args[1], mask=args[2]).loss.values())
        torch.testing.assert_close(got, expected)
    assert counter.frame_count == 1


def test_dmon_pooling_and_functions_take_numbers() -> None:
    b, counts = make_batch(), torch.tensor(COUNTS)
    layer = DMoNPooling(F, 3).double()
    dense = layer(b.padded, b.adj, b.mask, num_clusters=counts)
    sparse = layer(
        b.x, edge_index=b.edge_index, edge_weight=b.edge_weight, batch=b.batch, num_clusters=counts
    )
    for one, other in zip(dense[1:], sparse[1:], strict=True):
        torch.testing.assert_close(one, other)
    assert not dense[0][1, :, 1:].any()
    means: list[Tensor] = []
    for g, (size, count) in enumerate(zip(SIZES, COUNTS, strict=True)):
        one = DMoNPooling(F, count).double()
        for source, target in zip(layer.parameters(), one.parameters(), strict=True):
            target.data.copy_(source[:count])
        _, x, adj, *losses = one(b.padded[g, :size], b.adj[g, :size, :size])
        torch.testing.assert_close(dense[1][g, :count], x[0])
        torch.testing.assert_close(dense[2][g, :count, :count], adj[0])
        means.append(torch.stack(losses))
    torch.testing.assert_close(torch.stack(dense[3:]), torch.stack(means).mean(0))


def test_other_librarys_functions_have_one_number_for_all() -> None:
    with pytest.raises(ValueError, match="ratio_of must be 'largest' unless pool='hierpool'"):
        DiffPool(4, ratio=0.5, max_nodes=8, pool=lambda *args: None)
    with pytest.raises(ValueError, match="ratio_of must be 'graph' or 'largest', got 'all'"):
        DiffPool(4, ratio=0.5, max_nodes=8, ratio_of="all")


def test_small_ratios_of_large_graphs_are_exact() -> None:
    count = ClusterCount(None, 1e-7, 10**8)
    assert [count.for_nodes(n) for n in (1, 10**7, 10**7 + 1, 10**8)] == [1, 1, 2, 10]
    assert ClusterCount(None, 0.07, 100).most == 7
