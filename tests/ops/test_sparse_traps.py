"""What other libraries of sparse pooling get wrong, each with a test of its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import dense_diff_pool, diff_pool
from hierpool.functional import DiffPoolResult
from tests.support.running import both

SEED = 4
f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16


def normal(*shape: int, seed: int = SEED) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=f64)


def filled(edges: Tensor, n: int, weight: Tensor | None = None) -> Tensor:
    """The dense matrix of one graph, ``[1, n, n]``, duplicate edges summed."""
    weight = torch.ones(edges.size(1), dtype=f64) if weight is None else weight
    return torch.zeros(n, n, dtype=f64).index_put(tuple(edges), weight, accumulate=True)[None]


def assert_same(sparse: DiffPoolResult, dense: tuple[Tensor, ...]) -> None:
    for name, one, other in zip(("x", "adj", "link_loss", "ent_loss"), sparse[:4], dense, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14, msg=f"{name}: ".__add__)


@both
def test_last_graph_without_edges(backend: str) -> None:
    edges, batch = torch.tensor([[0, 1, 3], [1, 2, 4]]), torch.tensor([0, 0, 0, 1, 1, 2, 2])
    for size in (None, 3, 5):  # also graphs without nodes at the end
        b = size or 3
        x, s = normal(7, 4), normal(7, 2, seed=1)
        result = diff_pool(x, edges, s, batch=batch, batch_size=size, sparse_output=True, backend=backend)
        assert result.x.shape == (b, 2, 4)
        assert result.adj.shape == (b, 2, 2)
        assert not result.adj[2:].any()
        assert result.sparse is not None
        assert result.sparse.x.shape == (2 * b, 4)
        assert result.sparse.batch.tolist() == [i // 2 for i in range(2 * b)]
        assert result.sparse.mask.tolist() == [i < 6 for i in range(2 * b)]
        torch.testing.assert_close(result.x[2], s[5:].softmax(-1).mT @ x[5:])


@both
def test_trailing_isolated_nodes_of_a_single_graph(backend: str) -> None:
    edges = torch.tensor([[0, 1], [1, 2]])
    x, s = normal(9, 4), normal(9, 3, seed=1)  # nodes 3 to 8 are in no edge
    result = diff_pool(x, edges, s, backend=backend)
    assert_same(result, dense_diff_pool(x, filled(edges, 9), s))
    assert result.s.shape == (9, 3)
    torch.testing.assert_close(result.x[0], s.softmax(-1).mT @ x)


@both
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "ones"])
def test_duplicate_edges_are_summed(weighted: bool, backend: str) -> None:
    edges = torch.tensor([[0, 1, 0, 0, 2, 2], [1, 2, 1, 1, 2, 2]])
    weight = normal(6).requires_grad_() if weighted else None
    x, s = normal(4, 2), normal(4, 3, seed=1)
    result = diff_pool(x, edges, s, weight, backend=backend)
    dense = dense_diff_pool(x, filled(edges, 4, weight), s)
    assert_same(result, dense)
    if weight is not None:
        got, expected = (torch.autograd.grad(loss, weight)[0] for loss in (result[2], dense[2]))
        torch.testing.assert_close(got, expected)


@both
def test_directed_graphs_are_not_transposed(backend: str) -> None:
    edges, x = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]]), normal(4, 2)
    hard = 200 * torch.eye(4, dtype=f64)  # one cluster for every node
    result = diff_pool(x, edges, hard, backend=backend)
    torch.testing.assert_close(result.adj, filled(edges, 4))
    s = normal(4, 3, seed=1).requires_grad_()
    result, dense = diff_pool(x, edges, s, backend=backend), dense_diff_pool(x, filled(edges, 4), s)
    assert_same(result, dense)
    weights = normal(1, 3, 3, seed=2)
    got, expected = ((out[1] * weights).sum() + out[2] for out in (result, dense))
    torch.testing.assert_close(torch.autograd.grad(got, s), torch.autograd.grad(expected, s))


@both
@pytest.mark.parametrize("dtype", [f64, f32, f16], ids=str)
def test_gradient_of_a_link_loss_of_zero_is_zero(dtype: torch.dtype, backend: str) -> None:
    edges = torch.ones(3, 3).nonzero().T  # one cluster: S S^T is all ones
    s = torch.zeros(3, 1, dtype=dtype, requires_grad=True)
    x = torch.ones(3, 1, dtype=dtype, requires_grad=True)
    weight = torch.ones(9, dtype=dtype, requires_grad=True)
    loss = diff_pool(x, edges, s, weight, backend=backend).link_loss
    assert loss == 0
    assert loss is not None
    for grad in torch.autograd.grad(loss, (s, x, weight), allow_unused=True, materialize_grads=True):
        assert torch.equal(grad, torch.zeros_like(grad))


@both
@pytest.mark.parametrize("dtype", [bf16, f16], ids=str)
def test_parameters_of_low_precision(dtype: torch.dtype, backend: str) -> None:
    linear = torch.nn.Linear(4, 3).to(dtype)
    edges, x = torch.tensor([[0, 1, 2], [1, 2, 0]]), normal(5, 4).to(dtype)
    for weight in (None, torch.ones(3, dtype=dtype), torch.ones(3)):
        result = diff_pool(x, edges, linear(x), weight, backend=backend)
        assert (result.x.dtype, result.adj.dtype, result.s.dtype) == (dtype, dtype, dtype)
        assert result.link_loss is not None
        assert result.ent_loss is not None
        (result.link_loss + result.ent_loss + result.x.sum()).backward()
        assert linear.weight.grad is not None
        assert linear.weight.grad.isfinite().all()


@both
@pytest.mark.parametrize("logit", [0.0, 60.0, 60000.0])
def test_entropy_is_finite_in_float16(logit: float, backend: str) -> None:
    s = torch.zeros(3, 2, dtype=f16)
    s[:, 0] = logit
    s.requires_grad_()
    entropy = diff_pool(torch.ones(3, 1).half(), torch.zeros(2, 0).long(), s, backend=backend).ent_loss
    assert entropy is not None
    assert entropy.item() == pytest.approx(0.0 if logit else 0.6931471805599453, rel=1e-3)
    assert torch.autograd.grad(entropy, s)[0].isfinite().all()


@both
def test_unsorted_batch(backend: str) -> None:
    edges, batch = torch.tensor([[0, 2, 1, 4], [2, 5, 3, 1]]), torch.tensor([1, 0, 1, 0, 0, 1])
    x, s, weight = normal(6, 4), normal(6, 3, seed=1), normal(4, seed=2)
    result = diff_pool(x, edges, s, weight, batch, backend=backend)
    number = torch.tensor([3, 0, 4, 1, 2, 5])  # of each node where graphs follow one another
    order = number.argsort()
    expected = diff_pool(x[order], number[edges], s[order], weight, batch[order], backend=backend)
    for name, one, other in zip(DiffPoolResult._fields[:4], result, expected, strict=False):
        torch.testing.assert_close(one, other, msg=f"{name}: ".__add__)
    torch.testing.assert_close(result.s, s.softmax(-1))


@both
def test_link_loss_of_many_nodes_in_float32(backend: str) -> None:
    """A sum of N x N squares in one float32 is off by 1e-3 here."""
    n = 2000
    edges = torch.randint(0, n, (2, 5 * n), generator=torch.Generator().manual_seed(SEED))
    x, s = normal(n, 2), normal(n, 8, seed=1)
    exact = diff_pool(x, edges, s, backend=backend).link_loss
    rough = diff_pool(x.float(), edges, s.float(), backend=backend).link_loss
    torch.testing.assert_close(rough.double(), exact, rtol=1e-6, atol=0)
    nn = pytest.importorskip(
        "torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])"
    )
    theirs = nn.dense_diff_pool(x[None], filled(edges, n), s[None])[2]
    torch.testing.assert_close(exact, theirs, rtol=1e-12, atol=0)
