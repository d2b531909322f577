"""PyTorch Geometric's sparse poolers with hierpool's selection and merging of edges, and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import backends
from hierpool.integrations.pyg import patch, unpatch
from hierpool.integrations.pyg.cluster_pooling import ClusterPooling
from hierpool.integrations.pyg.selecting import filter_adj, graclus, pool_edge, topk

pyg = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])")

from torch_geometric.data import Batch, Data  # noqa: E402
from torch_geometric.utils import coalesce  # noqa: E402

F, DRAWS = 5, 200
Drawn = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    yield
    unpatch()


def drawn(seed: int) -> Drawn:
    """Features, edges (duplicates, loops, isolated nodes, edgeless graphs), features of edges, interleaved batch."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 12, (3,), generator=draw)
    first = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    ends = [
        first[b]
        + torch.randint(int(sizes[b]), (2, int(torch.randint(30, (1,), generator=draw))), generator=draw)
        for b in range(3)
    ]
    batch = torch.repeat_interleave(torch.arange(3), sizes)
    n = batch.numel()
    order = torch.randperm(n, generator=draw) if seed % 2 else torch.arange(n)
    edges = order.argsort()[torch.cat(ends, 1)]
    edges = edges[:, torch.randperm(edges.size(1), generator=draw)]
    x = torch.randn(n, F, generator=draw, dtype=torch.float64)
    return x, edges, torch.randn(edges.size(1), 2, generator=draw, dtype=torch.float64), batch[order]


def pooled(layer: Any, given: Drawn, attr: Tensor | None) -> list[Any]:
    """All results of a layer, and its gradients."""
    x, edges, _, batch = given
    leaf = x.clone().requires_grad_()
    leaves = [leaf, *layer.parameters()]
    if attr is not None:
        attr = attr.clone().requires_grad_()
        leaves.append(attr)
    out = layer(leaf, edges, attr, batch)
    total = out[0].square().sum() + (out[2].square().sum() if isinstance(out[2], Tensor) else 0)
    return [*out, *torch.autograd.grad(total, leaves, allow_unused=True)]


LAYERS: dict[str, Callable[[], Any]] = {
    "topk": lambda: pyg.TopKPooling(F),
    "topk-count": lambda: pyg.TopKPooling(F, ratio=3),
    "topk-min-score": lambda: pyg.TopKPooling(F, min_score=0.2, multiplier=2.0),
    "sag": lambda: pyg.SAGPooling(F, ratio=0.3),
}


def assert_patched_equal(run: Callable[[int], Any], seeds: int) -> None:
    """``run`` gives the same results with the patch and without."""
    expected = [run(seed) for seed in range(seeds)]
    with patch():
        for seed in range(seeds):
            torch.testing.assert_close(run(seed), expected[seed])


@pytest.mark.parametrize("name", LAYERS)
def test_score_poolers_give_the_same_results(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()

    def run(seed: int) -> list[Any]:
        given = drawn(seed)
        return pooled(layer, given, given[2] if seed % 3 else None)

    assert_patched_equal(run, DRAWS)


@pytest.mark.filterwarnings("ignore:Sparse")  # of torch, about matrices that the layer makes
def test_asap_gives_the_same_results() -> None:
    torch.manual_seed(0)
    layer = pyg.ASAPooling(F, ratio=0.4).double()
    scores: list[Tensor] = []
    layer.gnn_score.register_forward_hook(lambda *given: scores.append(given[2].detach()))
    ties = set()

    def run(seed: int) -> list[Any]:
        x, edges, attr, batch = drawn(seed)
        leaf = x.clone().requires_grad_()
        weight = attr[:, 0].clone().requires_grad_()
        layer.add_self_loops = seed % 5 == 0
        out = list(layer(leaf, edges, weight, batch))
        out[1:3] = coalesce(out[1], out[2])  # in the order of the product
        if scores[-1].round(decimals=9).unique().numel() < len(x):  # neighbours with the same neighbours
            ties.add(seed)
            return [out[0].size(0)]
        of_x = [leaf, *layer.parameters()]
        grads = torch.autograd.grad(out[0].square().sum(), of_x, allow_unused=True, retain_graph=True)
        grads += torch.autograd.grad(out[2].square().sum(), weight)  # theirs has no gradient of S
        return [*out, *grads]

    assert_patched_equal(run, DRAWS)
    assert len(ties) < DRAWS // 2


@pytest.mark.filterwarnings("ignore:Sparse")
def test_asap_returns_no_weights_if_there_are_none() -> None:
    """In float32, as the product of PyTorch Geometric takes no other without weights."""
    torch.manual_seed(0)
    layer = pyg.ASAPooling(F, ratio=0.4)

    def run(seed: int) -> list[Any]:
        path = torch.stack([torch.arange(11), torch.arange(1, 12)])  # no two nodes have the same neighbours
        edges = torch.cat([path, path.flip(0)], 1)
        x = torch.randn(12, F, generator=torch.Generator().manual_seed(seed))
        out = list(layer(x, edges))
        assert out[2] is None
        out[1] = coalesce(out[1])
        return out

    assert_patched_equal(run, 3)
    with patch():
        assert "hierpool" in layer.forward.__func__.__module__
    assert "hierpool" not in layer.forward.__func__.__module__


@pytest.mark.parametrize("method", ["tanh", "sigmoid", "log_softmax"])
def test_components_of_edges_give_the_same_results(method: str) -> None:
    pytest.importorskip("scipy", reason="SciPy is not installed")
    torch.manual_seed(0)
    threshold = -4.0 if method == "log_softmax" else None
    theirs = pyg.ClusterPooling(F, method, threshold=threshold)  # float32: the layer makes a matrix in it
    ours = ClusterPooling(F, method, threshold=threshold)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    merged = 0
    for seed in range(DRAWS):
        x, edges, _, batch = drawn(seed)
        results = []
        for layer in (theirs, ours):
            leaf = x.float().requires_grad_()
            out, pooled_edges, of, info = layer(leaf, edges, batch)
            leaves = [leaf, layer.lin.weight]
            if method != "log_softmax":  # to which a constant makes no difference
                leaves.append(layer.lin.bias)
            grads = torch.autograd.grad(out.square().sum(), leaves)
            results.append((out, pooled_edges, of, *info, *grads))
        torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-3)
        merged += len(out) < len(x)
    assert merged > DRAWS // 2


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
def test_pooling_by_clusters_gives_the_same_results(kind: str) -> None:
    def run(seed: int) -> dict[str, Any]:
        x, edges, attr, batch = drawn(seed)
        cluster = torch.randint(len(x), (len(x),), generator=torch.Generator().manual_seed(seed))
        cluster = cluster * 3 + batch  # no cluster has nodes of two graphs
        features = (None, attr[:, 0], attr)[seed % 3]
        data = Batch(x=x, edge_index=edges, edge_attr=features, batch=batch, pos=x[:, :2])
        found: dict[str, Any] = getattr(pyg, kind)(cluster, data).to_dict()
        return found

    assert_patched_equal(run, DRAWS)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "mul"])
