"""Normalised weights of graphs that are pooled by sparse assignments, against dense matrices."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from hierpool import Assignment, RaggedGraph, sparse_pool
from hierpool.connect import postprocess_adj
from tests.ops.test_sparse_pool import LOOPS, matrix_of, weight_of
from tests.support.assignments import draw
from tests.support.running import both

f64 = torch.float64


@both
@pytest.mark.parametrize("edge_weight_norm", [False, True])
@pytest.mark.parametrize("degree_norm", [False, True])
def test_normalised_weights_are_those_of_dense_matrices(
    degree_norm: bool, edge_weight_norm: bool, backend: str
) -> None:
    """Values and gradients, also of clusters whose row sums are not positive; symmetric graphs stay it bit for bit."""
    for seed in range(30):
        drawn = draw(seed, kind="soft" if seed % 5 == 4 else "any")
        value = (
            weight_of(drawn.graph)
            if drawn.graph.value is not None
            else torch.ones(drawn.graph.num_edges, dtype=f64)
        )
        value = value.clone().requires_grad_()
        graph = drawn.graph.with_value(value, symmetric=drawn.graph.is_symmetric)
        loops: Any = LOOPS[seed % 3]
        options: dict[str, Any] = {"loops": loops, "backend": backend}
        plain = sparse_pool(None, graph, drawn.s, **options).graph
        how = {"degree_norm": degree_norm, "edge_weight_norm": edge_weight_norm}
        pooled = sparse_pool(None, graph, drawn.s, **options, **how)
        assert plain.value is not None
        assert pooled.graph.value is not None
        ends = tuple(plain.to_edge_index()[0])
        k = plain.num_nodes
        dense = plain.value.new_zeros(k, k).index_put(ends, plain.value)
        exact = torch.zeros(len(ends[0]), dtype=f64)
        parts = [
            postprocess_adj(dense[first:last, first:last], **how)
            for first, last in pairwise(plain.ptr.tolist())
            if last > first
        ]
        if parts:
            exact = torch.block_diag(*parts)[ends]
        torch.testing.assert_close(pooled.graph.value, exact)
        if exact.requires_grad:
            up = torch.randn_like(exact)
            grads = [
                torch.autograd.grad((t * up).sum(), value, retain_graph=True)
                for t in (pooled.graph.value, exact)
            ]
            torch.testing.assert_close(*grads)
        if graph.is_symmetric:
            found = matrix_of(pooled.graph)
            assert torch.equal(found, found.T)


def test_a_graph_without_weights_gets_them_from_degrees() -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), 3)
    s = Assignment.from_kept(torch.arange(3), graph)
    found = sparse_pool(None, graph, s, weights="keep", degree_norm=True).graph.value
    assert found is not None
    torch.testing.assert_close(found, torch.full((4,), 0.5**0.5))
    assert sparse_pool(None, graph, s, weights="keep", edge_weight_norm=True).graph.value is None
    with pytest.raises(TypeError, match="degree_norm must be True or False, got 1"):
        sparse_pool(None, graph, s, degree_norm=1)  # type: ignore[arg-type]
