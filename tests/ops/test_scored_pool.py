"""Scores of rows, and rows times their scores, against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierpool import RaggedGraph, backends
from hierpool.contract import ContractOptions, Links, Loops
from hierpool.ops import scored_pool
from hierpool.ops.scored_pool import Call, Options
from hierpool.reference.scored_pool import Scored, scores_of

f64, f32 = torch.float64, torch.float32


@pytest.mark.parametrize("dtype", [f32, f64])
@pytest.mark.parametrize("features", [0, 1, 33])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_scores_are_no_less_exact_than_those_of_torch(
    backend: str, has_bias: bool, features: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x = torch.randn(1100, features, dtype=f64).to(dtype)
    weight, bias = torch.randn(features, dtype=f64).to(dtype), torch.randn(1, dtype=f64).to(dtype)
    graph = RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), 1100)
    matrix = Links(graph.rowptr, graph.col), None, graph.ptr
    module: Any = backends.module("selection", "cpu", backend)
    for how in (("tanh", True), ("sigmoid", False)):
        given = (x, weight, bias if has_bias else None)
        exact = scores_of(*(None if t is None else t.double() for t in given), *how)  # type: ignore[arg-type]
        options = ContractOptions(Loops.KEEP, True, True, False, False)
        ours = module.topk_pool(Scored(*given, *how, 1.0), *matrix, 1, 2, 1100, options).score
        error, plain = (float((t.double() - exact).abs().max()) for t in (ours, scores_of(*given, *how)))
        assert error <= (2 * plain + 2 * torch.finfo(f32).eps if dtype is f32 else 1e-13)


@pytest.mark.parametrize("first", [[0, 1, 2, 3], [0, 0, 2, 3]])
def test_rows_of_single_nodes_and_of_as_many_clusters(first: list[int]) -> None:
    """As many nodes as clusters: each has one, or some have several and others none."""
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=f64)
    weight, node = torch.randn(7, dtype=f64), torch.tensor([4, 0, 2])
    cluster = torch.full((5,), -1)
    for k in range(3):
        cluster[node[first[k] : first[k + 1]]] = k
    results = []
    for backend in ("native", "reference"):
        leaves = [t.clone().requires_grad_() for t in (x, weight)]
        how = Options("tanh", True, 1.5, backend)
        known = scores_of(x, weight, None, how.activation, how.is_unit)
        y, score = scored_pool.OPERATOR(
            Call(leaves[0], leaves[1], None, known, cluster, torch.tensor(first), node, how)
        )
        results.append([y, score, *torch.autograd.grad(y.square().sum() + score.sum(), leaves)])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)
