"""The graphs of workloads have the edges that they say, and copies share no memory."""

from __future__ import annotations

import pytest
import torch

from bench.harness.workload import CPU, Request, Unavailable
from bench.ops import WORKLOADS, graphs
from bench.ops.batches import PerBatch, of_dense, with_linear
from tests.bench.toys import small_batch


def test_symmetric_graphs_are_symmetric_and_directed_ones_are_not():
    for symmetric in (True, False):
        batch = graphs.dense(1, 32, 4, 8, symmetric=symmetric)(Request())
        assert torch.equal(batch.adj, batch.adj.mT) is symmetric
        assert batch.symmetric is symmetric
        assert batch.mask is None
    assert graphs.dense(1, 64, 4, 8, density=0.1)(Request()).entries < 0.2 * 64 * 64


def test_dnd_like_batch_has_the_sizes_of_the_data_set():
    batch = graphs.dnd_like(Request())
    what = batch.describe()
    assert (what["graphs"], what["padded_nodes"], what["clusters"]) == (20, 629, 157)
    assert what["nodes"] == pytest.approx(6119, rel=0.01)
    assert what["entries"] == pytest.approx(30654, rel=0.01)
    assert torch.equal(batch.adj, batch.adj.mT)
    assert torch.equal(batch.x, graphs.dnd_like(Request()).x)


