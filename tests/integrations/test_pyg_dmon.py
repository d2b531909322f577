"""DMoNPooling beside PyTorch Geometric's: parameters, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import DMoNPooling, RaggedGraph
from tests.support.ragged import both_forms

pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")

SIZES = (6, 9, 4)
F, K = 4, 3


def pair(channels: Any = F, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    theirs = pyg.DMoNPooling(channels, K, options.get("dropout", 0.0)).to(dtype)
    torch.manual_seed(0)
    return theirs, DMoNPooling(channels, K, **options).to(dtype)


def gradients(out: tuple[Tensor, ...], layer: Any) -> tuple[Tensor, ...]:
    total = sum((t * torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape)).sum() for t in out)
    return torch.autograd.grad(total, list(layer.parameters()))


@pytest.mark.parametrize("channels", [F, [F, 5]])
def test_parameters_are_theirs(channels: Any) -> None:
    theirs, ours = pair(channels)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for got, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(got, expected)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
@pytest.mark.parametrize("directed", [False, True])
def test_values_and_gradients(dtype: torch.dtype, tolerance: float, directed: bool) -> None:
    batch = both_forms(SIZES, directed=directed, weighted=True)
    x, adj = batch.x.to(dtype), batch.adj.to(dtype)
    theirs, ours = pair([F, 5], dtype, pyg_compat=True)
    expected, got = theirs(x, adj.clone(), batch.mask), ours(x, adj, batch.mask)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(
        gradients(got, ours), gradients(expected, theirs), rtol=10 * tolerance, atol=10 * tolerance
    )


def test_dropout_drops_the_same_logits() -> None:
    batch = both_forms((6, 6))
    theirs, ours = pair(dropout=0.5)
    results = []
    for layer in (theirs, ours):
        torch.manual_seed(3)
        results.append(layer(batch.x, batch.adj.clone()))
    torch.testing.assert_close(results[1], results[0])
    assert not torch.allclose(results[1][0], ours.eval()(batch.x, batch.adj)[0])


def test_a_graph_may_come_alone() -> None:
    batch = both_forms((6,))
    theirs, ours = pair()
    torch.testing.assert_close(ours(batch.x[0], batch.adj[0]), theirs(batch.x[0], batch.adj[0].clone()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_dtypes_are_finite(dtype: torch.dtype) -> None:
    batch = both_forms(SIZES)
    _, ours = pair(dtype=dtype)
    out = ours(batch.x.to(dtype), batch.adj.to(dtype), batch.mask)
    assert all(t.dtype is dtype for t in out)
    assert all(t.isfinite().all() for t in (*out, *gradients(out, ours)))


def test_sparse_batches_are_padded_ones() -> None:
    batch = both_forms(SIZES, directed=True, weighted=True)
    _, ours = pair()
    expected = ours(batch.x, batch.adj, batch.mask)
    edge_index, edge_weight = batch.graph.to_edge_index()
    for options in (
        {"edge_index": batch.graph},
        {"adj": batch.graph},
        {"edge_index": edge_index, "edge_weight": edge_weight, "batch": batch.graph.batch},
    ):
        out = ours(batch.nodes, **options)
        torch.testing.assert_close(out[0], expected[0][batch.mask])
        torch.testing.assert_close(out[1:], expected[1:])


@pytest.mark.parametrize("sparse", [False, True])
def test_compiles_in_one_graph(sparse: bool) -> None:
    batch = both_forms(SIZES)
    _, ours = pair()
    args = (batch.nodes, batch.graph) if sparse else (batch.x, batch.adj, batch.mask)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(ours, fullgraph=True, backend="aot_eager")(*args), ours(*args))


def test_bad_arguments_are_named() -> None:
    batch = both_forms(SIZES)
    _, ours = pair()
    with pytest.raises(ValueError, match="give adj or edge_index, got neither"):
        ours(batch.x)
    with pytest.raises(ValueError, match="mask must be None with edge_index"):
        ours(batch.nodes, mask=batch.mask, edge_index=batch.graph)
    with pytest.raises(ValueError, match="batch must be None with adj"):
        ours(batch.x, batch.adj, batch=batch.mask)
    with pytest.raises(ValueError, match="edge_index must be None if adj is a RaggedGraph"):
        ours(batch.nodes, batch.graph, edge_index=batch.graph)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        DMoNPooling(F, 0)
    assert isinstance(batch.graph, RaggedGraph)
