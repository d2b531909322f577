"""Pictures of a training run: learned clusters on graphs, and curves. Needs matplotlib, imported when called."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import Graph, collate
from hierpool.models import DiffPoolNet
from hierpool.training.files import write_atomic

# Atoms of MUTAG by node label, as its authors number them.
_NODE_NAMES = {"MUTAG": ("C", "N", "O", "F", "I", "Cl", "Br")}


def stress_layout(edge_index: Tensor, num_nodes: int, *, steps: int = 300) -> Tensor:
    r"""Place the nodes of a graph so that distances on paper are close to distances in the graph.

    Minimises the stress :math:`\sum_{i<j} d_{ij}^{-2} (|p_i - p_j| - d_{ij})^2`, :math:`d` the number of edges
    between two nodes, by majorisation from a circle. Nodes that no path joins count as one further apart than the
    longest path. The same graph always gives the same picture.

    Args:
        edge_index: int64 ``[2, E]``.
        num_nodes: n.
        steps: of the majorisation.

    Returns:
        Positions, float64 ``[n, 2]``.

    Source: Gansner, Koren, North, "Graph drawing by stress majorization", GD 2004.
    """
    distance = _path_lengths(edge_index, num_nodes)
    angle = torch.arange(num_nodes, dtype=torch.float64) * (2 * torch.pi / max(num_nodes, 1))
    place = torch.stack([angle.cos(), angle.sin()], 1) * max(num_nodes, 1) / 4
    if num_nodes < 2:
        return place
    eye = torch.eye(num_nodes, dtype=torch.float64)
    weight = (1 - eye) / (distance + eye).square()
    laplacian = weight.sum(1).diag() - weight
    # Adding a constant fixes the centre, which the stress leaves free.
    solve = torch.linalg.inv(laplacian + 1.0 / num_nodes)
    for _ in range(steps):
        apart = torch.cdist(place, place).clamp(min=1e-9)
        pull = weight * distance / apart * (1 - eye)
        place = solve @ ((pull.sum(1).diag() - pull) @ place)
    return place


def _path_lengths(edge_index: Tensor, num_nodes: int) -> Tensor:
    """Edges on the shortest path between every two nodes, float64 ``[n, n]``."""
    step = torch.zeros(num_nodes, num_nodes)
    step[edge_index[0], edge_index[1]] = 1.0
    step = torch.maximum(step, step.t())
    reached = torch.eye(num_nodes)
    distance = torch.zeros(num_nodes, num_nodes, dtype=torch.float64)
    longest = 0
    while True:
        further = ((reached + reached @ step) > 0).float()
        if torch.equal(further, reached):
            break
        longest += 1
        distance[(further > reached)] = longest
        reached = further
    distance[reached == 0] = longest + 1
    return distance


def draw_clusters(
    path: str | Path, model: DiffPoolNet, graphs: Sequence[Graph], *, dataset: str = "", title: str = ""
) -> None:
    """Draw graphs with their nodes coloured by cluster, and beside each what it was pooled to.

    A node has the colour of its likeliest cluster, the paler the less sure. A cluster of the coarsened graph is as
    large as the nodes in it are many (its size, the column sum of S), and edges are as wide as their weight.

    Args:
        path: PNG to write.
        model: in whose first pooling; put into evaluation mode.
        graphs: to draw, at least one.
        dataset: name, for the names of nodes where they are known.
        title: of the picture.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the model pools with another library's operator, which does not tell its clusters.
        OSError: the picture could not be written.
    """
    figure_module = require("matplotlib.figure", "train")
    batch = collate(graphs)
    model.eval()
    with torch.no_grad():
        out = model(batch.x, batch.adj, batch.mask)
    record = out.levels[0].record
    if record is None:
        raise ValueError("model must pool with pool='hierpool' for its clusters to be known, got another")
    per_row = min(len(graphs), 3)
    rows = -(-len(graphs) // per_row)
    figure = figure_module.Figure(figsize=(6.4 * per_row, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * per_row, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
        axis.margins(0.15)
    predicted = out.logits.argmax(-1).tolist()
    for i, graph in enumerate(graphs):
        s = record.s[i, : graph.x.size(0)].double()
        place = stress_layout(graph.edge_index, graph.x.size(0))
        _draw_graph(axes[2 * i], graph, s, place, _NODE_NAMES.get(dataset))
        axes[2 * i].set_title(f"class {graph.y}, predicted {predicted[i]}", fontsize=9)
        _draw_pooled(axes[2 * i + 1], s.sum(0), record.adj[i].double())
        axes[2 * i + 1].set_title(f"{graph.x.size(0)} nodes pooled to {s.size(1)} clusters", fontsize=9)
    if title:
        figure.suptitle(title)
    _save(figure, path)


def _colour(cluster: int, strength: float) -> tuple[float, float, float]:
    """A colour per cluster, mixed with white where the assignment is not sure."""
    colours = require("matplotlib", "train").colormaps["tab20" if cluster >= 10 else "tab10"].colors
    keep = 0.25 + 0.75 * strength
    red, green, blue = (1 - keep * (1 - part) for part in colours[cluster % len(colours)])
    return red, green, blue


def _draw_graph(axis: Any, graph: Graph, s: Tensor, place: Tensor, names: tuple[str, ...] | None) -> None:
    for i, j in graph.edge_index.t().tolist():
        if i < j:
            axis.plot(*place[[i, j]].t().tolist(), color="0.6", linewidth=1.2, zorder=1)
    sure, cluster = s.max(1)
    colours = [_colour(c, p) for c, p in zip(cluster.tolist(), sure.tolist(), strict=True)]
    axis.scatter(*place.t().tolist(), s=110, c=colours, edgecolors="0.25", linewidths=0.8, zorder=2)
    if names is not None and graph.x.size(1) == len(names):
        for (x, y), label in zip(place.tolist(), graph.x.argmax(1).tolist(), strict=True):
            axis.text(x, y, names[label], ha="center", va="center", fontsize=6, zorder=3)


def _draw_pooled(axis: Any, size: Tensor, adj: Tensor) -> None:
    """The coarsened graph on a ring."""
    k = len(size)
    angle = torch.arange(k, dtype=torch.float64) * (2 * torch.pi / k)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    heaviest = max(float(adj.tril(-1).max()), 1e-12)
    for i in range(k):
        for j in range(i):
            width = 6 * float(adj[i, j]) / heaviest
            if width > 0.05:
                axis.plot(*ring[[i, j]].t().tolist(), color="0.6", linewidth=width, zorder=1)
    area = (1600 * size / size.sum()).clamp(min=12).tolist()
    colours = [_colour(cluster, 1.0) for cluster in range(k)]
    axis.scatter(*ring.t().tolist(), s=area, c=colours, edgecolors="0.25", zorder=2)
    axis.set_xlim(-1.5, 1.5)
    axis.set_ylim(-1.5, 1.5)


def draw_curves(path: str | Path, runs: dict[str, Sequence[Sequence[dict[str, float]]]]) -> None:
    """Draw the loss terms and the validation accuracy over epochs, averaged over folds.

    Args:
        path: PNG to write.
        runs: by name, the histories of a run's folds (:class:`hierpool.training.FoldResult`).

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the picture could not be written.
    """
    figure = require("matplotlib.figure", "train").Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    panels = (
        ("task_loss", "cross-entropy on training graphs"),
        ("validation_accuracy", "accuracy on validation graphs"),
        ("link_loss", "link loss"),
        ("entropy_loss", "entropy of the assignment (nats)"),
    )
    for axis, (key, label) in zip(axes, panels, strict=True):
        for name, folds in runs.items():
            epochs = min(len(history) for history in folds)
            values = torch.tensor([[row[key] for row in history[:epochs]] for history in folds])
            steps = range(1, epochs + 1)
            (line,) = axis.plot(steps, values.mean(0).tolist(), label=name)
            if len(folds) > 1:
                low, high = values.quantile(0.1, 0), values.quantile(0.9, 0)
                axis.fill_between(steps, low.tolist(), high.tolist(), alpha=0.15, color=line.get_color())
        axis.set_title(label, fontsize=10)
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[0].legend()
    _save(figure, path)


def _save(figure: Any, path: str | Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomic(path, buffer.getvalue())
