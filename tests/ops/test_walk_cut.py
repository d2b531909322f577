"""Walks of three edges inside clusters, beside the cube of the matrix written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph, losses, walk_cut
from tests.support.ragged import BothForms, both_forms
from tests.support.tgp import import_tgp

SIZES = (6, 1, 9, 4)


def assignment(batch: BothForms, k: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(*batch.mask.shape, k, generator=generator, dtype=torch.float64)
    return torch.where(batch.mask[..., None], logits.softmax(-1), 0)


def written_out(s: Tensor, adj: Tensor) -> tuple[Tensor, Tensor]:
    cube = adj @ adj @ adj
    cut = (s.mT @ cube @ s).diagonal(dim1=1, dim2=2).sum(1)
    return cut, (cube.sum(2) * s.square().sum(2)).sum(1)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_values_and_gradients(directed: bool, weighted: bool) -> None:
    batch = both_forms(SIZES, directed=directed, weighted=weighted)
    s = assignment(batch)
    weights = torch.linspace(1, 2, 2 * len(SIZES), dtype=torch.float64).view(2, -1)

    def results(kind: str) -> tuple[Tensor, ...]:
        leaf = s.clone().requires_grad_()
        a = batch.adj.clone().requires_grad_()
        if kind == "written out":
            out = written_out(leaf, a)
        elif kind == "dense":
            out = walk_cut(leaf, a, mask=batch.mask)
        else:
            out = walk_cut(leaf[batch.mask], RaggedGraph.from_dense(a, batch.mask))
        (torch.stack(list(out)) * weights).sum().backward()
        assert leaf.grad is not None
        assert a.grad is not None
        entries = batch.adj != 0
        return *out, leaf.grad[batch.mask], a.grad[entries]

    expected = results("written out")
    for kind in ("dense", "ragged"):
        torch.testing.assert_close(results(kind), expected, msg=lambda m, k=kind: f"{k}: {m}")


def test_a_promise_of_symmetry_saves_a_product() -> None:
    batch = both_forms(SIZES)
    s = assignment(batch)
    torch.testing.assert_close(walk_cut(s, batch.adj, symmetric=True), walk_cut(s, batch.adj))
    turned = both_forms(SIZES, directed=True)
    promised = walk_cut(assignment(turned), turned.adj, symmetric=True)
    assert not torch.allclose(promised.cut, walk_cut(assignment(turned), turned.adj).cut)


def test_padding_is_not_read() -> None:
    batch = both_forms(SIZES, weighted=True)
    s = assignment(batch)
    both = batch.mask[:, :, None] & batch.mask[:, None, :]
    dirty = walk_cut(
        torch.where(batch.mask[..., None], s, torch.nan),
        torch.where(both, batch.adj, torch.nan),
        mask=batch.mask.int(),
    )
    torch.testing.assert_close(dirty, walk_cut(s, batch.adj, mask=batch.mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_small_dtypes_are_summed_in_float32(dtype: torch.dtype) -> None:
    batch = both_forms(SIZES)
    s = assignment(batch).to(dtype)
    expected = written_out(s.double(), batch.adj)
    for out in (walk_cut(s, batch.adj.to(dtype)), walk_cut(s[batch.mask], batch.graph)):
        assert out.cut.dtype is out.degree.dtype is torch.float64  # their cubes need its range
        torch.testing.assert_close([t.double() for t in out], list(expected), rtol=1e-6, atol=1e-5)


def test_the_loss_is_that_of_tgp() -> None:
    tgp = import_tgp("tgp.utils.losses")
    batch = both_forms((6, 9, 4), directed=True, weighted=True)
    s = assignment(batch)
    graph = batch.graph
    of_node = graph.batch
    expected = tgp.sparse_ho_mincut_loss(graph.to_edge_index()[0], s[batch.mask], graph.value, of_node)
    out = walk_cut(s[batch.mask], graph)
    torch.testing.assert_close(losses.ho_mincut_loss(*out), expected)
    total = losses.ho_mincut_loss(*out, batch_reduction="sum")
    torch.testing.assert_close(total, 3 * expected)


def test_graphs_without_edges_have_no_walks() -> None:
    s = torch.full((2, 3, 2), 0.5, dtype=torch.float64, requires_grad=True)
    loss = losses.ho_mincut_loss(*walk_cut(s, torch.zeros(2, 3, 3, dtype=torch.float64)))
    loss.backward()
    assert loss == 0
    assert s.grad is not None
    assert not s.grad.any()


@pytest.mark.parametrize("ragged", [False, True])
def test_compiles_in_one_graph(ragged: bool) -> None:
    batch = both_forms(SIZES)
    s = assignment(batch)
    args = (s[batch.mask], batch.graph) if ragged else (s, batch.adj)
    torch._dynamo.reset()
    compiled = torch.compile(walk_cut, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*args), walk_cut(*args))
