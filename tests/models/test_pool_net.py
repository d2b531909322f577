"""One classifier for every pooler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hierpool import RaggedGraph
from hierpool.data import BatchLoader, load_tu
from hierpool.models import PoolNet
from hierpool.nn import HARD_POOLERS, POOLERS

NAMES = sorted({*HARD_POOLERS, *POOLERS})


@pytest.mark.parametrize("name", NAMES)
def test_every_pooler_learns_on_molecules(name: str) -> None:
    torch.manual_seed(0)
    dataset = load_tu("MUTAG")
    net = PoolNet(dataset.num_features, 2, name, max_nodes=dataset.max_nodes, hidden_channels=16, levels=2)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    loader = BatchLoader(dataset.graphs, 64, seed=0)
    first = last = 0.0
    for epoch in range(1, 9):
        total = 0.0
        for batch in loader.epoch(epoch):
            out = net(*batch.inputs)
            task = torch.nn.functional.cross_entropy(out.logits, batch.y)
            loss = task if out.loss is None else task + out.loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(task.detach()) * len(batch.y)
        first, last = first or total, total
    assert last < 0.8 * first
    assert len(out.levels) == 2
    assert (out.loss is None) == (name in HARD_POOLERS and name != "maxcut")


@pytest.mark.parametrize("name", NAMES)
def test_padded_and_ragged_batches_agree_and_graphs_do_not_depend_on_each_other(name: str) -> None:
    torch.manual_seed(0)
    net = PoolNet(3, 2, name, max_nodes=7, hidden_channels=8).double().eval()
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    adj = (torch.rand(2, 7, 7) < 0.5) & mask[:, :, None] & mask[:, None]
    adj = (adj | adj.mT).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    padded = net(x, adj, mask)
    ragged = net(x[mask], RaggedGraph.from_dense(adj, mask))
    torch.testing.assert_close(padded.logits, ragged.logits)
    alone = net(x[1, :4], RaggedGraph.from_dense(adj[1, :4, :4]))
    torch.testing.assert_close(alone.logits[0], ragged.logits[1])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"pooler must be one of 'acc', .*, got 'best'"):
        PoolNet(3, 2, "best")
    with pytest.raises(ValueError, match="max_nodes must be given with pooler='mincut', got None"):
        PoolNet(3, 2, "mincut")
    with pytest.raises(ValueError, match="levels must be at least 1, got 0"):
        PoolNet(3, 2, "topk", levels=0)


@pytest.mark.parametrize("pooler", ["topk", "diff"])
def test_outputs_are_saved_and_loaded_without_trust_in_the_file(pooler: str, tmp_path: Path) -> None:
    graph = RaggedGraph.from_edge_index(torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    network = PoolNet(4, 2, pooler, max_nodes=3).eval()
    with torch.no_grad():
        out = network(torch.randn(3, 4), graph)
    torch.save(out, tmp_path / "out.pt")
    same = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(same.logits, out.logits)
    assert torch.equal(same.levels[0].x, out.levels[0].x)
