"""The DiffPool network on padded and ragged batches, and with PyTorch Geometric's operator."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.models import DiffPoolNet, DiffPoolNetOutput
from tests.support.ragged import BothForms, both_forms

SIZES = (9, 0, 1, 5, 7)


def make_net(**options: Any) -> DiffPoolNet:
    torch.manual_seed(1)
    options = {"max_nodes": 16, "ratio": 0.25, "hidden_channels": 8, "embedding_channels": 6} | options
    return DiffPoolNet(4, 3, **options).double()


def padded(pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A dense batch, with ``pad`` more rows of padding than necessary."""
    batch = both_forms(SIZES)
    return F.pad(batch.x, (0, 0, 0, pad)), F.pad(batch.adj, (0, pad, 0, pad)), F.pad(batch.mask, (0, pad))


def flat(out: DiffPoolNetOutput) -> tuple[Tensor, Tensor, Tensor]:
    assert out.link_loss is not None
    assert out.entropy_loss is not None
    return out.logits, out.link_loss, out.entropy_loss


def total(out: DiffPoolNetOutput) -> Tensor:
    logits, link, entropy = flat(out)
    return F.cross_entropy(logits, torch.arange(len(SIZES)) % 3) + link + entropy


def warmed(net: DiffPoolNet) -> DiffPoolNet:
    """In evaluation mode, with running statistics that are not those of a fresh layer."""
    net(*padded())
    return net.eval()


@pytest.mark.parametrize("readout", ["max", "mean", "sum"])
@pytest.mark.parametrize(
    "options",
    [{}, {"levels": 2}, {"ratio": None, "k": (5, 2)}, {"aggregation": "sum", "root": False}, {"norm": None}],
    ids=str,
)
@pytest.mark.parametrize("kind", [{}, {"directed": True, "weighted": True}], ids=["plain", "weighted"])
def test_same_as_padded(kind: dict[str, bool], options: dict[str, Any], readout: str) -> None:
    batch = both_forms(SIZES, **kind)
    dense, ragged = (make_net(readout=readout, **options) for _ in range(2))
    outs = dense(batch.x, batch.adj, batch.mask), ragged(batch.nodes, batch.graph)
    torch.testing.assert_close(flat(outs[1]), flat(outs[0]))
    for out in outs:
        total(out).backward()
    torch.testing.assert_close([p.grad for p in ragged.parameters()], [p.grad for p in dense.parameters()])
    torch.testing.assert_close(list(ragged.buffers()), list(dense.buffers()))


def test_trained_sparse_evaluates_dense() -> None:
    batch = both_forms(SIZES)
    dense, ragged = make_net(levels=2), make_net(levels=2)
    for net, inputs in ((dense, (batch.x, batch.adj, batch.mask)), (ragged, (batch.nodes, batch.graph))):
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(10):
            optimizer.zero_grad()
            total(net(*inputs)).backward()
            optimizer.step()
    torch.testing.assert_close(ragged.state_dict(), dense.state_dict(), rtol=1e-6, atol=1e-8)
    dense.load_state_dict(ragged.state_dict())
    dense.eval()
    ragged.eval()
    torch.testing.assert_close(
        flat(dense(batch.x, batch.adj, batch.mask)), flat(ragged(batch.nodes, batch.graph))
    )


def as_data(both: BothForms, **more: Any) -> SimpleNamespace:
    """What PyTorch Geometric's batches look like to the network."""
    edge_index, weight = both.graph.to_edge_index()
    fields = {"x": both.nodes, "edge_index": edge_index, "edge_weight": weight, "ptr": both.graph.ptr}
    return SimpleNamespace(num_nodes=both.graph.num_nodes, **(fields | more))


@pytest.mark.parametrize("weighted", [True, False])
def test_takes_anything_like_a_batch_of_pyg(weighted: bool) -> None:
    batch = both_forms(SIZES, weighted=weighted)
    net = make_net()
    expected = flat(net(batch.nodes, batch.graph))
    torch.testing.assert_close(flat(net(as_data(batch))), expected)
    by_batch = as_data(batch, ptr=None, batch=batch.graph.batch)
    torch.testing.assert_close(flat(net(by_batch)), expected)


