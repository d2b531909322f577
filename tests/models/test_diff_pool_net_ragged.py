"""The DiffPool network on ragged batches: the same model as on padded ones."""

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


def flat(out: DiffPoolNetOutput) -> tuple[Tensor, Tensor, Tensor]:
    assert out.link_loss is not None
    assert out.entropy_loss is not None
    return out.logits, out.link_loss, out.entropy_loss


def total(out: DiffPoolNetOutput) -> Tensor:
    logits, link, entropy = flat(out)
    return F.cross_entropy(logits, torch.arange(len(SIZES)) % 3) + link + entropy


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
    place = shuffled.argsort()
    edge_index, weight = batch.graph.to_edge_index()
    graph = RaggedGraph.from_edge_index(
        place[edge_index],
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
    together = net(batch.nodes, batch.graph).logits
    for i, size in enumerate(SIZES):
        graph = RaggedGraph.from_dense(batch.adj[i, :size, :size].bool())
        torch.testing.assert_close(net(batch.x[i, :size], graph).logits, together[i : i + 1])


def test_the_stacks_of_a_level_share_the_product_with_the_adjacency(monkeypatch: pytest.MonkeyPatch) -> None:
    from hierpool.nn import sage

    batch = both_forms(SIZES)
    calls = []
    real = sage.spmm
    monkeypatch.setattr(sage, "spmm", lambda graph, x: calls.append(x.shape) or real(graph, x))
    make_net(layers=3)(batch.nodes, batch.graph)
    assert len(calls) == 5  # one for both first layers, two for each later one
    assert calls[0] == batch.nodes.shape


def test_compiles_whole() -> None:
    batch = both_forms(SIZES)
    net = make_net()
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
