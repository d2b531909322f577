"""Where results differ from PyTorch Geometric's on purpose: each row of the table in docs/switching.md, both sides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from hierpool import DMoNPooling, RaggedGraph, dense_diff_pool, dense_mincut_pool
from hierpool.integrations.pyg import patch, selecting
from hierpool.integrations.pyg.edge_pooling import EdgePooling
from tests.support.ragged import both_forms

nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])")

from torch_geometric.data import Data  # noqa: E402
from torch_geometric.nn.pool.select import topk as select  # noqa: E402
from torch_geometric.typing import WITH_GRACLUS  # noqa: E402
from torch_geometric.utils import to_dense_adj  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "switching.md"
SIZES = (6, 9, 4)
F, K = 4, 3
tested: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., None])


def difference(case: str) -> Callable[[Test], Test]:
    """Say which row of the table a test is of."""
    tested.add(case)
    return lambda test: test


def layers() -> tuple[Any, DMoNPooling]:
    """PyTorch Geometric's layer and ours, with the same parameters."""
    torch.manual_seed(0)
    theirs, ours = nn.DMoNPooling(F, K).double(), DMoNPooling(F, K).double()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def both(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None = None) -> tuple[list[Any], list[Any]]:
    """Results and the gradient to s, of ours and of PyG's."""
    found = []
    for function in (dense_mincut_pool, nn.dense_mincut_pool):
        leaf = s.clone().requires_grad_()
        out = function(x, adj, leaf, mask)
        (grad,) = torch.autograd.grad(sum(t.float().square().sum() for t in out), leaf)
        found.append([*out, grad])
    return found[0], found[1]


def two_graphs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    adj = (torch.rand(2, 6, 6, generator=generator) < 0.6).float()
    adj[:, 0, 1] = 1
    return torch.randn(2, 6, 3, generator=generator), adj, torch.randn(2, 6, 4, generator=generator)


@difference("MinCut, DMoN: a graph without edges")
def test_a_graph_without_edges() -> None:
    x, adj, s = two_graphs()
    adj[1] = 0
    ours, theirs = both(x, adj, s)
    assert theirs[2].isnan()
    assert theirs[4].isnan().any()
    assert all(t.isfinite().all() for t in ours)
    alone = dense_mincut_pool(x[:1], adj[:1], s[:1])
    torch.testing.assert_close(ours[2], alone[2] / 2)
    assert not ours[1][1].any()


@difference("a graph without nodes")
def test_a_graph_without_nodes() -> None:
    x, adj, s = two_graphs()
    mask = torch.ones(2, 6)
    mask[1], adj[1] = 0, 0
    ours, theirs = both(x, adj, s, mask)
    assert theirs[2].isnan()
    assert theirs[3].isnan()
    assert all(t.isfinite().all() for t in ours)
    alone = dense_mincut_pool(x[:1], adj[:1], s[:1])
    torch.testing.assert_close(ours[2:4], [t / 2 for t in alone[2:4]])
    assert not ours[4][1].any()


@difference("MinCut, DMoN: gradient at an empty cluster")
def test_an_empty_cluster() -> None:
    x, adj, s = two_graphs()
    s[0, :, 2] = -300  # its probability is 0
    ours, theirs = both(x, adj, s)
    assert theirs[4].isnan().any()
    assert all(t.isfinite().all() for t in ours)
    for one, other in zip(ours[:4], theirs[:4], strict=True):
        torch.testing.assert_close(one, other)
    assert not ours[1][0, 2].any()


def test_one_cluster() -> None:
    x, adj, s = two_graphs()
    ours, theirs = both(x, adj, s[..., :1])
    assert not ours[4].any()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@difference("MinCut, DMoN: float16 with an empty cluster, or with a sum above 65504")
def test_float16_with_an_empty_cluster() -> None:
    x, adj, s = (t.half() for t in two_graphs())
    s[0, :, 2] = -300
    ours, theirs = both(x, adj, s)
    assert theirs[1].isnan().any()  # 0 / 0: its epsilon is 0 in float16
    assert all(t.isfinite().all() for t in ours)


@difference("MinCut, DMoN: float16 with an empty cluster, or with a sum above 65504")
def test_float16_with_more_edges_than_it_can_count() -> None:
    adj = torch.ones(1, 600, 600).half()
    x, s = torch.ones(1, 600, 1).half(), torch.zeros(1, 600, 2).half()
    s[0, :300, 0] = 3
    ours, theirs = both(x, adj, s)
    assert not theirs[2].isfinite()
    exact = nn.dense_mincut_pool(x.double(), adj.double(), s.double())
    torch.testing.assert_close(ours[2].double(), exact[2], rtol=2e-3, atol=0)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=2e-3, atol=0)