def test_takes_a_batch_of_pyg_itself() -> None:
    data = pytest.importorskip("torch_geometric.data", reason="torch_geometric (extra: pyg) is not installed")
    batch = both_forms(SIZES)
    graphs = []
    for i, size in enumerate(SIZES):
        edges = batch.adj[i, :size, :size].nonzero().t().contiguous()
        graphs.append(data.Data(x=batch.x[i, :size], edge_index=edges, num_nodes=size))
    net = make_net().eval()
    torch.testing.assert_close(
        flat(net(data.Batch.from_data_list(graphs))), flat(net(batch.nodes, batch.graph))
    )
    alone = net(graphs[3]).logits
    torch.testing.assert_close(alone, net(batch.nodes, batch.graph).logits[3:4])


def test_unsorted_batch() -> None:
    batch = both_forms(SIZES, directed=True, weighted=True)
    shuffled = torch.randperm(batch.graph.num_nodes, generator=torch.Generator().manual_seed(2))
    inverse = shuffled.argsort()
    edge_index, weight = batch.graph.to_edge_index()
    graph = RaggedGraph.from_edge_index(
        inverse[edge_index],
        edge_weight=weight,
        batch=batch.graph.batch[shuffled],
        num_nodes=batch.graph.num_nodes,
        num_graphs=len(SIZES),
    )
    assert graph.order is not None
    net = make_net()
    out, expected = net(batch.nodes[shuffled], graph), net(batch.nodes, batch.graph)
    torch.testing.assert_close(flat(out), flat(expected))
    assert out.levels[0].record is not None
    assert expected.levels[0].record is not None
    torch.testing.assert_close(out.levels[0].record.s, expected.levels[0].record.s[shuffled])


def test_a_batch_is_its_graphs_one_by_one() -> None:
    batch = both_forms(SIZES)
    net = make_net(levels=2)
    net(batch.nodes, batch.graph)
    net.eval()
    ragged, dense = net(batch.nodes, batch.graph).logits, net(batch.x, batch.adj, batch.mask).logits
    for i, size in enumerate(SIZES):
        x, adj = batch.x[i, :size], batch.adj[i, :size, :size]
        torch.testing.assert_close(net(x, RaggedGraph.from_dense(adj.bool())).logits, ragged[i : i + 1])
        if size:
            torch.testing.assert_close(
                net(x[None], adj[None]).logits, dense[i : i + 1], rtol=1e-10, atol=1e-12
            )


def test_compiles_whole() -> None:
    batch = both_forms(SIZES)
    net = make_net(layers=2)
    compiled = torch.compile(copy.deepcopy(net), fullgraph=True, backend="aot_eager")
    outs = compiled(batch.nodes, batch.graph), net(batch.nodes, batch.graph)
    torch.testing.assert_close(flat(outs[0]), flat(outs[1]))
    for out in outs:
        total(out).backward()
    torch.testing.assert_close([p.grad for p in compiled.parameters()], [p.grad for p in net.parameters()])


def test_quirks_about_padding_are_refused() -> None:
    batch = both_forms(SIZES)
    for options, message in (
        ({"readout_padding": True}, "readout_padding=True reads padding"),
        ({"norm": "slot"}, "x must be a padded batch"),
    ):
        with pytest.raises(ValueError, match=message):
            make_net(**options)(batch.nodes, batch.graph)
    with pytest.raises(TypeError, match="data must be a PyG Data, Batch or EdgeIndex"):
        make_net()(object())


def test_names_of_parameters_are_those_of_saved_models() -> None:
    names = set(make_net(layers=2).state_dict())
    for stack in ("embeddings.0", "embeddings.1", "pools.0.assignment.stack"):
        for layer in ("convs.0.lin_rel.weight", "convs.1.lin_root.bias", "norms.0.running_var"):
            assert f"{stack}.{layer}" in names
    assert {"pools.0.assignment.linear.weight", "head.0.weight", "head.3.bias"} < names
    assert len(names) == 3 * (2 * 3 + 4) + 2 + 4


