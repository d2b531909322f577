"""The poolers that cluster by edge scores, keep one side of a cut, or score by paths; and graph convolution."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.nn import ClusterPool, MaxCutPool, PANPool, get_pooler
from hierpool.nn.gcn import GCNConv
from tests.nn.test_hard_poolers import DRAWS, F, assert_gradients_agree, cases, dense
from tests.support.tgp import import_tgp


def single(graph: RaggedGraph) -> RaggedGraph:
    """The edges of a batch as one graph."""
    ends, weight = graph.to_edge_index()
    return RaggedGraph.from_edge_index(ends, graph.num_nodes, edge_weight=weight)


@pytest.mark.parametrize(
    "options", [{}, {"edge_score": "sigmoid"}, {"edge_score": "log_softmax", "threshold": -4}], ids=str
)
def test_clusters_are_those_of_torch_geometric(options: dict[str, Any]) -> None:
    pooling = pytest.importorskip("torch_geometric.nn").ClusterPooling
    pytest.importorskip("scipy")
    method = options.get("edge_score", "tanh")
    theirs = pooling(F, edge_score_method=method, threshold=options.get("threshold"))  # of float32 only
    ours = ClusterPool(F, **options)
    ours.load_state_dict(theirs.state_dict())
    for graph, x, copy in cases(DRAWS):
        if graph.num_edges == 0:
            continue
        graph = single(graph) if method == "log_softmax" else graph
        x, copy = x.detach().float().requires_grad_(), copy.detach().float().requires_grad_()
        expected, edges, batch, info = theirs(x, graph.to_edge_index()[0], graph.batch)
        out = ours(copy, graph)
        assert torch.equal(out.so.clusters().cluster.long(), info.cluster)
        torch.testing.assert_close(out.x, expected)
        assert torch.equal(out.batch, batch)
        n = batch.numel()
        assert torch.equal(dense(out.edge_index, None, n) > 0, dense(edges, None, n) > 0)
        weight = torch.linspace(-1, 1, out.x.numel()).view_as(out.x)
        first = torch.autograd.grad((expected * weight).sum(), [x, *theirs.parameters()])
        found = torch.autograd.grad((out.x * weight).sum(), [copy, *ours.parameters()])
        torch.testing.assert_close(found, first, rtol=1e-4, atol=1e-4)


def undirected(graph: RaggedGraph) -> RaggedGraph:
    """Without self-loops, in both directions."""
    ends, weight = graph.to_edge_index()
    weight = torch.ones(graph.num_edges) if weight is None else weight
    ends, weight = ends[:, ends[0] != ends[1]], weight[ends[0] != ends[1]].double().repeat(2)
    both = torch.cat([ends, ends.flip(0)], 1)
    return RaggedGraph.from_edge_index(both, graph.num_nodes, edge_weight=weight, ptr=graph.ptr)


@pytest.mark.parametrize("whole", [False, True])
def test_maxcut_is_that_of_torch_geometric_pool(whole: bool) -> None:
    pooling = import_tgp("tgp.poolers").MaxCutPooling
    options = {"ratio": 0.5, "max_iter": 40, "assign_all_nodes": whole}
    theirs = pooling(F, **options).double()
    ours = get_pooler("maxcut", in_channels=F, **options).double()
    assert isinstance(ours, MaxCutPool)
    ours.score_net.load_state_dict(theirs.selector.score_net.state_dict())
    compared = 0
    for graph, x, copy in cases(DRAWS):
        graph = undirected(graph)
        ends, weight = graph.to_edge_index()
        if graph.num_edges == 0 or int(ends.max()) + 1 < graph.num_nodes or graph.num_nodes < 3:
            continue  # they leave out the last nodes if these have no edges, and fail with one kept node
        so = theirs.selector(x, ends, weight, batch=graph.batch)
        loss = theirs.compute_loss(so.scores, ends, weight, graph.batch)["maxcut_loss"]
        out = ours(copy, graph)
        last = int(graph.batch[-1]) + 1  # they do not count graphs without nodes at the end
        scaled = out.loss["maxcut_loss"] * graph.num_graphs / last
        torch.testing.assert_close(out.score, so.scores)
        torch.testing.assert_close(scaled, loss)
        parameters = [*theirs.selector.score_net.parameters()], [*ours.parameters()]
        first = torch.autograd.grad(loss, [x, *parameters[0]], retain_graph=True)
        torch.testing.assert_close(
            torch.autograd.grad(scaled, [copy, *parameters[1]], retain_graph=True), first
        )
        if whole and not is_reached(graph, out.so.clusters().cluster, out.score):
            continue
        compared += 1
        s, own = so.s.to_dense(), out.so.to_dense()
        if whole:
            torch.testing.assert_close(own, s)
        else:
            torch.testing.assert_close(own @ own.T, s @ s.T)  # their clusters are in another order
        torch.testing.assert_close(out.x, own.T @ copy)
    assert compared > 10


def is_reached(graph: RaggedGraph, cluster: Tensor, score: Tensor) -> bool:
    """Whether every node is connected with a kept node."""
    from hierpool.selection import components, topk

    first = components(graph)
    return bool(torch.isin(first, first[topk(score, graph, ratio=0.5).nodes]).all())


def test_weights_of_maxcut_are_scaled_in_each_graph() -> None:
    torch.manual_seed(0)
    for graph, x, _ in cases(30):
        out = MaxCutPool(F).double()(x, graph)
        raw = MaxCutPool(F, edge_weight_norm=False).double()(x, graph, so=out.so)
        if raw.edge_weight is None:
            continue
        of_entry = raw.batch[raw.edge_index[0]]
        for b in of_entry.unique():
            weights = raw.edge_weight[of_entry == b]
            torch.testing.assert_close(out.edge_weight[of_entry == b], weights / weights.abs().max())  # type: ignore[index]


def test_pan_pooling_is_that_of_torch_geometric_for_a_given_matrix() -> None:
    pooling = pytest.importorskip("torch_geometric.nn").PANPooling
    theirs = pooling(F, 0.4).double()
    ours = PANPool(F, 0.4, filter_size=None).double()
    for module in (theirs, ours):
        module.beta.data = torch.tensor([0.3, -0.7], dtype=torch.float64)
        module.p.data = torch.linspace(-1, 1, F, dtype=torch.float64)
    for graph, x, copy in cases(DRAWS):
        ends, weight = graph.to_edge_index()
        weight = torch.ones(graph.num_edges) if weight is None else weight
        weight = weight.double()
        matrix = SimpleNamespace(coo=lambda ends=ends, weight=weight: (ends[0], ends[1], weight))
        expected, edges, weights, batch, _, _ = theirs(x, matrix, graph.batch)
        out = ours(copy, graph.with_value(weight))
        torch.testing.assert_close(out.x, expected)
        assert torch.equal(out.batch, batch)
        # Their edges are those of the transpose.
        n = batch.numel()
        assert torch.equal(dense(out.edge_index, out.edge_weight, n), dense(edges, weights, n).T)
        assert_gradients_agree((expected, [x, theirs.p, theirs.beta]), (out.x, [copy, ours.p, ours.beta]))


def test_scores_of_paths_are_those_of_the_matrix() -> None:
    pooler = PANPool(F, filter_size=3).double()
    assert pooler.weight is not None
    pooler.weight.data = torch.tensor([0.5, 0.9, 0.2, 0.4], dtype=torch.float64)
    for graph, x, _ in cases(DRAWS):
        ends, weight = graph.to_edge_index()
        adj = dense(ends, weight, graph.num_nodes)
        power = torch.eye(graph.num_nodes, dtype=torch.float64)
        matrix = torch.zeros_like(power)
        for w in pooler.weight:
            matrix, power = matrix + w * power, power @ adj
        scale = matrix.sum(1).rsqrt()
        expected = (scale[:, None] * matrix * scale).sum(0)
        graph = graph if weight is None else graph.with_value(weight.double())
        torch.testing.assert_close(pooler.paths(graph, torch.float64), expected)
        assert pooler(x, graph).x.grad_fn is not None


@pytest.mark.parametrize("improved", [False, True])
def test_graph_convolution_is_that_of_torch_geometric(improved: bool) -> None:
    theirs = pytest.importorskip("torch_geometric.nn").GCNConv(F, 3, improved=improved).double()
    ours = GCNConv(F, 3, improved=improved).double()
    torch.nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    for graph, x, copy in cases(DRAWS):
        ends, weight = graph.to_edge_index()
        # Theirs is not improved without weights.
        ones = torch.ones(graph.num_edges, dtype=torch.float64)
        expected = theirs(x, ends, ones if weight is None else weight.double())
        found = ours(copy, graph if weight is None else graph.with_value(weight.double()))
        torch.testing.assert_close(found, expected)
        assert_gradients_agree((expected, [x, *theirs.parameters()]), (found, [copy, *ours.parameters()]))


def test_bad_arguments_are_named() -> None:
    for make, message in {
        (
            lambda: ClusterPool(F, edge_score="max")
        ): "edge_score must be one of 'tanh', 'sigmoid', 'log_softmax'",
        (lambda: ClusterPool(F, threshold="large")): "threshold must be a number, got str",  # type: ignore[arg-type]
        (lambda: MaxCutPool(F, 2)): r"ratio must be in \(0, 1\], got 2; give k for a number of nodes",
        (lambda: MaxCutPool(F, max_iter=0)): "max_iter must be at least 1, got 0",
        (lambda: MaxCutPool(F, act="loud")): "act must name a function",
        (lambda: PANPool(F, filter_size=-1)): "filter_size must not be negative, got -1",
        (lambda: GCNConv(F, -1)): "out_channels must not be negative, got -1",
    }.items():
        with pytest.raises((ValueError, TypeError), match=message):
            make()
