"""Edge pooling in PyTorch Geometric's place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool.integrations.pyg import patch
from hierpool.integrations.pyg.edge_pooling import EdgePooling

pyg = pytest.importorskip("torch_geometric.nn", reason="torch_geometric (extra: pyg) is not installed")
F = 5


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features, edges with duplicates and loops, and a batch that may be interleaved."""
    torch.manual_seed(seed)
    sizes = torch.randint(1, 12, (3,))
    first = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    ends = [first[b] + torch.randint(int(sizes[b]), (2, 2 * int(sizes[b]))) for b in range(3)]
    batch = torch.repeat_interleave(torch.arange(3), sizes)
    order = torch.randperm(batch.numel()) if seed % 2 else torch.arange(batch.numel())
    edge_index = order.argsort()[torch.cat(ends, 1)]
    edge_index = edge_index[:, torch.randperm(edge_index.size(1))]
    return torch.randn(batch.numel(), F, dtype=torch.float64), edge_index, batch[order]


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
def test_results_and_gradients_are_those_of_torch_geometric(kind: str) -> None:
    """Also which of two edges that join the same nodes is contracted: they have equal scores in one direction."""
    original, name = pyg.EdgePooling, f"compute_edge_score_{kind}"
    theirs = original(F, getattr(original, name), add_to_edge_score=0.2).double()
    ours = EdgePooling(F, getattr(EdgePooling, name), add_to_edge_score=0.2).double()
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    for seed in range(200):
        x, edge_index, batch = drawn(seed)
        results = []
        for layer in (theirs, ours):
            leaf = x.clone().requires_grad_()
            pooled, edges, of, info = layer(leaf, edge_index, batch)
            nodes, same_edges, same_batch = layer.unpool(pooled, info)
            weights = torch.randn(
                pooled.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
            grads = torch.autograd.grad(
                (pooled * weights).sum() + nodes.square().sum(), [leaf, *layer.parameters()]
            )
            results.append((pooled, edges, of, *info, nodes, same_edges, same_batch, *grads))
        torch.testing.assert_close(results[1], results[0])


def test_softmax_and_dropout() -> None:
    x, edge_index, batch = drawn(0)
    theirs, ours = pyg.EdgePooling(F).double(), EdgePooling(F, dropout=0.5).double()
    raw = torch.randn(edge_index.size(1), dtype=torch.float64)
    expected = theirs.compute_edge_score_softmax(raw, edge_index, len(x))
    torch.testing.assert_close(ours.compute_edge_score_softmax(raw, edge_index, len(x)), expected)
    first, second = (ours(x, edge_index, batch)[3].new_edge_score for _ in range(2))
    assert first.shape != second.shape or not torch.equal(first, second)
    with patch():
        assert isinstance(pyg.EdgePooling(F), EdgePooling)
        assert pyg.EdgePooling(F, dropout=0.1).dropout == 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_softmax_of_many_half_precision_scores_is_that_of_float32(dtype: torch.dtype) -> None:
    edge_index = torch.stack([torch.arange(2000), torch.zeros(2000, dtype=torch.int64)])
    score = EdgePooling.compute_edge_score_softmax(torch.zeros(2000, dtype=dtype), edge_index, 2000)
    torch.testing.assert_close(score, torch.full_like(score, 1 / 2000))


def test_compiled_it_breaks_the_graph_and_returns_the_same() -> None:
    layer = EdgePooling(F).double()
    torch.compiler.reset()
    compiled = torch.compile(layer, backend="eager")
    for seed in range(2):
        first, second = layer(*drawn(seed)), compiled(*drawn(seed))
        assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))


def test_no_edges_and_bad_features() -> None:
    layer = EdgePooling(F)
    x, batch = torch.randn(3, F), torch.tensor([0, 1, 1])
    pooled, edges, of, info = layer(x, torch.zeros(2, 0, dtype=torch.int64), batch)
    assert torch.equal(pooled, x)
    assert edges.shape == (2, 0)
    assert torch.equal(of, batch)
    assert torch.equal(info.cluster, torch.arange(3))
    with pytest.raises(ValueError, match=r"x must have shape \[N, 5\], got \[3, 4\]"):
        layer(x[:, :4], edges, batch)
