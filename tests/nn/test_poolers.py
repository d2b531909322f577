"""All soft poolers: inputs of every form, outputs of every form, compilation, small dtypes, lifting."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.nn import POOLERS, SelectOutput, get_pooler, lift
from tests.support.poolers import NAMES, SIZES, F, K, assert_same, forms, make_batch, make_pooler, scalar


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_every_form_of_a_batch_gives_the_same(name: str, symmetric: bool) -> None:
    b = make_batch(symmetric=symmetric)
    pooler = make_pooler(name)
    expected = pooler(b.padded, b.adj, mask=b.mask)
    gradients = torch.autograd.grad(scalar(expected), list(pooler.parameters()))
    for args, options in forms(b).values():
        out = pooler(*args, **options)
        assert_same(out, expected)
        torch.testing.assert_close(out.so.s, expected.so.s[b.mask])
        torch.testing.assert_close(torch.autograd.grad(scalar(out), list(pooler.parameters())), gradients)


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_pyg(name: str) -> None:
    data = pytest.importorskip("torch_geometric.data", reason="torch_geometric (extra: pyg) is not installed")
    b = make_batch()
    graphs, first = [], 0
    for g, size in enumerate(SIZES):
        edge_index = b.adj[g].nonzero().t()
        weight = b.adj[g][edge_index[0], edge_index[1]]
        x = b.x[first : first + size]
        graphs.append(data.Data(x=x, edge_index=edge_index, edge_weight=weight, num_nodes=size))
        first += size
    batch = data.Batch.from_data_list(graphs)
    pooler = make_pooler(name)
    expected = pooler(b.padded, b.adj, mask=b.mask)
    assert_same(pooler(batch), expected)
    assert_same(pooler(batch.x, batch), expected)
    assert pooler(batch).as_data().x.shape == (len(SIZES), K, F)


@pytest.mark.parametrize("name", NAMES)
def test_unsorted_nodes(name: str) -> None:
    b = make_batch()
    pooler = make_pooler(name)
    expected = pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    order = torch.randperm(len(b.x), generator=torch.Generator().manual_seed(3))
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))
    out = pooler(b.x[order], place[b.edge_index], b.edge_weight, batch=b.batch[order])
    assert_same(out, expected)
    torch.testing.assert_close(out.so.s, expected.so.s[order])
    torch.testing.assert_close(pooler.lift(out.x, out.so), pooler.lift(expected.x, expected.so)[order])


@pytest.mark.parametrize("name", NAMES)
def test_one_graph(name: str) -> None:
    b = make_batch()
    pooler = make_pooler(name)
    n = SIZES[0]
    adj, x = b.adj[0, :n, :n], b.padded[0, :n]
    expected = pooler(x[None], adj[None])
    assert_same(pooler(x, adj), expected)
    assert_same(pooler(x, adj.nonzero().t(), adj[adj != 0]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_edge_types_are_pooled_in_one_call(name: str) -> None:
    b = make_batch()
    stacked = torch.stack([b.adj, b.adj.mT.square(), 2 * b.adj], 1)
    pooler = make_pooler(name)
    out = pooler(b.padded, stacked, mask=b.mask)
    assert out.adj.shape == (len(SIZES), 3, K, K)
    for r in range(3):
        alone = pooler(b.padded, stacked[:, r], mask=b.mask)
        torch.testing.assert_close(out.adj[:, r], alone.adj)
        torch.testing.assert_close(out.x, alone.x)


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_not_read(name: str) -> None:
    b = make_batch()
    pooler = make_pooler(name)
    both = b.mask[:, :, None] & b.mask[:, None, :]
    dirty = pooler(
        torch.where(b.mask[..., None], b.padded, torch.nan),
        torch.where(both, b.adj, torch.nan),
        mask=b.mask.int(),
    )
    assert_same(dirty, pooler(b.padded, b.adj, mask=b.mask))
    scalar(dirty).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pooler.parameters())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["dense", "edge_index", "ragged"])
def test_compiles_in_one_graph(name: str, form: str) -> None:
    b = make_batch(torch.float32)
    pooler = make_pooler(name, torch.float32)
    args, options = forms(b)["edge_index" if form == "dense" else form]
    if form == "dense":
        args, options = (b.padded, b.adj), {"mask": b.mask}
    elif form == "edge_index":
        options["batch_size"] = len(SIZES)
    torch._dynamo.reset()
    # Inductor takes seconds; that it compiles what was traced is shown once.
    compiler = "inductor" if (name, form) == ("hosc", "edge_index") else "aot_eager"
    compiled = torch.compile(pooler, fullgraph=True, backend=compiler)
    out, expected = compiled(*args, **options), pooler(*args, **options)
    assert_same(out, expected)
    parameters = list(pooler.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(scalar(out), parameters), torch.autograd.grad(scalar(expected), parameters)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["dense", "edge_index"])
def test_small_dtypes_are_finite(name: str, dtype: torch.dtype, form: str) -> None:
    b = make_batch(dtype)
    pooler = make_pooler(name, dtype)
    if form == "dense":
        out = pooler(b.padded, b.adj, mask=b.mask)
    else:
        out = pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    assert out.x.dtype is out.adj.dtype is dtype
    scalar(out).backward()
    tensors = [out.x, out.adj, *out.loss.values(), *(p.grad for p in pooler.parameters())]
    assert all(t is not None and t.isfinite().all() for t in tensors)
    wide = make_batch()
    expected = make_pooler(name)(wide.padded, wide.adj, mask=wide.mask)
    for key, loss in out.loss.items():
        torch.testing.assert_close(loss.double(), expected.loss[key].double(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_is_reproducible_bit_for_bit(name: str) -> None:
    b = make_batch(torch.float32)

    def train(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            pooler = make_pooler(name, torch.float32)
            optimizer = torch.optim.Adam(pooler.parameters(), lr=0.05)
            for _ in range(5):
                optimizer.zero_grad()
                scalar(pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch)).backward()
                optimizer.step()
            return [p.detach().clone() for p in pooler.parameters()]
        finally:
            torch.set_num_threads(before)

    first = train(1)
    for threads in (1, 2):
        for got, expected in zip(train(threads), first, strict=True):
            assert torch.equal(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_graphs_without_nodes_or_edges_give_finite_gradients(name: str) -> None:
    b = make_batch()
    pooler = make_pooler(name)
    mask = b.mask.clone()
    mask[1] = False
    out = pooler(b.padded, torch.zeros_like(b.adj), mask=mask)
    scalar(out).backward()
    tensors = [out.x, out.adj, *out.loss.values(), *(p.grad for p in pooler.parameters())]
    assert all(t is not None and t.isfinite().all() for t in tensors)
    assert not out.x[1].any()
    assert out.mask is not None
    assert not out.mask[1].any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [1, 11])
def test_one_cluster_and_more_than_nodes(name: str, k: int) -> None:
    b = make_batch()
    torch.manual_seed(0)
    pooler = POOLERS[name](F, k).double()
    out = pooler(b.padded, b.adj, mask=b.mask)
    assert_same(pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch), out)
    scalar(out).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in pooler.parameters())


def test_sparse_output() -> None:
    b = make_batch()
    dense = make_pooler("mincut")(b.padded, b.adj, mask=b.mask)
    pooler = make_pooler("mincut", sparse_output=True)
    x, edge_index, edge_weight, batch, mask, so, loss = pooler(
        b.x, b.edge_index, b.edge_weight, batch=b.batch
    )
    assert x.shape == (len(SIZES) * K, F)
    assert torch.equal(batch, torch.arange(len(SIZES)).repeat_interleave(K))
    assert torch.equal(mask, so.out_mask)
    torch.testing.assert_close(loss, dense.loss)
    blocks = torch.block_diag(*dense.adj)
    got = torch.zeros_like(blocks).index_put((edge_index[0], edge_index[1]), edge_weight, accumulate=True)
    torch.testing.assert_close(got, blocks)
    few = make_pooler("mincut", sparse_output=True, drop=0.0)(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    assert (few.edge_weight != 0).all()
    assert few.edge_index.size(1) == int((blocks != 0).sum()) < edge_index.size(1)


def test_transposed_adjacency_is_that_of_the_turned_edges() -> None:
    b = make_batch()
    out = make_pooler("mincut", adj_transpose=True)(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    assert_same(out, make_pooler("mincut", adj_transpose=True)(b.padded, b.adj.mT, mask=b.mask))
    straight = make_pooler("mincut")(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    torch.testing.assert_close(out.adj.mT, straight.adj)  # degrees are those of sources either way


@pytest.mark.parametrize("how", ["transpose", "inverse"])
def test_lifting(how: str) -> None:
    b = make_batch()
    pooler = make_pooler("diff", lift=how)
    dense = pooler(b.padded, b.adj, mask=b.mask)
    sparse = pooler(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    lifted = pooler(dense.x, so=dense.so, lifting=True)
    torch.testing.assert_close(pooler(sparse.x, so=sparse.so, lifting=True, batch=b.batch), lifted[b.mask])
    torch.testing.assert_close(pooler.lift(sparse.x.flatten(0, 1), sparse.so), lifted[b.mask])
    for g, size in enumerate(SIZES):
        s = dense.so.s[g, :size]
        matrix = s if how == "transpose" else torch.linalg.pinv(s).mT
        torch.testing.assert_close(lifted[g, :size], matrix @ dense.x[g])
    assert not lifted[~b.mask].any()
    with pytest.raises(
        ValueError, match="so must be the assignment of the pooling layer with lifting=True, got None"
    ):
        pooler(dense.x, lifting=True)
    with pytest.raises(ValueError, match="how must be 'transpose' or 'inverse', got 'back'"):
        lift(dense.x, dense.so, "back")


def test_a_fixed_assignment() -> None:
    b = make_batch()
    clusters = torch.arange(len(b.x)) % K
    graph = RaggedGraph.from_edge_index(b.edge_index, len(b.x), edge_weight=b.edge_weight, batch=b.batch)
    so = SelectOutput.from_clusters(clusters, K, graph)
    pooler = make_pooler("diff", link_loss=None, entropy=False)
    out = pooler(b.x, graph, so=so)
    assert not out.loss
    for g in range(len(SIZES)):
        rows = b.batch == g
        for c in range(K):
            torch.testing.assert_close(out.x[g, c], b.x[rows & (clusters == c)].sum(0))
    assert torch.equal(out.mask, so.out_mask)
    assert so.is_expressive
    assert torch.equal(out.so.s.argmax(1), clusters)
    sparse = SelectOutput(so.s.to_sparse(), graph)
    assert torch.equal(sparse.cluster_index, clusters)
    assert torch.equal(sparse.node_index, torch.arange(len(b.x)))
    assert_same(pooler(b.x, graph, so=sparse), out)


def test_the_link_loss_of_nolp_is_not_computed() -> None:
    b = make_batch()
    out = make_pooler("diff", link_loss=None)(b.padded, b.adj, mask=b.mask)
    assert list(out.loss) == ["entropy_loss"]
    assert out.record is not None
    assert out.record.gram is None
    assert out.record.link_norm is None


@pytest.mark.parametrize("name", NAMES)
def test_short_names(name: str) -> None:
    pooler = get_pooler(name.upper(), in_channels=[F, 8], k=K, act="relu", dropout=0.1, batched=True)
    assert type(pooler) is POOLERS[name]
    assert pooler.adj_transpose
    assert pooler.postprocessing["degree_norm"]
    assert not get_pooler(f"{name}_u", in_channels=F, k=K).adj_transpose
    assert get_pooler(name, in_channels=F, k=K, s_inv_op="inverse").lift_how == "inverse"
    with pytest.raises(TypeError, match="raito"):
        get_pooler(name, in_channels=F, raito=0.5)
    assert "k=3" in repr(copy.deepcopy(pooler))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"name must be one of .*'mincut'.* got 'minct'"):
        get_pooler("minct", in_channels=F, k=K)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, b: p(b.x), "adj must be given, unless x is a Data or Batch"),
        (lambda p, b: p(b.padded, b.adj, batch=b.batch), "batch must be None if adj is dense"),
        (lambda p, b: p(b.padded, b.adj, b.edge_weight), "edge_weight must be None if adj is dense"),
        (lambda p, b: p(b.x, b.edge_index, mask=b.mask), "mask must be None with a sparse adjacency"),
        (lambda p, b: p(b.padded, b.adj, mask=b.mask[:, 1:]), r"mask must have shape \[4, 8\]"),
        (
            lambda p, b: p(b.padded, b.adj, logits=b.padded[..., :3], so=SelectOutput(b.padded)),
            "at most one of so, assign_x and logits must be given, got so and logits",
        ),
        (lambda p, b: p(b.padded, b.adj, so=SelectOutput(b.padded)), r"must return \[4, 8, 3\]"),
    ],
)
def test_bad_calls_are_named(call: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(make_pooler("diff"), make_batch())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lift": "back"}, "lift must be 'transpose' or 'inverse', got 'back'"),
        ({"drop": 0.1}, "drop must be None unless sparse_output=True, got 0.1"),
        (
            {"drop": float("nan"), "sparse_output": True},
            "drop must be a number that is not negative, got nan",
        ),
        ({"drop": -0.1, "sparse_output": True}, "drop must be a number that is not negative, got -0.1"),
        ({"dropout": 1.5}, r"dropout must be in \[0, 1\], got 1.5"),
        ({"act": "rellu"}, "act must name a function of torch.nn.functional or torch, got 'rellu'"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_pooler("diff", **options)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 2"):
        POOLERS["hosc"](F, K, alpha=2)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3, 4)])
def test_bad_assignments_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"s must have shape \[B, N, K\] or \[N, K\]"):
        SelectOutput(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"in_mask must have shape \[2, 3\], got \[2, 4\]"):
        SelectOutput(torch.zeros(2, 3, 4), in_mask=torch.ones(2, 4))


def test_an_assignment_can_be_moved_and_detached() -> None:
    b = make_batch()
    out = make_pooler("mincut")(b.x, b.edge_index, b.edge_weight, batch=b.batch)
    moved = out.so.to("cpu").detach().cpu()
    assert not moved.s.requires_grad
    assert torch.equal(moved.batch, b.batch)
    assert (moved.num_nodes, moved.num_supernodes) == (len(b.x), K)
    assert torch.equal(moved.s_inv, moved.s.t())
    assert "num_supernodes=3" in repr(moved)
    assert "loss=['cut_loss', 'ortho_loss']" in repr(out)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["padded", "edge_index", "ragged"])
def test_outputs_are_saved_and_loaded_without_trust_in_the_file(name: str, form: str, tmp_path: Path) -> None:
    pooler = make_pooler(name)
    b = make_batch()
    args, options = ((b.padded, b.adj), {"mask": b.mask}) if form == "padded" else forms(b)[form]
    with torch.no_grad():
        out = pooler(*args, **options)
        torch.save(out, tmp_path / "out.pt")
        same = torch.load(tmp_path / "out.pt", weights_only=True)
        assert_same(same, out)
        assert torch.equal(pooler.lift(same.x, same.so), pooler.lift(out.x, out.so))
        torch.testing.assert_close(same.record, out.record, equal_nan=True)
        torch.testing.assert_close(copy.deepcopy(out).record, out.record, equal_nan=True)