@difference("MinCut, DMoN: pooled adjacency with a negative row sum")
def test_rows_whose_sum_is_negative() -> None:
    x, adj, s = two_graphs()
    ours, theirs = both(x, -adj, s)
    assert theirs[1].isnan().any()
    assert not ours[1].any()
    torch.testing.assert_close(ours[2:4], theirs[2:4])


@difference("entries of the adjacency in padding")
def test_adjacency_of_padding_is_ignored() -> None:
    x, adj, s = two_graphs()
    mask = torch.arange(6).expand(2, 6) < 4
    clean = torch.where(mask[:, None] & mask[..., None], adj, 0)
    dirty = torch.where(mask[:, None] & mask[..., None], adj, 7)
    expected, theirs = both(x, clean, s, mask)
    got, spoilt = both(x, dirty, s, mask)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    torch.testing.assert_close(theirs[2], expected[2])
    assert (spoilt[2] - theirs[2]).abs() > 0.1  # PyG's degrees count it


@difference("DMoN: cluster loss of graphs of unequal sizes")
def test_the_cluster_loss_is_that_of_each_graph() -> None:
    """PyG divides the clusters of every graph by the sizes of all of them."""
    batch = both_forms(SIZES)
    theirs, ours = layers()
    expected = [theirs(batch.x[b : b + 1, :n], batch.adj[b : b + 1, :n, :n])[5] for b, n in enumerate(SIZES)]
    torch.testing.assert_close(ours(batch.x, batch.adj, batch.mask)[5], torch.stack(expected).mean())
    crossed = theirs(batch.x, batch.adj.clone(), batch.mask)[5]
    assert (crossed - torch.stack(expected).mean()).abs() > 1e-3
    ours.pyg_compat = True
    torch.testing.assert_close(ours(batch.x, batch.adj, batch.mask)[5], crossed)


@difference("MinCut, DMoN: a graph without edges")
@pytest.mark.parametrize("what", ["edges", "nodes"])
def test_a_graph_without_edges_or_nodes_is_finite(what: str) -> None:
    batch = both_forms(SIZES)
    mask, adj = batch.mask.clone(), batch.adj.clone()
    adj[1] = 0
    mask[1] &= what == "edges"
    theirs, ours = layers()
    assert theirs(batch.x, adj.clone(), mask)[3].isnan()
    out = ours(batch.x, adj, mask)
    grads = torch.autograd.grad(sum(t.square().sum() for t in out), list(ours.parameters()))
    assert all(t.isfinite().all() for t in (*out, *grads))


@difference("entropy in float16")
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_entropy_is_finite_in_float16(backend: str) -> None:
    x, adj, s = torch.ones(1, 3, 2).half(), torch.ones(1, 3, 3).half(), torch.zeros(1, 3, 2).half()
    mask = torch.tensor([[1, 1, 0]])
    assert nn.dense_diff_pool(x, adj, s, mask)[3].isnan()
    # Two rows of entropy log 2, and a padded one that counts in the mean.
    expected = torch.tensor(2 * 0.6931471805599453 / 3).half()
    assert dense_diff_pool(x, adj, s, mask, backend=backend)[3] == expected


@difference("entries of the adjacency in padding")
def test_adjacency_of_padding_is_ignored_by_diff_pool() -> None:
    x, adj, s = two_graphs()
    mask = torch.arange(6).expand(2, 6) < 4
    clean, dirty = (torch.where(mask[:, None] & mask[..., None], adj, filler) for filler in (0, 7))
    expected = dense_diff_pool(x, clean, s, mask)
    got = dense_diff_pool(x, dirty, s, mask)
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))
    assert nn.dense_diff_pool(x, dirty, s, mask)[2] > 2 * expected[2]


