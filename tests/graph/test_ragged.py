"""Methods of a graph: copies, devices, collate, transposes, other weights, dense batches."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hierpool import RaggedGraph, backends
from hierpool.graph import build
from tests.support.edges import CASES, EdgeCase, over

SEED = 23
f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16


def tensors(graph: RaggedGraph) -> list[Tensor | None]:
    return [graph.rowptr, graph.col, graph.value, graph.ptr, graph.order]


def assert_same(graph: RaggedGraph, expected: RaggedGraph) -> None:
    for got, want in zip(tensors(graph), tensors(expected), strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            assert want is not None
            assert got.dtype == want.dtype
            assert torch.equal(got, want)
    assert graph.is_symmetric == expected.is_symmetric
    sizes = [(g.num_nodes, g.num_edges, g.num_graphs) for g in (graph, expected)]
    assert sizes[0] == sizes[1]


@over(SEED, "weighted", "shuffled", "no-graphs", "symmetric")
@pytest.mark.parametrize("turned", [False, True], ids=["", "with-transpose"])
def test_copies(case: EdgeCase, turned: bool) -> None:
    graph = case.make(SEED).graph()
    transpose = graph.transposed() if turned else None
    for same in (pickle.loads(pickle.dumps(graph)), copy.deepcopy(graph)):
        assert_same(same, graph)
        if transpose is not None:
            assert all(
                (a is None and b is None) or torch.equal(a, b)
                for a, b in zip(same.transposed(), transpose, strict=True)
            )


def test_device_and_dtype() -> None:
    graph = EdgeCase("shuffled", batch="shuffled", weights="whole").make(SEED).graph()
    graph.transposed()
    assert graph.to("cpu") is graph
    assert graph.to(dtype=f64) is graph
    half = graph.to(dtype=bf16)
    assert half.dtype == bf16
    assert half.col.dtype == torch.int32
    assert torch.equal(half.to_dense().double(), graph.to_dense())
    value_t = half.transposed()[2]
    assert value_t is not None
    assert value_t.dtype == bf16
    there = graph.to("meta")
    assert there.device.type == "meta"
    assert all(t is None or t.device.type == "meta" for t in tensors(there))
    with pytest.raises(
        TypeError, match=r"dtype must be float64, float32, bfloat16 or float16, got torch\.int64"
    ):
        graph.to(dtype=torch.int64)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a CUDA device")
def test_pinned_and_moved_to_a_gpu() -> None:
    graph = EdgeCase("shuffled", batch="shuffled", weights="whole").make(SEED).graph()
    pinned = graph.pin_memory()
    assert all(t is None or t.is_pinned() for t in tensors(pinned))
    there = pinned.to("cuda", non_blocking=True)
    assert there.device.type == "cuda"
    assert_same(there.to("cpu"), graph)
    built = EdgeCase("shuffled", batch="shuffled", weights="whole").make(SEED)
    on_gpu = [None if t is None else t.cuda() for t in (built.edge_index, built.edge_weight, built.batch)]
    again = RaggedGraph.from_edge_index(on_gpu[0], edge_weight=on_gpu[1], batch=on_gpu[2])
    assert_same(again.to("cpu"), graph)


def test_collate_is_the_graph_of_all_edges() -> None:
    parts = [case.make(SEED) for case in CASES if case.weights == "whole"]
    joined = RaggedGraph.collate([part.graph() for part in parts])
    first_node = first_graph = 0
    edge_index, batch = [], []
    for part in parts:
        graph_of = torch.zeros(part.num_nodes, dtype=torch.int64) if part.batch is None else part.batch
        edge_index.append(part.edge_index.long() + first_node)
        batch.append(graph_of + first_graph)
        first_node, first_graph = first_node + part.num_nodes, first_graph + part.num_graphs
    weight = torch.cat([part.edge_weight for part in parts if part.edge_weight is not None])
    expected = RaggedGraph.from_edge_index(
        torch.cat(edge_index, 1), edge_weight=weight, batch=torch.cat(batch), num_graphs=first_graph
    )
    assert_same(joined, expected)


def test_collate_with_and_without_values() -> None:
    plain = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]))
    weighted = RaggedGraph.from_edge_index(
        torch.tensor([[0], [0]]), edge_weight=torch.tensor([2.0], dtype=f64)
    )
    joined = RaggedGraph.collate([plain, weighted, plain])
    assert joined.dtype == f64
    assert joined.value is not None
    assert joined.value.tolist() == [1, 1, 2, 1, 1]
    assert joined.ptr.tolist() == [0, 2, 3, 5]
    assert joined.is_symmetric
    assert RaggedGraph.collate([plain, plain]).value is None
    assert RaggedGraph.collate([plain]) is plain


@pytest.mark.parametrize(
    ("graphs", "kind", "message"),
    [
        ([], ValueError, "graphs must have at least one element"),
        ([torch.ones(2)], TypeError, "graphs must be a sequence of RaggedGraph, got an element Tensor"),
    ],
)
def test_collate_rejects_bad_sequences(graphs: list, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        RaggedGraph.collate(graphs)


def test_collate_needs_one_dtype() -> None:
    edge = torch.tensor([[0], [0]])
    graphs = [RaggedGraph.from_edge_index(edge, edge_weight=torch.ones(1, dtype=d)) for d in (f32, f64)]
    with pytest.raises(ValueError, match="graphs must have values of one dtype, got float32, float64"):
        RaggedGraph.collate(graphs)


def test_weights_of_entries() -> None:
    graph = EdgeCase("symmetric", symmetric=True).make(SEED).graph()
    turned = graph.transposed()
    value = torch.rand(graph.num_edges, requires_grad=True)
    other = graph.with_value(value)
    assert other.value is value
    assert not other.is_symmetric
    row, col = graph.row.long(), graph.col.long()
    dense = torch.zeros(graph.num_nodes, graph.num_nodes).index_put_((row, col), value.detach())
    rowptr, col_t, value_t = other.transposed()
    assert torch.equal(rowptr, turned[0])
    assert torch.equal(col_t, turned[1])
    assert value_t is not None
    assert torch.equal(value_t, dense.T[row, col])
    mean = (dense + dense.T)[row, col]
    assert graph.with_value(mean).is_symmetric
    assert graph.with_value(value, symmetric=True).is_symmetric
    assert graph.with_value(None).value is None
    with pytest.raises(ValueError, match=rf"value must have shape \[E\] = \[{graph.num_edges}\], got \(1,\)"):
        graph.with_value(torch.ones(1))


def test_values_of_the_transpose_follow_learned_ones() -> None:
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 2], [1, 1]]), edge_weight=weight, is_coalesced=True)
    assert graph.transposed()[2].tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    with torch.no_grad():
        weight *= 3
    assert graph.transposed()[2].tolist() == [3.0, 6.0]  # type: ignore[union-attr]
    assert not graph.transposed()[2].requires_grad  # type: ignore[union-attr]


def test_transpose_is_kept() -> None:
    graph = EdgeCase("weighted", weights="whole").make(SEED).graph()
    assert all(a is b for a, b in zip(graph.transposed(), graph.transposed(), strict=True))


def test_dense_of_a_batch_in_the_order_of_the_caller() -> None:
    edges = EdgeCase("shuffled", batch="shuffled", weights="whole").make(SEED)
    graph = edges.graph()
    assert edges.batch is not None
    exact = edges.matrix()
    dense = graph.to_dense(15)
    assert dense.shape == (3, 15, 15)
    for b in range(3):
        nodes = (edges.batch == b).nonzero().flatten()
        padded = torch.zeros(15, 15, dtype=f64)
        padded[: len(nodes), : len(nodes)] = exact[nodes][:, nodes]
        assert torch.equal(dense[b], padded)
    assert graph.to_dense().shape == (3, 12, 12)
    with pytest.raises(ValueError, match="max_num_nodes is 11, but the largest graph has 12 nodes"):
        graph.to_dense(11)


def test_node_tensors_change_order_and_back() -> None:
    edges = EdgeCase("shuffled", batch="shuffled").make(SEED)
    graph = edges.graph()
    nodes = torch.rand(edges.num_nodes, 3)
    ordered = graph.in_graph_order(nodes)
    assert edges.batch is not None
    assert torch.equal(ordered, nodes[torch.argsort(edges.batch, stable=True)])
    assert torch.equal(graph.in_callers_order(ordered), nodes)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("offsets", [[0], [0, 0], [0, 3, 3, 4], [2, 3, 3, 7]])
def test_ranges_of_elements(builder: str, offsets: list[int], dtype: torch.dtype) -> None:
    given = torch.tensor(offsets, dtype=dtype)
    sizes = [after - before for before, after in itertools.pairwise(offsets)]
    expected = [r for r, size in enumerate(sizes) for _ in range(size)]
    assert torch.equal(build.ranges(given, len(expected)), torch.tensor(expected, dtype=dtype))


@pytest.mark.skipif(
    "native" not in backends.available("graph_build"), reason="the native backend was not built"
)
def test_ranges_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(RuntimeError, match="must ascend to the number of elements"):
        build.ranges(torch.tensor([0, 3, 1, 4]), 4)


def test_repr() -> None:
    plain = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 0]]), 3)
    assert repr(plain) == "RaggedGraph(num_graphs=1, num_nodes=3, num_edges=2, is_symmetric=True)"
    assert repr(plain.with_value(torch.ones(2, dtype=f64))).endswith(
        "is_symmetric=True, dtype=torch.float64)"
    )


class Graphs(Dataset[RaggedGraph]):
    """Graphs that are built in ``__getitem__``."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> RaggedGraph:
        graph = CASES[7].make(index).graph()
        graph.transposed()
        return graph


def collate(graphs: Sequence[RaggedGraph]) -> RaggedGraph:
    return RaggedGraph.collate(graphs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_loader_workers() -> None:
    dataset = Graphs()
    expected = [RaggedGraph.collate([dataset[i] for i in pair]) for pair in ((0, 1), (2, 3), (4, 5))]
    loader = DataLoader(
        dataset, batch_size=2, num_workers=2, collate_fn=collate, multiprocessing_context="fork", timeout=60
    )
    for got, want in zip(loader, expected, strict=True):
        assert_same(got, want)
