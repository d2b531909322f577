"""Plots of a training run: layout, clusters and curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hierpool.data import Graph, GraphDataset
from hierpool.models import DiffPoolNet, PoolNet
from hierpool.training.plots import (
    draw_clusters,
    draw_curves,
    of_each_class,
    place_supernodes,
    separate,
    stress_layout,
)


def make_path(n: int) -> Graph:
    forward = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
    return Graph(torch.eye(7)[torch.arange(n) % 7], torch.cat([forward, forward.flip(0)], 1), 1)


def test_a_path_is_drawn_straight_with_unit_steps() -> None:
    position = stress_layout(make_path(6).edge_index, 6, steps=2000)
    expected = (torch.arange(6)[:, None] - torch.arange(6)).abs().double()
    torch.testing.assert_close(torch.cdist(position, position), expected, rtol=0, atol=0.05)
    assert torch.equal(position, stress_layout(make_path(6).edge_index, 6, steps=2000))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_graphs_without_edges_are_spread_out(n: int) -> None:
    position = stress_layout(torch.zeros(2, 0, dtype=torch.int64), n)
    assert position.shape == (n, 2)
    assert position.isfinite().all()
    assert torch.pdist(position).gt(0.3).all()


def test_circles_areseparated() -> None:
    generator = torch.Generator().manual_seed(0)
    position = torch.rand(100, 2, generator=generator, dtype=torch.float64)
    radius = 0.05 + 0.1 * torch.rand(100, generator=generator, dtype=torch.float64)
    moved = separate(position, radius)
    gap = torch.cdist(moved, moved) - radius[:, None] - radius
    assert gap[~torch.eye(100, dtype=torch.bool)].min() > 0
    assert torch.equal(separate(position * 100, radius), position * 100)  # no circles overlap


def test_supernodes_are_at_their_nodes() -> None:
    position = stress_layout(make_path(9).edge_index, 9)
    s = torch.eye(4, dtype=torch.float64)[torch.tensor([0, 0, 0, 2, 2, 2, 3, 3, 3])]
    used, place, radius = place_supernodes(s, position)
    assert used.tolist() == [0, 2, 3]  # cluster 1 has no node
    torch.testing.assert_close(place, position[[1, 4, 7]], rtol=0, atol=0.1)
    assert (radius == radius[0]).all()


def test_supernodes_of_the_same_nodes_lie_side_by_side() -> None:
    _, place, radius = place_supernodes(
        torch.full((9, 3), 1 / 3, dtype=torch.float64), torch.rand(9, 2).double()
    )
    assert torch.pdist(place).min() > 2 * radius.max()


def test_pictures_show_graphs_of_every_class() -> None:
    graphs = tuple(replace(make_path(3), y=y) for y in (2, 0, 0, 0, 1, 1))
    data = GraphDataset("paths", graphs, 3, "one-hot", "", "")
    shown = of_each_class(data, torch.arange(6), 4)
    assert [graph.y for graph in shown] == [0, 1, 2, 0]
    assert shown[0] is graphs[1]
    assert len(of_each_class(data, torch.arange(1, 4), 6)) == 3


def test_clusters_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    net = DiffPoolNet(7, 2, k=12, hidden_channels=4, embedding_channels=4)
    file = tmp_path / "clusters.png"
    draw_clusters(file, net, [make_path(n) for n in (5, 1, 9, 3)], dataset="MUTAG", title="paths")
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 10_000
    assert not net.training


def test_clusters_of_another_operator_are_unknown(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    pytest.importorskip("torch_geometric", reason="torch_geometric (extra: pyg) is not installed")
    net = DiffPoolNet(7, 2, k=3, hidden_channels=4, embedding_channels=4, pool="pyg")
    with pytest.raises(ValueError, match="model must have pool='hierpool'"):
        draw_clusters(tmp_path / "clusters.png", net, [make_path(5)])
    assert not list(tmp_path.iterdir())


def test_curves_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    keys = ("task_loss", "validation_accuracy", "link_loss", "entropy_loss")
    folds = [[dict.fromkeys(keys, 1.0 / epoch + fold) for epoch in (1, 2, 3)] for fold in (0, 1)]
    draw_curves(tmp_path / "curves.png", {"one": folds, "other": folds[:1]})
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("pooler", ["topk", "kmis", "mincut"])
def test_supernodes_are_drawn(tmp_path: Path, pooler: str) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    net = PoolNet(7, 2, pooler, max_nodes=9, hidden_channels=4)
    draw_clusters(tmp_path / "clusters.png", net, [make_path(5), make_path(1), make_path(9)])
    assert (tmp_path / "clusters.png").read_bytes().startswith(b"\x89PNG")