def test_features_of_equal_edges_are_reduced(reduce: str) -> None:
    from torch_geometric.nn.pool.pool import pool_edge as theirs

    x, edges, attr, _ = drawn(3)
    cluster = torch.arange(len(x)) // 3
    results = []
    for function in (theirs, pool_edge):
        leaf = attr.clone().requires_grad_()
        merged, features = function(cluster, edges, leaf, reduce)
        results.append((merged, features, *torch.autograd.grad(features.square().sum(), leaf)))
    assert results[0][0].size(1) < edges.size(1)
    torch.testing.assert_close(results[1], results[0])


def test_graclus_merges_the_heaviest_edges_first() -> None:
    for seed in range(20):
        x, edges, *_ = drawn(seed)
        weight = torch.rand(edges.size(1), generator=torch.Generator().manual_seed(seed))
        heavy = torch.zeros(len(x), len(x)).index_put((edges[0], edges[1]), weight, accumulate=True)
        heavy = torch.maximum(heavy, heavy.T).fill_diagonal_(0)
        expected = torch.arange(len(x))
        free = torch.ones(len(x), dtype=torch.bool)
        for at in heavy.flatten().argsort(descending=True).tolist():
            i, j = divmod(at, len(x))
            if heavy[i, j] > 0 and free[i] and free[j]:
                expected[i] = expected[j] = min(i, j)
                free[i] = free[j] = False
        assert torch.equal(graclus(edges, weight, len(x)), expected)
    assert graclus(torch.zeros(2, 0, dtype=torch.int64)).numel() == 0


@pytest.mark.parametrize("n", [0, 1, 5000])
def test_backends_agree(n: int) -> None:
    """Also on more edges than one task has, as one thread and several do."""
    draw = torch.Generator().manual_seed(n)
    edges = torch.randint(max(n, 1), (2, 4 * n), generator=draw)
    number = torch.randint(-1, max(n, 1), (n,), generator=draw)
    module: Any = backends.module("graph_contract", "cpu")
    plain: Any = backends.module("graph_contract", "cpu", "reference")
    for want in (False, True):
        ours, expected = (m.filter_edges(edges, number, want) for m in (module, plain))
        assert torch.equal(ours[0], expected[0])
        assert not want or torch.equal(ours[1], expected[1])
        for drop in (False, True):
            args = edges, number.clamp(min=0), max(n, 1), drop, want
            ours, expected = (m.merge_edges(*args) for m in (module, plain))
            assert all(torch.equal(a, b) for a, b in zip(ours[:2], expected[:2], strict=True))
    score = torch.rand(n, generator=draw)
    batch = torch.randint(7, (n,), generator=draw)
    for over, under, most in ((1, 3, 10**9), (1, 1, 4)):
        ours, expected = (
            backends.module("selection", "cpu", name).topk_in_batch(score, batch, over, under, most)  # type: ignore[union-attr]
            for name in ("auto", "reference")
        )
        assert torch.equal(ours[0], expected[0])
        assert ours[1]
        assert expected[1]


def test_bad_edges_and_scores_are_named() -> None:
    edges = torch.tensor([[0, 1, 2], [1, 5, 0]])
    node = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"edge_index\[:, 1\] is \[1, 5\], but there are 3 nodes"):
        filter_adj(edges, None, node, num_nodes=3)
    with pytest.raises(ValueError, match=r"edge_index\[:, 1\] is \[1, 5\], but there are 3 nodes"):
        pool_edge(torch.tensor([0, 0, 1]), edges)
    with pytest.raises(ValueError, match="cluster must not be negative, got -1"):
        pool_edge(torch.tensor([0, -1, 1]), edges)
    with pytest.raises(ValueError, match="x must not contain NaN, but element 1 is NaN"):
        topk(torch.tensor([0.0, torch.nan]), 0.5, torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="ratio or min_score must be given"):
        topk(torch.zeros(2), None, torch.tensor([0, 0]))
    with pytest.raises(RuntimeError, match="batch must not be negative"):
        topk(torch.zeros(2), 0.5, torch.tensor([0, -1]))


def test_a_program_of_graclus_and_max_pool_runs() -> None:
    x, edges, _, _ = drawn(1)
    with patch():
        cluster = pyg.graclus(edges, num_nodes=len(x))
        out = pyg.max_pool(cluster, Data(x=x, edge_index=edges))
    assert out.num_nodes == cluster.unique().numel() < len(x)
