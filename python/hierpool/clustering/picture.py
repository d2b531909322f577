"""The pooled graph as a picture that can be read with a hundred clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.clustering.report import save_figure
from hierpool.plots import stress_layout

_DRAWN_NEIGHBOURS = 4  # strongest edges of a cluster
_PLACED_NEIGHBOURS = 3  # edges of it that its place depends on
_NAMED = 150  # clusters, at most, that have their number written in them


def draw_pooled_graph(path: Path, sizes: Tensor, weights: Tensor, conductance: Tensor, *, title: str) -> None:
    """Draw clusters as circles whose area is the number of their nodes, joined by their strongest edges.

    A circle's colour is its conductance. An edge is as wide and dark as the root of its weight is large beside that
    of the strongest one, and each cluster's four strongest are drawn. Clusters that are joined by more weight than
    their volumes let expect are placed near each other. Empty clusters are left out.

    Args:
        path: PNG to write.
        sizes: nodes of each cluster, int64 ``[K]``, not all 0.
        weights: of edges between clusters, symmetric float64 ``[K, K]``.
        conductance: of each cluster, float64 ``[K]``; NaN is drawn grey.
        title: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the picture could not be written.
    """
    used = sizes.nonzero().flatten()
    size, weight, leak = sizes[used].double(), weights[used][:, used], conductance[used]
    weight = weight - weight.diagonal().diag()
    radius = (size / size.sum()).sqrt().clamp(min=0.01)
    place = _apart(_places(weight) * (2 * radius.mean()), radius)
    figure = require("matplotlib.figure", "train").Figure(figsize=(10, 9), layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_aspect("equal")
    _draw_edges(axis, place, weight)
    colours = require("matplotlib", "train").colormaps["viridis_r"].with_extremes(bad="0.8")
    circles = [
        require("matplotlib.patches", "train").Circle((x, y), r)
        for (x, y), r in zip(place.tolist(), radius.tolist(), strict=True)
    ]
    collection = require("matplotlib.collections", "train").PatchCollection(
        circles, cmap=colours, edgecolors="0.2", linewidths=0.8, zorder=2
    )
    values = require("numpy", "train").ma.masked_invalid(leak.numpy())
    collection.set_array(values)
    collection.set_clim(0, 1)
    axis.add_collection(collection)
    if len(used) <= _NAMED:
        for (x, y), number, value in zip(place.tolist(), used.tolist(), leak.tolist(), strict=True):
            colour = "white" if value > 0.5 else "black"
            axis.text(x, y, str(number), ha="center", va="center", fontsize=6, color=colour, zorder=3)
    axis.autoscale_view()
    figure.colorbar(
        collection, ax=axis, shrink=0.6, label="conductance: weight that leaves a cluster, of its own"
    )
    axis.set_title(title, fontsize=11)
    save_figure(figure, path)


def _strongest(score: Tensor, count: int) -> Tensor:
    """Pairs ``[2, m]``, each once, that are among the ``count`` highest positive scores of one of their ends."""
    k = score.size(0)
    value, other = score.topk(min(count, k), dim=1)
    row = torch.arange(k)[:, None].expand_as(other)
    kept = (value > 0) & (row != other)
    pairs = torch.stack([row[kept], other[kept]]).sort(0).values
    return pairs.unique(dim=1)


def _places(weight: Tensor) -> Tensor:
    """Positions by the shortest paths along edges that are heavier than expected."""
    volume = weight.sum(1)
    expected = torch.outer(volume, volume).clamp(min=1e-300)
    pairs = _strongest(weight / expected, _PLACED_NEIGHBOURS)
    return stress_layout(pairs, weight.size(0))


def _apart(place: Tensor, radius: Tensor, *, rounds: int = 500) -> Tensor:
    """Move circles away from each other until none touches another, or rounds are over."""
    least = 1.15 * (radius[:, None] + radius) * (1 - torch.eye(len(radius), dtype=torch.float64))
    for _ in range(rounds):
        towards = place[:, None] - place  # [K, K, 2]
        distance = towards.norm(dim=2).clamp(min=1e-9)
        overlap = (least - distance).clamp(min=0)
        if float(overlap.max()) < 1e-3 * float(radius.max()):
            break
        place = place + 0.3 * (overlap / distance)[..., None].mul(towards).sum(1)
    return place


def _draw_edges(axis: Any, place: Tensor, weight: Tensor) -> None:
    pairs = _strongest(weight, _DRAWN_NEIGHBOURS)
    if pairs.size(1) == 0:
        return
    strength = weight[pairs[0], pairs[1]]
    strength = (strength / strength.max()).sqrt()
    lines = require("matplotlib.collections", "train").LineCollection(
        place[pairs.t()].tolist(),
        linewidths=(0.3 + 3.7 * strength).tolist(),
        colors=[(0.35, 0.35, 0.35, 0.25 + 0.55 * value) for value in strength.tolist()],
        zorder=1,
    )
    axis.add_collection(lines)
