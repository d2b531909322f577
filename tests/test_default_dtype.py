"""``torch.set_default_dtype``: results are those of the dtypes of the arguments, and counts of edges are exact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hierpool import Assignment, RaggedGraph, sparse_pool
from hierpool.nn import HardPoolingOutput
from hierpool.selection import cluster_candidates, heavy_edge_clusters, multilevel_clusters
from tests.support.public import Example, examples, tensors

DTYPES = (torch.float64, torch.bfloat16, torch.float16)
LEAVES = 300  # more than bfloat16 counts
STAR = torch.stack([torch.zeros(LEAVES, dtype=torch.int64), torch.arange(1, LEAVES + 1)])
EDGES = torch.cat([STAR, STAR.flip(0)], 1)


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def star(edges: Tensor = EDGES) -> RaggedGraph:
    return RaggedGraph.from_edge_index(edges, LEAVES + 1)


def results(out: Any) -> list[Tensor]:
    graphs = [out.graph] if isinstance(out, HardPoolingOutput) else []
    return [
        *tensors(out),
        *(t for g in graphs for t in (g.row, g.col, g.value, g.edge_attr) if t is not None),
    ]


def compare(make: Callable[[], list[Tensor]], dtype: torch.dtype) -> None:
    expected = make()
    with default(dtype):
        got = make()
    torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("example", [e for e in examples() if e.is_sparse], ids=str)
def test_of_a_star_without_weights(example: Example, dtype: torch.dtype) -> None:
    call, graph = example.make(dtype=torch.float32), star()
    if isinstance(call, nn.Module):
        call.eval()
    random = torch.Generator().manual_seed(1)
    x = torch.randn(LEAVES + 1, 4, generator=random)
    given: dict[str, Any] = {"x": x, "s": x[:, :3].softmax(-1), "adj": graph, "graph": graph}
    given |= {"edge_index": graph, "so": None, "mask": None}
    if "assignment" in example.required:
        given["assignment"] = Assignment.from_clusters(torch.arange(LEAVES + 1) % 3, graph)
    if "adj" in example.parameters:
        del given["edge_index"]
    if example.name == "sparse_lift":
        given["x"] = x[:3]
    if example.name == "lift":
        given |= {"x": x[:3], "so": example.arguments(dtype=torch.float32)["so"]}
        given["x"] = torch.randn(2, 3, 4, generator=random)
    wanted = {name: given[name] for name in example.parameters if name in given}
    compare(lambda: results(call(**wanted)), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("loops", ["keep", "separate"])
def test_of_counts(loops: Any, backend: str, dtype: torch.dtype) -> None:
    graph = star()
    clusters = Assignment.from_clusters(torch.arange(LEAVES + 1).clamp(max=1), graph)

    def make() -> list[Tensor]:
        out = sparse_pool(None, graph, clusters, loops=loops, backend=backend)
        weighted = Assignment.from_clusters(
            clusters.cluster, graph, torch.ones(LEAVES + 1, dtype=torch.float32)
        )
        both = Assignment.collate([clusters, weighted])
        return [t for t in (out.graph.value, out.loops, clusters.to_dense(), both.weight) if t is not None]

    compare(make, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_of_clusterings(dtype: torch.dtype) -> None:
    def make() -> list[Tensor]:
        graph, directed = star(), star(STAR)
        label = heavy_edge_clusters(graph, 5)
        found = [label, heavy_edge_clusters(directed, 5), multilevel_clusters(directed)]
        return [*found, cluster_candidates(graph, label, 2), graph.degree, graph.to_dense(), directed.degree]

    compare(make, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_of_repeated_edges(dtype: torch.dtype) -> None:
    repeated = torch.zeros(2, LEAVES, dtype=torch.int64)

    def make() -> list[Tensor]:
        graph = RaggedGraph.from_edge_index(repeated, 1)
        rows = torch.tensor([0, LEAVES])
        again = RaggedGraph.from_csr(rows, repeated[0])
        return [t for t in (graph.value, again.value) if t is not None]

    compare(make, dtype)
