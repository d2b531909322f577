"""Where the patch changes what torch-geometric-pool does, on purpose: each difference from both sides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool.integrations.tgp import patch
from tests.support.tgp_poolers import MODES, POOLERS, RAW, Batch, K, call, make_batch, make_pooler

SPARSE = ("sparse", "unbatched")


def pool(pooler: Any, b: Batch, mode: str) -> Any:
    return call(pooler, b, mode)[0]


def patched(pooler: Any, b: Batch, mode: str) -> Any:
    with patch():
        return pool(pooler, b, mode)


def assert_outputs(ours: Any, expected: Any, tolerance: float = 1e-10) -> None:
    assert list(ours.loss) == list(expected.loss)
    for got, value in ((ours.x, expected.x), (ours.edge_index, expected.edge_index)):
        torch.testing.assert_close(got, value, rtol=tolerance, atol=tolerance)
    for name, value in expected.loss.items():
        torch.testing.assert_close(ours.loss[name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", POOLERS)
def test_a_last_graph_without_edges(name: str) -> None:
    b = make_batch(sizes=(7, 3))
    unbatched = make_pooler(name, "unbatched", **RAW)
    theirs = pool(unbatched, b, "unbatched")
    assert theirs.x.size(0) == 2
    assert theirs.edge_index.size(0) == 1
    ours = patched(unbatched, b, "unbatched")
    assert_outputs(ours, patched(make_pooler(name, "sparse", adj_transpose=False, **RAW), b, "sparse"))
    assert not ours.edge_index[1].any()


@pytest.mark.parametrize("name", POOLERS)
def test_a_graph_whose_last_nodes_have_no_edges(name: str) -> None:
    b = make_batch(sizes=(9,))
    kept = (b.edge_index < 6).all(0)
    b = b._replace(edge_index=b.edge_index[:, kept], edge_weight=b.edge_weight[kept], batch=None)
    adj = torch.zeros_like(b.adj).index_put((torch.tensor(0), *b.edge_index), b.edge_weight)
    pooler = make_pooler(name, "sparse", adj_transpose=False)
    with pytest.raises(RuntimeError):
        pool(pooler, b, "sparse")
    with patch():
        assert_outputs(pool(pooler, b, "sparse"), pooler(b.dense_x, adj))


def test_duplicate_edges_are_summed() -> None:
    b = make_batch()
    twice = b._replace(
        edge_index=b.edge_index.repeat_interleave(2, 1), edge_weight=b.edge_weight.repeat_interleave(2)
    )
    double = b._replace(edge_weight=2 * b.edge_weight)
    for name, loss in (("DiffPool", "link_loss"), ("AsymCheegerCutPooling", "total_variation_loss")):
        pooler = make_pooler(name, "unbatched")
        expected = pool(pooler, double, "unbatched")
        assert (pool(pooler, twice, "unbatched").loss[loss] - expected.loss[loss]).abs() > 1e-2
        assert_outputs(patched(pooler, twice, "unbatched"), expected, 1e-7)


@pytest.mark.parametrize("name", POOLERS)
def test_edges_that_are_not_sorted_by_graph(name: str) -> None:
    b = make_batch()
    mixed = b._replace(edge_index=b.edge_index.flip(1), edge_weight=b.edge_weight.flip(0))
    pooler = make_pooler(name, "unbatched")
    with pytest.raises(RuntimeError):
        pool(pooler, mixed, "unbatched")
    assert_outputs(patched(pooler, mixed, "unbatched"), patched(pooler, b, "unbatched"))


def test_edges_of_weight_0_are_no_edges() -> None:
    b = make_batch()
    more = b._replace(
        edge_index=torch.cat([b.edge_index, torch.tensor([[0, 1], [1, 0]])], 1),
        edge_weight=torch.cat([b.edge_weight, torch.zeros(2, dtype=torch.float64)]),
    )
    pooler = make_pooler("AsymCheegerCutPooling", "unbatched")
    expected = pool(pooler, b, "unbatched")
    assert (
        pool(pooler, more, "unbatched").loss["total_variation_loss"] < expected.loss["total_variation_loss"]
    )
    assert_outputs(patched(pooler, more, "unbatched"), expected)


def exact_clusters() -> tuple[Any, Tensor, Tensor]:
    """Six nodes of three clusters, and the edges that the assignment itself predicts."""
    x = torch.eye(3).repeat(2, 1)
    pooler = make_pooler("DiffPool", "unbatched", torch.float32)
    pooler.selector.mlp = torch.nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        pooler.selector.mlp.weight.copy_(1000 * torch.eye(3))
    return pooler, x, (x @ x.t()).nonzero().t()


def test_a_link_loss_of_0_has_gradient_0() -> None:
    pooler, x, edges = exact_clusters()
    theirs = pooler(x, edges).loss["link_loss"]
    with patch():
        ours = pooler(x, edges).loss["link_loss"]
    assert theirs == ours == 0
    weight = pooler.selector.mlp.weight
    (grad,) = torch.autograd.grad(theirs, weight)
    assert grad.isnan().all()
    (grad,) = torch.autograd.grad(ours, weight)
    assert not grad.any()


@pytest.mark.parametrize("mode", MODES)
def test_the_first_order_cut_of_hosc_is_that_of_the_graph(mode: str) -> None:
    b = make_batch()
    pooler = make_pooler("HOSCPooling", mode, alpha=0.0)
    expected = pool(make_pooler("HOSCPooling", mode, alpha=0.0, **RAW), b, mode).loss["hosc_loss"]
    assert pool(pooler, b, mode).loss["hosc_loss"] == 0  # the trace of a matrix without diagonal
    assert expected < -0.05
    torch.testing.assert_close(patched(pooler, b, mode).loss["hosc_loss"], expected, rtol=1e-7, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mode", SPARSE)
@pytest.mark.parametrize("name", POOLERS)
def test_parameters_in_half_precision(name: str, mode: str, dtype: torch.dtype) -> None:
    b = make_batch(torch.float32)
    b = b._replace(edge_weight=torch.ones_like(b.edge_weight))
    low = b._replace(x=b.x.to(dtype))
    pooler = make_pooler(name, mode, dtype)
    with pytest.raises(RuntimeError):
        pool(pooler, low, mode)
    ours = patched(pooler, low, mode)
    exact = patched(make_pooler(name, mode, torch.float32), b, mode)
    assert ours.x.dtype == ours.edge_index.dtype == ours.so.s.dtype == dtype
    assert all(loss.dtype == torch.float32 for loss in ours.loss.values())
    torch.testing.assert_close(ours.x.float(), exact.x, rtol=0.03, atol=0.03)
    for key, loss in exact.loss.items():
        torch.testing.assert_close(ours.loss[key], loss, rtol=0.03, atol=0.03)


def test_entropy_in_float16_is_finite() -> None:
    b = make_batch(torch.float16)
    pooler = make_pooler("DiffPool", "dense", torch.float16)
    assert pool(pooler, b, "dense").loss["entropy_loss"].isnan()
    exact = pool(make_pooler("DiffPool", "dense", torch.float32), make_batch(torch.float32), "dense")
    ours = patched(pooler, b, "dense").loss["entropy_loss"]
    torch.testing.assert_close(ours, exact.loss["entropy_loss"], rtol=0.01, atol=0)


@pytest.mark.parametrize("mode", SPARSE)
@pytest.mark.parametrize("name", POOLERS)
def test_nodes_that_are_not_sorted_by_graph(name: str, mode: str) -> None:
    b = make_batch()
    order = torch.randperm(b.x.size(0), generator=torch.Generator().manual_seed(5))
    mixed = b._replace(x=b.x[order], batch=b.batch[order], edge_index=order.argsort()[b.edge_index])
    pooler = make_pooler(name, mode)
    expected = patched(pooler, b, mode)
    if mode == "unbatched":
        with pytest.raises(RuntimeError):
            pool(pooler, mixed, mode)
    else:
        try:
            theirs = pool(pooler, mixed, mode)
        except IndexError:  # a node lies beyond its graph's rows
            theirs = None
        assert theirs is None or not torch.allclose(theirs.x, expected.x)
    ours = patched(pooler, mixed, mode)
    assert_outputs(ours, expected)
    s = expected.so.s if mode == "unbatched" else expected.so.s[b.mask]  # in the order of b
    if mode == "unbatched":
        torch.testing.assert_close(ours.so.s, s[order])
    else:  # rows of a graph in the order in which its nodes came
        torch.testing.assert_close(ours.so.s[b.mask], s[order][mixed.batch.argsort(stable=True)])


@pytest.mark.parametrize("name", [name for name in POOLERS if name != "DiffPool"])
def test_a_graph_without_nodes(name: str) -> None:
    b = make_batch()
    nobody = b._replace(mask=b.mask & torch.tensor([True, False, True])[:, None])
    pooler = make_pooler(name, "dense", **({"ortho_loss_coeff": 1.0} if name == "DMoNPooling" else {}))
    if name == "AsymCheegerCutPooling":
        with pytest.raises(IndexError):
            pool(pooler, nobody, "dense")
    else:
        key = "balance_loss" if name == "JustBalancePooling" else "ortho_loss"
        assert not pool(pooler, nobody, "dense").loss[key].isfinite()
    ours = patched(pooler, nobody, "dense")
    assert all(loss.isfinite() for loss in ours.loss.values())
    assert not ours.x[1].any()


@pytest.mark.parametrize("name", POOLERS)
def test_padding_is_not_read(name: str) -> None:
    b = make_batch()
    valid = b.mask[:, :, None] & b.mask[:, None, :]
    dirty = b._replace(
        dense_x=torch.where(b.mask[..., None], b.dense_x, torch.nan), adj=torch.where(valid, b.adj, 1)
    )
    pooler = make_pooler(name, "dense")
    with patch():
        expected = pooler(b.dense_x, b.adj, mask=b.mask)
        ours = pooler(dirty.dense_x, dirty.adj, mask=b.mask)
    if name == "JustBalancePooling":
        with pytest.raises(ValueError, match="Loss is NaN"):
            pooler(dirty.dense_x, dirty.adj, mask=b.mask)
    else:
        assert pooler(dirty.dense_x, dirty.adj, mask=b.mask).x.isnan().any()
    assert_outputs(ours, expected)


@pytest.mark.parametrize("name", ["DMoNPooling", "AsymCheegerCutPooling"])
def test_a_square_matrix(name: str) -> None:
    b = make_batch(sizes=(9,))
    pooler = make_pooler(name, "dense")
    with pytest.raises((RuntimeError, IndexError)):
        pooler(b.dense_x[0], b.adj[0])
    with patch():
        assert_outputs(pooler(b.dense_x[0], b.adj[0]), pooler(b.dense_x, b.adj))


@pytest.mark.parametrize("mode", SPARSE)
def test_edges_without_weights_beside_float64(mode: str) -> None:
    b = make_batch()
    pooler = make_pooler("DiffPool", mode)
    with pytest.raises(RuntimeError):
        pooler(b.x, b.edge_index, batch=b.batch)
    with patch():
        ours = pooler(b.x, b.edge_index, batch=b.batch)
    assert_outputs(ours, pooler(b.x, b.edge_index, torch.ones_like(b.edge_weight), batch=b.batch), 1e-7)


def test_hosc_of_a_sparse_matrix_as_sparse_output() -> None:
    b = make_batch()
    n = b.x.size(0)
    matrix = torch.sparse_coo_tensor(b.edge_index, b.edge_weight, (n, n)).coalesce()
    pooler = make_pooler("HOSCPooling", "unbatched", sparse_output=True)
    with pytest.raises(NotImplementedError):
        pooler(b.x, matrix, batch=b.batch)
    with patch():
        ours, expected = pooler(b.x, matrix, batch=b.batch), pool(pooler, b, "unbatched")
    assert_outputs(ours, _with_edges(expected, ours.edge_index))


def _with_edges(out: Any, like: Tensor) -> Any:
    n = like.size(0)
    out.edge_index = torch.sparse_coo_tensor(out.edge_index, out.edge_weight, (n, n)).coalesce()
    return out


def test_a_loss_of_weight_0_is_a_constant() -> None:
    b = make_batch()
    for name, key, option in (
        ("DMoNPooling", "ortho_loss", {}),
        ("DiffPool", "link_loss", {"link_loss_coeff": 0.0}),
    ):
        pooler = make_pooler(name, "sparse", **option)
        theirs, ours = pool(pooler, b, "sparse").loss[key], patched(pooler, b, "sparse").loss[key]
        assert theirs == ours == 0
        assert theirs.requires_grad
        assert not ours.requires_grad


def test_an_edge_between_two_graphs_is_refused() -> None:
    b = make_batch()
    wrong = b._replace(edge_index=b.edge_index.clone())
    wrong.edge_index[:, 0] = torch.tensor([0, 18])
    pooler = make_pooler("DiffPool", "sparse")
    pool(pooler, b, "sparse")
    with pytest.raises(ValueError, match="edge"):
        patched(pooler, wrong, "sparse")


def test_pooled_features_keep_their_dtype_under_autocast() -> None:
    b = make_batch(torch.float32)
    pooler = make_pooler("DiffPool", "sparse", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        theirs, ours = pool(pooler, b, "sparse"), patched(pooler, b, "sparse")
    assert theirs.x.dtype == torch.bfloat16
    assert ours.x.dtype == torch.float32
    torch.testing.assert_close(ours.x, theirs.x.float(), rtol=0.03, atol=0.03)
    assert ours.so.s.shape[-1] == K
