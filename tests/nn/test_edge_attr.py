"""Features of edges in the poolers that keep or merge nodes, and in the networks made of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.models import PoolNet
from hierpool.nn import HARD_POOLERS, MinCutPool, Precoarsening, TopKPool
from tests.nn.test_hard_poolers import F, made, sorted_batch

POOLING = sorted(name for name, kind in HARD_POOLERS.items() if kind.pools_edge_attr)


def example(seed: int, symmetric: bool = True) -> tuple[RaggedGraph, Tensor, Tensor]:
    """A graph, features of its nodes, and of its edges, of which the first is the weight."""
    graph = sorted_batch(seed)
    graph = graph.with_value(torch.rand(graph.num_edges, dtype=torch.float64))
    assert graph.value is not None
    x = torch.randn(graph.num_nodes, F, dtype=torch.float64)
    attr = torch.stack([graph.value, torch.randn(graph.num_edges, dtype=torch.float64)], 1)
    return graph, x, attr


@pytest.mark.parametrize("name", POOLING)
def test_every_pooler_pools_features_with_the_edges(name: str) -> None:
    """The feature that is the weight stays it, the result of all else is the same, and gradients flow."""
    pooler = made(name)
    for option in ("edge_weight_norm",):  # divides weights, not features
        if hasattr(pooler, option):
            setattr(pooler, option, False)
    for seed in range(8):
        torch.manual_seed(seed)
        graph, x, attr = example(seed)
        leaf = attr.clone().requires_grad_()
        out, plain = pooler(x, graph.with_edge_attr(leaf)), pooler(x, graph)
        assert torch.equal(out.edge_index, plain.edge_index)
        torch.testing.assert_close((out.x, out.edge_weight), (plain.x, plain.edge_weight))
        assert plain.edge_attr is None
        assert out.edge_attr is not None
        if name != "asap":  # which adds self-loops without features
            torch.testing.assert_close(out.edge_attr[:, 0], out.edge_weight)
        if out.edge_attr.numel():
            assert torch.autograd.grad(out.edge_attr.sum(), leaf)[0].any()
        edges = {"edge_weight": graph.value, "edge_attr": attr, "batch": graph.batch}
        again = pooler(x, graph.to_edge_index()[0], **edges, batch_size=graph.num_graphs)
        torch.testing.assert_close(again.edge_attr, out.edge_attr)


@pytest.mark.parametrize("name", sorted(set(HARD_POOLERS) - set(POOLING)))
def test_other_poolers_refuse_them(name: str) -> None:
    graph, x, attr = example(3)
    with pytest.raises(ValueError, match=r"Pool does not pool features of edges; leave out edge_attr"):
        made(name)(x, graph.with_edge_attr(attr))


def test_soft_poolers_refuse_them() -> None:
    graph, x, attr = example(3)
    with pytest.raises(ValueError, match="adj must not have edge_attr with a dense assignment"):
        MinCutPool(F, 3).double()(x, graph.with_edge_attr(attr))


@pytest.mark.parametrize("how", ["mean", "max"])
def test_layers_choose_the_reduction(how: str) -> None:
    graph, x, attr = example(5)
    chosen, summed = made("graclus", attr_reduce=how), made("graclus")
    first, second = (pooler(x, graph.with_edge_attr(attr)) for pooler in (chosen, summed))
    assert not torch.equal(first.edge_attr, second.edge_attr)
    assert torch.equal(first.edge_weight, second.edge_weight)
    with pytest.raises(
        ValueError, match="attr_reduce must be one of 'sum', 'mean', 'max', 'min', 'mul', got 'all'"
    ):
        made("graclus", attr_reduce="all")


def test_kept_edges_have_the_features_that_torch_geometric_keeps() -> None:
    theirs = pytest.importorskip("torch_geometric.nn").TopKPooling(F).double()
    ours = TopKPool(F).double()
    ours.load_state_dict({"weight": theirs.select.weight})
    for seed in range(200):
        torch.manual_seed(seed)
        graph, x, attr = example(seed)
        if not graph.num_nodes:
            continue
        first, second = attr.clone().requires_grad_(), attr.clone().requires_grad_()
        _, edges, kept, *_ = theirs(x, graph.to_edge_index()[0], first, batch=graph.batch)
        out = ours(x, graph.with_edge_attr(second))
        order = (edges[0] * graph.num_nodes + edges[1]).argsort()
        assert torch.equal(out.edge_index, edges[:, order])
        assert torch.equal(out.edge_attr, kept[order])
        grads = [
            torch.autograd.grad(t.square().sum(), leaf)[0]
            for t, leaf in ((kept, first), (out.edge_attr, second))
        ]
        assert torch.equal(*grads)


def test_networks_and_levels_carry_features() -> None:
    geometric = pytest.importorskip("torch_geometric.data")
    found: list[Any] = []
    for seed in (3, 5):
        graph, x, attr = example(seed)
        ends, weight = graph.to_edge_index()
        found.append(geometric.Data(x=x, edge_index=ends, edge_weight=weight, edge_attr=attr))
    batch = geometric.Batch.from_data_list(found)
    torch.manual_seed(0)
    for name in ("graclus", "ndp", "mincut"):  # which pools them, and which do not
        net = PoolNet(F, 2, name, levels=2, max_nodes=100, hidden_channels=8).double()
        out = net(batch)
        got = [getattr(level, "edge_attr", None) for level in out.levels]
        assert [attr is not None for attr in got] == [name == "graclus"] * 2
        if name == "graclus":
            torch.testing.assert_close(got[1][:, 0], out.levels[1].edge_weight)
            data = out.levels[0].as_data()
            assert torch.equal(data.edge_attr, got[0])
    items = list(map(Precoarsening("graclus", 2), found))
    whole = Precoarsening("graclus", 2)(batch).levels
    for one, item in zip(items[0].levels, items[1].levels, strict=True):
        assert one.graph.edge_attr.size(1) == item.graph.edge_attr.size(1) == 2
    joined = [
        RaggedGraph.collate([a.graph, b.graph]) for a, b in zip(items[0].levels, items[1].levels, strict=True)
    ]
    for one, other in zip(joined, whole, strict=True):
        torch.testing.assert_close(one.edge_attr, other.graph.edge_attr)
