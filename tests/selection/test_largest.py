"""The nodes of each graph with the largest scores."""

from __future__ import annotations

import math

import pytest
import torch

from hierpool.selection import topk
from tests.selection.graphs import drawn_batch


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_nodes_are_those_of_a_sort_of_each_graph(dtype: torch.dtype) -> None:
    for seed in range(50):
        torch.manual_seed(seed)
        graph, rng = drawn_batch(seed)
        score = torch.randint(-8, 8, (graph.num_nodes,)).to(dtype)
        how = rng.choice([{"ratio": 0.07}, {"ratio": 0.5}, {"ratio": 1.0}, {"k": 3}, {"min_score": 2.0}])
        kept = topk(score, graph, **how)
        again = topk(score, graph, **how, backend="reference")
        assert torch.equal(kept.nodes, again.nodes)
        assert torch.equal(kept.ptr, again.ptr)
        for b in range(graph.num_graphs):
            nodes = (graph.batch == b).nonzero()[:, 0].tolist()
            ranked = sorted(nodes, key=lambda i: -float(score[i]))
            if "ratio" in how:
                expected = ranked[: math.ceil(round(how["ratio"] * 100) * len(nodes) / 100)]
            elif "k" in how:
                expected = ranked[: int(how["k"])]
            else:
                above = [i for i in nodes if score[i] > 2]
                expected = above or [i for i in nodes if score[i] == score[ranked[0]]]
            assert kept.nodes[kept.ptr[b] : kept.ptr[b + 1]].tolist() == expected


def test_large_graphs_signed_zeros_and_infinities() -> None:
    torch.manual_seed(0)
    score = torch.randn(20_000).round(decimals=2)  # by radix sort, with ties
    score[:4] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf])
    for dtype in (torch.float32, torch.float64):
        kept = topk(score.to(dtype), torch.tensor([0, 20_000]), k=20_000)
        assert torch.equal(kept.nodes, score.argsort(descending=True, stable=True))


def test_small_ratios_of_large_graphs() -> None:
    score, ptr = torch.zeros(3_000_000), torch.tensor([0, 3_000_000])
    for ratio, count in ((1e-300, 1), (1e-9, 1), (1e-7, 1), (1e-6, 3), (1.1e-6, 4)):
        assert topk(score, ptr, ratio=ratio).nodes.numel() == count


def test_agrees_with_torch_geometric() -> None:
    """Where scores are distinct, except for a ratio of 1, which keeps one node there, and rounding of the ratio."""
    select = pytest.importorskip("torch_geometric.nn.pool.select.topk").topk
    for seed in range(20):
        torch.manual_seed(seed)
        graph, _ = drawn_batch(seed)
        if graph.order is not None or graph.num_nodes == 0:
            continue
        score = torch.rand(graph.num_nodes)
        for ours, theirs in (
            ({"ratio": 0.5}, (0.5, None)),
            ({"k": 3}, (3, None)),
            ({"min_score": 0.3}, (None, 0.3)),
        ):
            assert torch.equal(
                topk(score, graph, **ours).nodes, select(score, theirs[0], graph.batch, theirs[1])
            )


def test_bad_arguments_are_named() -> None:
    score, ptr = torch.zeros(3), torch.tensor([0, 3])
    with pytest.raises(
        ValueError, match="exactly one of ratio, k and min_score must be given, got ratio=None"
    ):
        topk(score, ptr)
    with pytest.raises(ValueError, match=r"ratio must be in \(0, 1\], got 1.5"):
        topk(score, ptr, ratio=1.5)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        topk(score, ptr, k=0)
    with pytest.raises(ValueError, match="graph must ascend from 0"):
        topk(score, torch.tensor([1, 3]), k=1)
    with pytest.raises(TypeError, match="graph must be a RaggedGraph or an int64 tensor"):
        topk(score, torch.tensor([0.0, 3.0]), k=1)
    with pytest.raises(ValueError, match=r"score must have shape \[3\], one score for each node, got \[2\]"):
        topk(torch.zeros(2), ptr, k=1)
    with pytest.raises(ValueError, match="score must not contain NaN"):
        topk(torch.tensor([0, float("nan"), 1]), ptr, k=1)
    for bad, message in (
        ({"k": 2.0}, "k must be an int, got float"),
        ({"k": True}, "k must be an int, got bool"),
        ({"ratio": "half"}, "ratio must be a number, got str"),
        ({"min_score": "low"}, "min_score must be a number, got str"),
        ({"min_score": math.nan}, "min_score must not be NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            topk(score, ptr, **bad)  # type: ignore[arg-type]
    assert topk(score, ptr, k=10**30).nodes.numel() == 3
