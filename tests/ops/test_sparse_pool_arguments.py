"""Bad arguments of pooling by sparse assignments."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierpool import Assignment, RaggedGraph, sparse_lift, sparse_pool

GRAPH = RaggedGraph.from_edge_index(torch.tensor([[0, 1], [1, 2]]), 3)
S = Assignment.from_clusters(torch.tensor([0, 0, 1]), GRAPH)
SOFT = Assignment.from_dense(torch.ones(3, 2), GRAPH)
X = torch.ones(3, 2)
BAD = [
    (lambda: sparse_pool(X, 1, S), TypeError, "graph must be a RaggedGraph, got int"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X, GRAPH, 1), TypeError, "assignment must be an Assignment, got int"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X[:2], GRAPH, S), ValueError, r"x must have shape \[N, F\] = \[3, F\]"),
    (lambda: sparse_pool(X, GRAPH, S, reduce="mul"), ValueError, "reduce must be one of"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X, GRAPH, S, edge_reduce="or"), ValueError, "edge_reduce must be one of"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X, GRAPH, S, loops=None), ValueError, "loops must be one of"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X, GRAPH, S, weights="drop"), ValueError, "weights must be one of"),  # type: ignore[arg-type]
    (lambda: sparse_pool(X, GRAPH, S, backend="none"), ValueError, "backend must be one of"),
    (
        lambda: sparse_pool(X, GRAPH, Assignment.from_clusters(torch.tensor([0]), torch.tensor([0, 1]))),
        ValueError,
        "assignment must have the 3 nodes and 1 graphs of the graph, got 1 and 1",
    ),
    (
        lambda: sparse_pool(
            X,
            RaggedGraph.from_edge_index(torch.zeros(2, 0, dtype=torch.int64), ptr=torch.tensor([0, 1, 3])),
            Assignment.from_clusters(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 2, 3])),
        ),
        ValueError,
        "assignment must be made of the graph, whose ptr differs",
    ),
    (lambda: sparse_lift(X, GRAPH), TypeError, "assignment must be an Assignment"),  # type: ignore[arg-type]
    (lambda: sparse_lift(X, S), ValueError, r"x must have shape \[K, F\] = \[2, F\]"),
    (lambda: sparse_lift(X[:2], SOFT, mode="inverse"), ValueError, "mode must be 'transpose' or 'gather'"),
    (lambda: sparse_lift(X[:2], S, mode="pinv"), ValueError, "mode must be one of"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[message for *_, message in BAD])
def test_bad_arguments(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