def test_a_batch_of_a_data_set_has_its_graphs():
    pytest.importorskip("torch_geometric")
    pytest.importorskip("grakel")
    batch = graphs.tu_batch("MUTAG", 188)(Request())  # all of them
    loaded = graphs.load_tu("MUTAG").graphs
    assert sorted(batch.sizes) == sorted(graph.x.size(0) for graph in loaded)
    assert batch.entries == sum(graph.edge_index.size(1) for graph in loaded)
    assert (batch.symmetric, batch.clusters, batch.x.size(-1)) == (True, max(batch.sizes) // 4, 64)
    again, other = (graphs.tu_batch("MUTAG", 5)(Request(seed)) for seed in (0, 1))
    assert again.sizes == batch.sizes[:5]
    assert other.sizes != again.sizes


def test_missing_data_is_named(tmp_path):
    for request, message in (
        (Request(), "HIERPOOL_DATA"),
        (Request(data_root=tmp_path), "was not found under"),
    ):
        with pytest.raises(Unavailable, match=message):
            WORKLOADS["enzymes"].build(request)


# ---- sparse batches -------------------------------------------------------------------------------------------------


def test_sparse_batch_holds_the_real_part_of_the_dense_one():
    utils = pytest.importorskip("torch_geometric.utils")
    dense, batch = small_batch(), of_dense(small_batch)(Request())
    x, mask = utils.to_dense_batch(batch.x, batch.batch)
    assert torch.equal(mask, dense.mask)
    assert torch.equal(x, dense.x)
    assert torch.equal(utils.to_dense_adj(batch.edge_index, batch.batch), dense.adj)
    assert torch.equal(batch.logits, dense.logits[dense.mask])
    assert batch.ptr.tolist() == [0, 5, 14, 26]
    assert all(torch.equal(a, b) for a, b in zip(batch.grads, dense.grads, strict=True))
    assert batch.describe() == dense.describe()
    assert batch.padded_entries == dense.padded_entries == 3 * 12 * 12


@pytest.mark.parametrize("symmetric", [True, False])
def test_random_graph_has_exactly_the_edges_asked_for(symmetric):
    gen = torch.Generator().manual_seed(3)
    edges = graphs.random_edges(20, 180, gen, symmetric=symmetric)
    pairs = {(i, j) for i, j in edges.T.tolist()}
    assert len(pairs) == edges.size(1) == 180
    assert all(i != j for i, j in pairs)
    assert (pairs == {(j, i) for i, j in pairs}) is symmetric
    assert edges.T.tolist() != sorted(edges.T.tolist())
    with pytest.raises(ValueError, match="20 nodes have fewer than 191 pairs"):
        graphs.random_edges(20, 382, gen)


def test_star_and_one_huge_graph_among_tiny_ones():
    batch = graphs.star(6, 2, 3)(Request())
    assert batch.edge_index[0].bincount().tolist() == [6, 1, 1, 1, 1, 1, 1]
    mixed = graphs.one_huge_many_tiny(50, 100, 21, 2, 3)(Request())
    assert mixed.sizes == (50, *range(10, 30), 10)
    row, col = mixed.edge_index
    assert torch.equal(mixed.batch[row], mixed.batch[col])
    assert mixed.edge_index[0].bincount()[50:].eq(2).all()
    assert mixed.entries == 100 + 2 * sum(mixed.sizes[1:])


def adjacency(batch) -> torch.Tensor:
    n = batch.x.size(0)
    a = torch.zeros(n, n)
    a.index_put_(tuple(batch.edge_index), torch.ones(batch.entries), accumulate=True)
    row, col = batch.edge_index
    assert batch.coalesced
    assert ((row * n + col).diff() > 0).all()
    return a


@pytest.mark.parametrize(("nodes", "degree"), [(31, 6), (32, 4), (5, 4)])
def test_a_scattered_graph_is_simple_symmetric_and_regular(nodes, degree):
    a = adjacency(graphs.scattered(nodes, degree, 4, 3)(Request(1)))
    assert set(a.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(a, a.T)
    assert a.diagonal().sum() == 0
    assert a.sum(1).eq(degree).all()


def test_rings_are_symmetric_and_stay_in_their_graphs():
    batch = graphs.rings(7, 5, 9, 4, 3)(Request())
    a = adjacency(batch)
    assert batch.sizes == (5, 6, 7, 8, 9, 5, 6)
    assert torch.equal(a, a.T)
    assert a.sum(1).eq(4).all()
    row, col = batch.edge_index
    assert torch.equal(batch.batch[row], batch.batch[col])


@pytest.mark.parametrize("name", ["dense", "scattered", "linear"])
def test_copies_share_no_memory(name):
    graph = graphs.scattered(20, 4, 3, 4)
    builds = {
        "dense": graphs.dense(2, 9, 3, 4, torch.bfloat16),
        "scattered": graph,
        "linear": with_linear(graph),
    }
    batch = builds[name](Request())
    other = batch.copied()
    assert list(other.tensors()) == list(batch.tensors())
    held, theirs = ([*b.tensors().values(), *b.grads] for b in (batch, other))
    for one, two in zip(held, theirs, strict=True):
        assert torch.equal(one, two)
        assert one.data_ptr() != two.data_ptr()
        assert one.requires_grad == two.requires_grad
    assert batch.nbytes == sum(t.nbytes for t in held)
    assert batch.leaf_names == (("x", "weight", "bias") if name == "linear" else ("x", "logits"))
    double = batch.double()
    assert all(t.dtype is torch.float64 for t in (*double.leaves, *double.grads))


def test_what_comes_with_a_batch_is_made_once_and_again_for_another():
    made: list = []
    prepared = PerBatch(lambda batch: made.append(batch) or len(made))
    first, second = (graphs.star(3, 2, 2)(Request(seed)) for seed in (0, 1))
    assert [prepared(b) for b in (first, first, second, first)] == [1, 1, 2, 3]


def test_shapes_of_the_workloads_of_a_gpu_are_those_of_the_goals():
    names = ("dense-tf32", "csr-1m", "graphs-1024", "csr-40m")
    dense, million, many, huge = (WORKLOADS[n].build(Request(0, torch.device("meta"))) for n in names)
    assert (*dense.adj.shape, dense.clusters, dense.x.size(-1)) == (32, 1024, 1024, 256, 128)
    assert (million.x.size(0), million.entries, million.clusters) == (1_000_000, 16_000_000, 64)
    assert len(many.sizes) == 1024
    assert sum(many.sizes) / 1024 == pytest.approx(33, abs=0.1)
    assert huge.logits.numel() > 2**31
    assert huge.x.dtype is torch.bfloat16
    assert Request().device == CPU
