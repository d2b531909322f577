"""The plot of the pooled graph: clusters of all kinds, and its strongest edges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hierpool.clustering.plots import _strongest, draw_pooled_graph


@pytest.mark.parametrize("k", [1, 2, 100])
def test_clusters_of_all_kinds_are_drawn(tmp_path: Path, k: int) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: train) is not installed")
    generator = torch.Generator().manual_seed(k)
    sizes = torch.randint(1, 1000, (k,), generator=generator)
    weights = torch.rand(k, k, generator=generator, dtype=torch.float64)
    weights = weights + weights.t()
    conductance = torch.rand(k, generator=generator, dtype=torch.float64)
    if k > 2:
        sizes[4] = 0  # empty
        weights[7], weights[:, 7] = 0, 0  # without edges
        conductance[7] = torch.nan
    draw_pooled_graph(tmp_path / "pooled.png", sizes, weights, conductance, title="clusters")
    assert (tmp_path / "pooled.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "pooled.png").stat().st_size > 10_000


def test_the_strongest_edges_of_every_cluster_are_chosen_once() -> None:
    score = torch.tensor([[0, 5, 1, 2], [5, 0, 0, 0], [1, 0, 0, 0], [2, 0, 0, 0]]).double()
    assert _strongest(score, 1).t().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert _strongest(torch.zeros(3, 3).double(), 2).shape == (2, 0)
