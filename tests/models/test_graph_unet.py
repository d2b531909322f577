"""Graph U-Net."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hierpool import Assignment, RaggedGraph
from hierpool.models import GraphUNet
from hierpool.models.graph_unet import two_step_graph
from tests.nn.test_hard_poolers import F, cases, dense
from tests.selection.graphs import drawn_batch


@pytest.mark.parametrize(
    "options", [{"depth": 3}, {"depth": 2, "pool_ratios": [0.8, 0.3], "sum_res": False}], ids=str
)
def test_the_network_is_that_of_torch_geometric(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    theirs = pytest.importorskip("torch_geometric.nn").GraphUNet(F, 8, 3, **options).double()
    ours = GraphUNet(F, 8, 3, **options).double()
    ours.load_state_dict(theirs.state_dict())
    for graph, x, copy in cases(25):
        ends, _ = graph.to_edge_index()
        weight = torch.rand(
            graph.num_edges, dtype=torch.float64
        )  # with equal ones, nodes may have equal scores
        weights = [weight.clone().requires_grad_() for _ in range(2)]
        expected = theirs(x, ends, graph.batch, weights[0])
        found = ours(copy, graph.with_value(weights[1]))
        torch.testing.assert_close(found, expected)
        scale = torch.linspace(-1, 1, found.numel(), dtype=torch.float64).view_as(found)
        first = torch.autograd.grad((expected * scale).sum(), [x, weights[0], *theirs.parameters()])
        again = torch.autograd.grad((found * scale).sum(), [copy, weights[1], *ours.parameters()])
        by_name = dict(zip(["x", "w", *(n for n, _ in theirs.named_parameters())], first, strict=True))
        for name, grad in zip(["x", "w", *(n for n, _ in ours.named_parameters())], again, strict=True):
            name = name if "pools" not in name else name.replace(".weight", ".select.weight")
            torch.testing.assert_close(grad, by_name[name])


def test_two_steps_are_those_of_the_dense_square() -> None:
    for seed in range(60):
        graph, _ = drawn_batch(seed)
        torch.manual_seed(seed)
        kept = Assignment.from_kept(torch.randperm(graph.num_nodes)[: graph.num_nodes // 2 + 1], graph)
        adj = dense(*graph.to_edge_index(), graph.num_nodes).fill_diagonal_(0) + torch.eye(graph.num_nodes)
        node = kept.clusters().node.long()
        node = node if graph.order is None else graph.order[node]
        expected = (adj @ adj)[node][:, node].fill_diagonal_(0)
        found = two_step_graph(graph, kept)
        torch.testing.assert_close(dense(*found.to_edge_index(), node.numel()), expected)
        assert found.num_edges == int((expected != 0).sum())


def test_graphs_do_not_depend_on_each_other_or_on_the_order_of_nodes() -> None:
    torch.manual_seed(0)
    net = GraphUNet(F, 8, 3, 2).double()
    for seed in range(20):
        graph, _ = drawn_batch(seed)
        graph = graph if graph.value is None else graph.with_value(graph.value.double())
        x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
        out = net(x, graph)
        order = torch.argsort(graph.batch, stable=True)
        ends, weight = graph.to_edge_index()
        rank = torch.empty_like(order).index_copy(0, order, torch.arange(graph.num_nodes))
        first = RaggedGraph.from_edge_index(rank[ends], graph.num_nodes, edge_weight=weight, ptr=graph.ptr)
        torch.testing.assert_close(net(x[order], first), out[order])


def test_bad_arguments_are_named() -> None:
    for make, message in {
        (lambda: GraphUNet(F, 8, 3, 0)): "depth must be at least 1, got 0",
        (
            lambda: GraphUNet(F, 8, 3, 2, [0.5])
        ): r"pool_ratios must be one number or depth=2 of them, got \[0.5\]",
        (lambda: GraphUNet(F, 8, 3, 1, 1.5)): r"pool_ratios must be in \(0, 1\], got 1.5",
    }.items():
        with pytest.raises(ValueError, match=message):
            make()
