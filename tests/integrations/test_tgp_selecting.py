"""Sparse poolers of torch-geometric-pool with the patch: right edges, and the same results where they are right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.integrations.tgp import patch
from tests.support.tgp_poolers import poolers, unpatched

__all__ = ["unpatched"]  # a fixture

F, DRAWS = 5, 200


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, edges in both directions with loops and isolated nodes, their weights, and the batch."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 12, (3,), generator=draw)
    first = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    adj = torch.block_diag(*(torch.rand(int(n), int(n), generator=draw).triu() for n in sizes))
    adj = torch.where(torch.rand(adj.shape, generator=draw) < 0.4, adj, 0).double()
    adj[0, 1] = adj[first[1], first[1] + 1] = adj[first[2], first[2] + 1] = 0.5
    adj = adj + adj.triu(1).T
    edges = adj.nonzero().T
    x = torch.randn(adj.size(0), F, generator=draw, dtype=torch.float64)
    return x, edges, adj[edges[0], edges[1]], torch.repeat_interleave(torch.arange(3), sizes)


def call(pooler: Any, seed: int, x: Tensor | None = None) -> Any:
    torch.manual_seed(seed)
    features, edges, weight, batch = drawn(seed)
    return pooler(features if x is None else x, edges, edge_weight=weight, batch=batch)


@pytest.mark.parametrize("name", ["TopkPooling", "SAGPooling", "ASAPooling"])
def test_edges_are_those_between_the_kept_nodes(name: str) -> None:
    """tgp joins other nodes, as its numbers of edges and of features differ."""
    torch.manual_seed(0)
    pooler = getattr(poolers, name)(F, ratio=0.6).double()
    wrong = 0
    for seed in range(DRAWS):
        _, edges, weight, _ = drawn(seed)
        theirs = call(pooler, seed)
        with patch():
            out = call(pooler, seed)
        node = torch.empty_like(out.so.node_index).index_copy_(0, out.so.cluster_index, out.so.node_index)
        n = out.so.num_nodes
        adj = torch.zeros(n, n, dtype=weight.dtype).index_put((edges[0], edges[1]), weight)
        adj = adj[node][:, node].fill_diagonal_(0)
        got = torch.zeros_like(adj).index_put((out.edge_index[0], out.edge_index[1]), out.edge_weight)
        if name != "ASAPooling":  # which weighs other edges
            torch.testing.assert_close(got, adj)
        assert torch.equal(got != 0, adj != 0)
        torch.testing.assert_close(out.x, theirs.x)
        other = torch.zeros_like(adj).index_put(
            (theirs.edge_index[0], theirs.edge_index[1]), theirs.edge_weight
        )
        wrong += not torch.equal(other != 0, adj != 0)
    assert wrong > DRAWS // 2


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("KMISPooling", {"order_k": 1}),
    ("KMISPooling", {"order_k": 2, "scorer": "degree"}),
    ("KMISPooling", {"degree_norm": True, "remove_self_loops": False, "connect_red_op": "mean"}),
    ("EdgeContractionPooling", {"edge_score_method": "tanh"}),
    (
        "EdgeContractionPooling",
        {"edge_score_method": "sigmoid", "connect_red_op": "max", "edge_weight_norm": True},
    ),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_merging_poolers_give_the_same_results(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    kind = getattr(poolers, name)
    if "edge_score_method" in options:
        from tgp.select import EdgeContractionSelect

        method = getattr(EdgeContractionSelect, f"compute_edge_score_{options['edge_score_method']}")
        options = {**options, "edge_score_method": method}
    pooler = kind(F, **options).double()

    def results(seed: int) -> list[Any]:
        x = drawn(seed)[0].requires_grad_()
        out = call(pooler, seed, x)
        lifted = pooler(x=out.x, so=out.so, lifting=True)
        grads = torch.autograd.grad(out.x.square().sum(), [x, *pooler.parameters()])
        return [out.x, out.edge_index, out.edge_weight, out.batch, out.so.cluster_index, lifted, *grads]

    expected = [results(seed) for seed in range(DRAWS)]
    with patch():
        for seed in range(DRAWS):
            torch.testing.assert_close(results(seed), expected[seed])


def test_graclus_needs_no_compiled_package() -> None:
    pooler = poolers.GraclusPooling()
    with patch():
        out = call(pooler, 0)
    assert 0 < out.so.num_supernodes < out.so.num_nodes
    assert int(torch.bincount(out.so.cluster_index).max()) == 2