@pytest.mark.parametrize(
    ("options", "clusters"),
    [
        ({"ratio_of": "largest"}, (4,)),
        ({"levels": 2, "ratio_of": "largest"}, (4, 1)),
        ({"ratio": None, "k": (5, 2)}, (5, 2)),
        ({"readout": "mean", "k": 4, "ratio": None}, (4,)),
    ],
)
def test_shapes(options: dict[str, Any], clusters: tuple[int, ...]) -> None:
    net = make_net(**options)
    out = net(*padded())
    assert out.logits.shape == (len(SIZES), 3)
    assert net.clusters == clusters
    assert [level.adj.shape[1] for level in out.levels] == list(net.clusters)


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing(training: bool) -> None:
    options: dict[str, Any] = {"levels": 2, "pool_options": {"convention": "tgp_unbatched"}}
    less_padding, more_padding = (warmed(make_net(**options)).train(training) for _ in range(2))
    expected = flat(less_padding(*padded()))
    got = flat(more_padding(*padded(pad=4)))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        list(more_padding.buffers()), list(less_padding.buffers()), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_poison_in_padding_reaches_no_output_and_no_gradient(poison: float) -> None:
    x, adj, mask = padded(pad=2)
    net = make_net()
    bad_x = torch.where(mask[..., None], x, poison)
    bad_adj = torch.where(mask[:, None] & mask[..., None], adj, poison)
    expected = flat(net(x, adj, mask))
    got = flat(net(bad_x, bad_adj, mask))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))
    sum(term.sum() for term in got).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())
    assert all(b.isfinite().all() for b in net.buffers())


def test_order_of_nodes_changes_nothing() -> None:
    x, adj, mask = padded(pad=2)
    order = torch.randperm(x.size(1), generator=torch.Generator().manual_seed(3))
    net = warmed(make_net(levels=2))
    expected = flat(net(x, adj, mask))
    got = flat(net(x[:, order], adj[:, order][:, :, order], mask[:, order]))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_adjacency_of_any_dtype() -> None:
    x, adj, mask = padded()
    net = warmed(make_net())
    for dtype in (torch.bool, torch.int8, torch.float32):
        assert torch.equal(net(x, adj.to(dtype), mask.to(dtype)).logits, net(x, adj, mask).logits)


def test_pyg_in_place_of_ours_is_the_same_model() -> None:
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: pyg) is not installed")
    ours, theirs = (make_net(levels=2, ratio_of="largest", pool=pool) for pool in ("hierpool", "pyg"))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    results = []
    for net in (ours, theirs):  # one seed, so the weights are the same
        out = flat(net(*padded(pad=1)))
        (out[0].square().sum() + out[1] + out[2]).backward()
        results.append((out, [p.grad for p in net.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-8, atol=1e-10)


def test_quirks_of_the_original_code() -> None:
    x, adj, mask = padded()
    net = make_net(aggregation="sum", root=False, norm="slot", readout_padding=True)
    assert not list(net.buffers())
    out = net(x, adj, mask)
    # The maximum runs over padding rows, which are 0, so no entry of a padded graph's first summary is negative.
    z = net.embeddings[0](x, adj, mask)
    assert z[~mask].eq(0).all()
    torch.testing.assert_close(net._summary(z, adj, mask), z.amax(1))
    assert net._summary(z, adj, mask)[1:].ge(0).all()
    assert out.logits.isfinite().all()


def test_losses_skipped_by_option() -> None:
    out = make_net(pool_options={"link_loss": None, "entropy": False})(*padded())
    assert out.link_loss is None
    assert out.entropy_loss is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3}, "exactly one of k and ratio"),
        ({"ratio": None}, "exactly one of k and ratio"),
        ({"ratio": None, "k": ()}, "k must name at least one level"),
        ({"ratio": None, "k": (3, 0)}, "k must be at least 1, got 0"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"readout": "last"}, "readout must be one of"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_net(**options)
