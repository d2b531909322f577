"""Plots of a clustering: the pooled graph, which stays readable with a hundred clusters, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import RaggedGraph, metrics
from hierpool._extras import require
from hierpool.training import plots

_DRAWN_EDGES = 4  # per cluster
_LAYOUT_EDGES = 3  # per cluster
_MAX_NUMBERED = 150  # clusters that show their number


def draw_pooled_graph(path: Path, sizes: Tensor, weights: Tensor, conductance: Tensor, *, title: str) -> None:
    """Draw clusters as circles that are joined by their strongest edges.

    The area of a circle is proportional to the number of nodes, and its colour is the conductance. Each cluster has its
    four strongest edges; their width and darkness grow with the square root of the weight. Clusters whose edges have
    more weight than their volumes predict are close to each other. Empty clusters are omitted.

    Args:
        path: path of the PNG file.
        sizes: number of nodes of each cluster, int64 ``[K]``, not all 0.
        weights: weights between clusters, symmetric float64 ``[K, K]``.
        conductance: conductance of each cluster, float64 ``[K]``; NaN is drawn grey.
        title: title of the plot.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file could not be written.
    """
    used, radius, position, weight = place_clusters(sizes, weights)
    value = conductance[used]
    figure = require("matplotlib.figure", "train").Figure(figsize=(10, 9), layout="constrained")
    axis = figure.subplots()
    axis.set_axis_off()
    axis.set_aspect("equal")
    _draw_edges(axis, position, weight)
    colours = require("matplotlib", "train").colormaps["viridis_r"].with_extremes(bad="0.8")
    circles = [
        require("matplotlib.patches", "train").Circle((x, y), r)
        for (x, y), r in zip(position.tolist(), radius.tolist(), strict=True)
    ]
    collection = require("matplotlib.collections", "train").PatchCollection(
        circles, cmap=colours, edgecolors="0.2", linewidths=0.8, zorder=2
    )
    collection.set_array(require("numpy", "train").ma.masked_invalid(value.numpy()))
    collection.set_clim(0, 1)
    axis.add_collection(collection)
    if len(used) <= _MAX_NUMBERED:
        for (x, y), number, phi in zip(position.tolist(), used.tolist(), value.tolist(), strict=True):
            colour = "white" if phi > 0.5 else "black"
            axis.text(x, y, str(number), ha="center", va="center", fontsize=6, color=colour, zorder=3)
    axis.autoscale_view()
    figure.colorbar(
        collection, ax=axis, shrink=0.6, label="conductance: fraction of the weight that leaves a cluster"
    )
    axis.set_title(title, fontsize=11)
    plots.save_figure(figure, path)


def draw_curves(path: Path, name: str, history: Sequence[dict[str, float]]) -> None:
    """Draw the loss, its terms and the effective number of clusters over steps.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file could not be written.
    """
    plots.draw_curves(path, {name: [history]}, titles_of(history), "step")


def titles_of(history: Sequence[dict[str, float]]) -> dict[str, str]:
    """The recorded values that are drawn, and their titles."""
    recorded = history[0] if history else {}
    return {key: key.replace("_", " ") for key in recorded if key not in ("step", "epoch", "seconds")}


def place_clusters(sizes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The clusters that have nodes, their radii, their positions, and the weights between them."""
    used = sizes.nonzero().flatten()
    size, weight = sizes[used].double(), weights[used][:, used]
    weight = weight - weight.diagonal().diag()
    radius = (size / size.sum()).sqrt().clamp(min=0.01)
    return used, radius, plots.separate(_positions(weight) * (2 * radius.mean()), radius), weight


def strongest_edges(weight: Tensor) -> Tensor:
    """The edges that are drawn, ``[2, m]``: the strongest of each cluster."""
    return _strongest(weight, _DRAWN_EDGES)


def conductance_of(graph: RaggedGraph, clusters: Tensor, k: int) -> Tensor:
    """The conductance of each of ``k`` clusters, float64; NaN for empty ones."""
    found = torch.full((k,), float("nan"), dtype=torch.float64)
    known = metrics.conductance(graph, clusters)  # the last clusters may be empty
    found[: len(known)] = known
    return found


def _strongest(score: Tensor, count: int) -> Tensor:
    """Pairs of clusters ``[2, m]`` that are among the ``count`` highest positive scores of one of the two."""
    k = score.size(0)
    value, other = score.topk(min(count, k), dim=1)
    row = torch.arange(k)[:, None].expand_as(other)
    positive = (value > 0) & (row != other)
    pairs = torch.stack([row[positive], other[positive]]).sort(0).values
    return pairs.unique(dim=1)


def _positions(weight: Tensor) -> Tensor:
    """A layout by shortest paths along the edges whose weight most exceeds the expected weight."""
    volume = weight.sum(1)
    expected = torch.outer(volume, volume).clamp(min=1e-300)
    pairs = _strongest(weight / expected, _LAYOUT_EDGES)
    return plots.stress_layout(pairs, weight.size(0))


def _draw_edges(axis: Any, position: Tensor, weight: Tensor) -> None:
    pairs = strongest_edges(weight)
    if pairs.size(1) == 0:
        return
    strength = weight[pairs[0], pairs[1]]
    strength = (strength / strength.max()).sqrt()
    lines = require("matplotlib.collections", "train").LineCollection(
        position[pairs.t()].tolist(),
        linewidths=(0.3 + 3.7 * strength).tolist(),
        colors=[(0.35, 0.35, 0.35, 0.25 + 0.55 * value) for value in strength.tolist()],
        zorder=1,
    )
    axis.add_collection(lines)
