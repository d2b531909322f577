"""ASAP pooling against PyTorch Geometric's layer, and the graph with loops that it works on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hierpool import RaggedGraph
from hierpool.nn import ASAPool, SAGEConv
from hierpool.nn.asap import with_loops
from tests.selection.graphs import drawn_batch

F, DRAWS = 5, 200


def dense(ends: Tensor, weight: Tensor, k: int) -> Tensor:
    return torch.zeros(k, k, dtype=torch.float64).index_put((ends[0], ends[1]), weight, accumulate=True)


@pytest.mark.filterwarnings("ignore:Sparse")  # of torch, about matrices that PyTorch Geometric makes
def test_results_and_gradients_are_those_of_torch_geometric() -> None:
    pyg = pytest.importorskip(
        "torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])"
    )
    compared = 0
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        graph = drawn_batch(seed)[0]
        if graph.num_nodes == 0:
            continue
        ends, batch = graph.to_edge_index()[0], graph.batch
        weight = torch.rand(ends.size(1), dtype=torch.float64)
        theirs, ours = pyg.ASAPooling(F, 0.4).double(), ASAPool(F, 0.4).double()
        theirs.select.weight.data.abs_()  # a negative one selects the worst clusters
        state = {name: value for name, value in theirs.state_dict().items() if name != "select.weight"}
        ours.load_state_dict(state)
        x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
        results: list[list[Any]] = []
        for layer in (theirs, ours):
            leaf = x.clone().requires_grad_()
            if layer is theirs:
                out, pooled_ends, value, of, _ = layer(leaf, ends, weight, batch)
            else:
                pooled = ours(leaf, ends, weight, batch, batch_size=graph.num_graphs)
                out, pooled_ends, value, of = pooled.x, pooled.edge_index, pooled.edge_weight, pooled.batch
            parameters = [p for name, p in layer.named_parameters() if name != "select.weight"]
            grads = torch.autograd.grad(out.square().sum(), [leaf, *parameters])
            matrix = dense(pooled_ends, value, len(out)).detach().fill_diagonal_(0)
            results.append([out, matrix, of, *grads])
        scores = pooled.score.detach().sort()[0]
        if bool((scores.diff() < 1e-12).any()):
            continue  # of equal scores, the order is another
        torch.testing.assert_close(results[1], results[0])
        compared += 1
    assert compared > DRAWS // 2


def test_gradients_flow_to_weights_of_edges() -> None:
    graph = drawn_batch(3)[0]
    torch.manual_seed(0)
    x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
    weight = torch.rand(graph.num_edges, dtype=torch.float64, requires_grad=True)
    layer = ASAPool(F).double()

    def total(w: Tensor) -> Tensor:
        value = layer(x, graph.with_value(w)).graph.value
        return value.square().sum()

    torch.autograd.gradcheck(total, [weight])


def test_a_network_inside_clusters_and_a_number_of_nodes() -> None:
    graph = drawn_batch(4)[0]
    torch.manual_seed(0)
    x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
    gnn = SAGEConv(F, F)
    layer = ASAPool(F, k=2, gnn=gnn, dropout=0.5).double()
    before = [p.clone() for p in layer.parameters()]
    out = layer(x, graph)
    assert out.graph.ptr.diff().tolist() == graph.ptr.diff().clamp(max=2).tolist()
    out.x.square().sum().backward()
    assert all(p.grad is not None for p in gnn.parameters())
    layer.reset_parameters()
    assert not all(map(torch.equal, before, layer.parameters()))
    assert isinstance(layer.gnn, nn.Module)


def test_loops_are_added_where_there_are_none() -> None:
    ends, weight = torch.tensor([[0, 0, 1], [0, 1, 2]]), torch.tensor([3.0, 1.0, 2.0])
    graph = RaggedGraph.from_edge_index(ends, 3, edge_weight=weight)
    found = with_loops(graph)
    assert found.to_dense()[0].tolist() == [[3, 1, 0], [0, 1, 2], [0, 0, 1]]
    assert with_loops(found) is found