@difference("EdgePooling: edges with equal scores")
def test_contracted_edges_do_not_depend_on_the_batch() -> None:
    """A path of six nodes with one score for all edges, alone and as the second of two graphs."""
    path = torch.stack([torch.arange(5), torch.arange(1, 6)])
    x = torch.zeros(6, 2)
    clusters = {}
    for kind in (nn.EdgePooling, EdgePooling):
        layer = kind(2, edge_score_method=kind.compute_edge_score_tanh)
        alone = layer(x, path, torch.zeros(6, dtype=torch.int64))[3].cluster
        both = layer(torch.zeros(12, 2), torch.cat([path, path + 6], 1), torch.arange(12) // 6)[3].cluster
        clusters[kind] = [part[:, None] == part for part in (alone, both[6:])]
    assert torch.equal(*clusters[EdgePooling])
    assert not torch.equal(clusters[nn.EdgePooling][0], clusters[EdgePooling][0])


@difference("TopKPooling and others: nodes with equal scores")
def test_the_first_of_equal_nodes_is_kept() -> None:
    """Of 100 equal nodes, PyTorch Geometric keeps whatever its sort puts first."""
    batch = torch.zeros(100, dtype=torch.int64)
    assert selecting.topk(torch.zeros(100), 0.1, batch).tolist() == list(range(10))
    theirs = select.topk(torch.zeros(100), 0.1, batch)
    assert theirs.numel() == 10  # which ones depends on the sort


@difference("TopKPooling and others: `ratio` in bfloat16 and float16")
def test_the_number_of_kept_nodes_is_exact() -> None:
    score, batch = torch.arange(1001).to(torch.bfloat16), torch.zeros(1001, dtype=torch.int64)
    assert select.topk(score, 0.5, batch).numel() == 500
    assert selecting.topk(score, 0.5, batch).numel() == 501


@difference("TopKPooling and others: a score is NaN")
def test_scores_that_are_nan_are_refused() -> None:
    score, batch = torch.tensor([0.0, torch.nan]), torch.zeros(2, dtype=torch.int64)
    assert select.topk(score, 0.5, batch).tolist() == [1]
    with pytest.raises(ValueError, match="x must not contain NaN"):
        selecting.topk(score, 0.5, batch)


@difference("`graclus`")
def test_graclus_takes_the_heaviest_edges() -> None:
    """A path of three edges, of which the one in the middle is heaviest."""
    edges, weight = torch.tensor([[0, 1, 2], [1, 2, 3]]), torch.tensor([1.0, 2.0, 1.0])
    assert selecting.graclus(edges, weight).tolist() == [0, 1, 1, 3]
    if not WITH_GRACLUS:
        with pytest.raises(ImportError, match="pyg-lib"):
            nn.graclus(edges, weight)


@difference("several graphs that share `x`, with a mask for each")
def test_features_of_all_graphs() -> None:
    x, adj, s = two_graphs()
    mask = torch.arange(6) < torch.tensor([[4], [5]])
    with pytest.raises(RuntimeError):
        nn.dense_diff_pool(x[0], adj, s, mask)
    expected = dense_diff_pool(x[:1].expand(2, 6, 3), adj, s, mask)
    torch.testing.assert_close(dense_diff_pool(x[0], adj, s, mask), expected)


@difference("`edge_attr` of one dimension, integers")
def test_edge_attributes_are_weights() -> None:
    ends, weight = torch.tensor([[0, 1], [1, 2]]), torch.tensor([2.0, 3.0])
    data = Data(x=torch.ones(3, 1), edge_index=ends, edge_attr=weight)
    theirs = to_dense_adj(data.edge_index, edge_attr=data.edge_attr)
    assert torch.equal(RaggedGraph.from_pyg(data).to_dense(), theirs)
    data.edge_attr = weight.long()  # which may be kinds of edges
    assert torch.equal(to_dense_adj(data.edge_index, edge_attr=data.edge_attr), theirs.long())
    with pytest.warns(UserWarning, match="edge_attr"):
        assert RaggedGraph.from_pyg(data).value is None
    assert torch.equal(RaggedGraph.from_pyg(data, edge_attr="weight").to_dense(), theirs)


@difference("`ASAPooling`: gradient of the weights of the coarsened edges to features and parameters")
@pytest.mark.filterwarnings("ignore:Sparse")
def test_products_of_sparse_matrices_have_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    ends = torch.randint(7, (2, 12), generator=generator)
    weight = torch.rand(12, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    layer = nn.ASAPooling(3).double()
    leaves = torch.randn(7, 3, dtype=torch.float64).requires_grad_(), weight.requires_grad_()

    def weights(x: Tensor, weight: Tensor) -> Tensor:
        found: Tensor = layer(x, ends, weight)[2]
        return found

    with pytest.raises(RuntimeError, match="Could not run"):
        torch.autograd.grad(weights(*leaves).sum(), leaves)
    with patch():
        assert torch.autograd.gradcheck(weights, leaves)


def test_every_row_is_tested() -> None:
    table = PAGE.read_text(encoding="utf-8").split("Results differ in these cases:")[1].split("\n\n")[1]
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert sorted(rows) == sorted(tested)
