"""Sums and losses of sparse assignments: those of dense assignments with the same entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, losses, soft_pool, sparse_soft_pool, top_m_softmax
from hierpool.data import load_large
from hierpool.data.synthetic import stochastic_block_model
from tests.support.assignments import draw
from tests.support.data import data_root

f64 = torch.float64
FIELDS = (
    "num_nodes",
    "entropy",
    "cut_degree",
    "adj_norm",
    "adj_sq",
    "total_degree",
    "link",
    "link_sq",
    "link_norm",
)
LOSSES: list[tuple[Callable[..., Tensor], dict[str, Any]]] = [
    (losses.link_pred_loss, {}), (losses.link_pred_loss, {"reduction": "mean_graph", "normalize": "numel"}),
    (losses.link_pred_loss, {"normalize": "valid"}), (losses.entropy_loss, {}),
    (losses.entropy_loss, {"reduction": "mean_graph", "normalize": "padded"}),
    (losses.mincut_loss, {}), (losses.orthogonality_loss, {}), (losses.hosc_orthogonality_loss, {}),
    (losses.spectral_loss, {}), (losses.cluster_loss, {}), (losses.just_balance_loss, {}),
    (losses.just_balance_loss, {"normalize": False}),
]  # fmt: skip


def logits(n: int, k: int, seed: int, dtype: torch.dtype = f64) -> Tensor:
    return (
        torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=f64).to(dtype).requires_grad_()
    )


@pytest.mark.parametrize(("loss", "options"), LOSSES)
def test_losses_and_their_gradients(loss: Callable[..., Tensor], options: dict[str, Any]) -> None:
    for seed in range(16):
        drawn = draw(seed)
        n, graph, k = drawn.graph.num_nodes, drawn.graph, 4
        counts = torch.arange(graph.num_graphs) % k + 1 if seed % 2 else None
        of, x = logits(n, k, seed), logits(n, 2, seed)
        m = k if seed % 4 < 2 else 2
        s = top_m_softmax(of, graph, m, num_clusters=counts)
        own = s.cluster_ptr[:-1].repeat_interleave(
            graph.ptr.diff()
        )  # first cluster of the graph of each node
        own = graph.in_callers_order(own)
        columns = own[:, None] + torch.arange(k)
        whole = torch.cat([s.to_dense(), of.new_zeros(n, k)], 1).gather(1, columns)
        exists = (
            columns < graph.in_callers_order(s.cluster_ptr[1:].repeat_interleave(graph.ptr.diff()))[:, None]
        )
        dense = soft_pool(x, graph, torch.where(exists, whole, 0), assignment="given", num_clusters=counts)
        got, expected = (loss(r, **options) for r in (sparse_soft_pool(x, graph, s), dense))
        torch.testing.assert_close(got, expected)
        if n:
            pairs = [torch.autograd.grad(t, of, retain_graph=True)[0] for t in (got, expected)]
            torch.testing.assert_close(*pairs, rtol=1e-6, atol=1e-8)


def test_fields() -> None:
    for seed in range(12):
        drawn = draw(seed, torch.float32)
        n = drawn.graph.num_nodes
        of, x = logits(n, 3, seed, torch.float32), logits(n, 2, seed, torch.float32)
        dense = soft_pool(x, drawn.graph, of)
        found = sparse_soft_pool(x, drawn.graph, top_m_softmax(of, drawn.graph))
        for name in FIELDS:
            got, expected = getattr(found, name), getattr(dense, name)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4, msg=f"{name}: ".__add__)
        b = drawn.graph.num_graphs
        torch.testing.assert_close(found.size.view(b, 3), dense.size)
        torch.testing.assert_close(found.volume.view(b, 3), dense.volume)
        assert found.gram is not None
        assert dense.gram is not None
        torch.testing.assert_close(found.gram.to_dense(3), dense.gram)
        torch.testing.assert_close(found.adj.to_dense(3).to(dense.adj.dtype), dense.adj, rtol=1e-5, atol=1e-5)


def test_hard_assignments() -> None:
    for seed in range(12):
        drawn = draw(seed, kind="clusters")
        x = logits(drawn.graph.num_nodes, 2, seed)
        found = sparse_soft_pool(x, drawn.graph, drawn.s)
        s = drawn.s.to_dense().double()
        assert found.gram is not None
        torch.testing.assert_close(found.x, (s.T @ x).to(found.x.dtype))
        gram = s.T @ s
        torch.testing.assert_close(found.gram.value.double(), gram.diagonal())  # type: ignore[union-attr]
        link = (drawn.a - s @ s.T).norm()
        torch.testing.assert_close(found.link_norm.double(), link, rtol=1e-6, atol=1e-6)


def test_what_is_not_computed() -> None:
    drawn = draw(2)
    x = logits(drawn.graph.num_nodes, 2, 1)
    s = top_m_softmax(logits(drawn.graph.num_nodes, 3, 1), drawn.graph)
    record = sparse_soft_pool(x, drawn.graph, s, link_loss=None, entropy=False)
    assert record.gram is None
    assert record.link is record.link_norm is record.link_sq is None
    assert record.entropy is record.total_entropy is None
    with pytest.raises(
        ValueError, match="record must have gram, got None; call sparse_soft_pool with gram=True"
    ):
        losses.orthogonality_loss(record)
    with pytest.raises(ValueError, match="gram must be True or None with link_loss='frobenius', got False"):
        sparse_soft_pool(x, drawn.graph, s, gram=False)


def compare_with_dense(graph: RaggedGraph, x: Tensor, k: int) -> None:
    """m = K: values and gradients of a DiffPool step in float32."""
    results = []
    for is_sparse in (True, False):
        of = logits(graph.num_nodes, k, 1, torch.float32)
        x = x.detach().requires_grad_()
        if is_sparse:
            found: Any = sparse_soft_pool(x, graph, top_m_softmax(of, graph, k))
            adj, pooled = found.adj.to_dense()[0], found.x
        else:
            found = soft_pool(x, graph, of)
            adj, pooled = found.adj[0], found.x[0]
        total = losses.link_pred_loss(found) + losses.entropy_loss(found)
        (total + adj.square().mean() + pooled.square().mean()).backward()
        results.append((total.detach(), adj.detach(), pooled.detach(), of.grad, x.grad))
    torch.testing.assert_close(*results, rtol=5e-5, atol=1e-5)


def test_with_all_clusters_a_step_is_the_dense_one() -> None:
    graph, _ = stochastic_block_model(160, 8, mean_degree=8, mixing=0.2)
    compare_with_dense(graph, logits(160, 16, 2, torch.float32), 40)


def test_with_all_clusters_a_step_on_cora_is_the_dense_one() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: train) is not installed")
    data_root("planetoid/Cora")
    cora = load_large("Cora")
    assert cora.x is not None
    compare_with_dense(cora.graph, cora.x[:, :32], 64)
