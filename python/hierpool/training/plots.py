"""Plots of a training run: learned clusters on graphs, and curves. They need matplotlib."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool._extras import require
from hierpool.data import Graph, GraphDataset, Split, collate
from hierpool.nn import HardPoolingOutput, PoolingOutput
from hierpool.training.files import write_atomic
from hierpool.training.loop import FoldResult, Net

CURVES = {
    "task_loss": "cross-entropy on training graphs",
    "validation_accuracy": "accuracy on validation graphs",
    "link_loss": "link loss",
    "entropy_loss": "entropy of the assignment (nats)",
    "pool_loss": "losses of the pooler",
}
# Atoms of MUTAG by node label.
NODE_NAMES = {"MUTAG": ("C", "N", "O", "F", "I", "Cl", "Br")}


def stress_layout(edge_index: Tensor, num_nodes: int, *, steps: int = 300) -> Tensor:
    r"""Compute positions of the nodes of a graph whose distances are close to those in the graph.

    The stress :math:`\sum_{i<j} d_{ij}^{-2} (|p_i - p_j| - d_{ij})^2` is minimised by majorisation, starting from a
    circle. :math:`d_{ij}` is the number of edges on the shortest path between two nodes. Without a path it is one more
    than the longest shortest path. The result is deterministic.

    Args:
        edge_index: node indices, int64 ``[2, E]``.
        num_nodes: number of nodes, n.
        steps: steps of the majorisation.

    Returns:
        Positions, float64 ``[n, 2]``.

    Source: Gansner, Koren, North, "Graph drawing by stress majorization", GD 2004.
    """
    distance = _path_lengths(edge_index, num_nodes)
    angle = torch.arange(num_nodes, dtype=torch.float64) * (2 * torch.pi / max(num_nodes, 1))
    position = torch.stack([angle.cos(), angle.sin()], 1) * max(num_nodes, 1) / 4
    if num_nodes < 2:
        return position
    eye = torch.eye(num_nodes, dtype=torch.float64)
    weight = (1 - eye) / (distance + eye).square()
    laplacian = weight.sum(1).diag() - weight
    # Adding a constant fixes the centre, which the stress leaves free.
    solve = torch.linalg.inv(laplacian + 1.0 / num_nodes)
    for _ in range(steps):
        length = torch.cdist(position, position).clamp(min=1e-9)
        pull = weight * distance / length * (1 - eye)
        position = solve @ ((pull.sum(1).diag() - pull) @ position)
    return position


def _path_lengths(edge_index: Tensor, num_nodes: int) -> Tensor:
    """Length of the shortest path between every two nodes, float64 ``[n, n]``."""
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
    path: str | Path, model: Net, graphs: Sequence[Graph], *, dataset: str = "", title: str = ""
) -> None:
    """Draw graphs with their nodes coloured by cluster of the first pooling, and the pooled graph beside each.

    A node has the colour of its most probable cluster; a lower probability gives a paler colour, and a node that is
    dropped is white. In the pooled graph, a cluster is at the mean place of its nodes, its area is proportional to its
    size, the column sum of S, and the width of an edge to its weight. Clusters without nodes are omitted.

    Args:
        path: path of the PNG file.
        model: network to draw; it is set to evaluation mode.
        graphs: at least one graph.
        dataset: name of the dataset; nodes of ``"MUTAG"`` are named by their atoms.
        title: title of the plot.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the model uses the pooling operator of another library, which does not return its clusters.
        OSError: the file could not be written.
    """
    figure_module = require("matplotlib.figure", "train")
    predicted, pooled = first_level(model, graphs)
    per_row = min(len(graphs), 3)
    rows = -(-len(graphs) // per_row)
    figure = figure_module.Figure(figsize=(6.4 * per_row, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, 2 * per_row, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
        axis.margins(0.15)
    for i, graph in enumerate(graphs):
        s, adj = pooled[i]
        position = stress_layout(graph.edge_index, graph.x.size(0))
        _draw_graph(axes[2 * i], graph, s, position, NODE_NAMES.get(dataset))
        axes[2 * i].set_title(f"class {graph.y}, predicted {predicted[i]}", fontsize=9)
        supernodes = place_supernodes(s, position)
        _draw_pooled(axes[2 * i + 1], supernodes, adj)
        axes[2 * i + 1].set_title(f"{len(s)} nodes pooled to {len(supernodes[0])} clusters", fontsize=9)
    if title:
        figure.suptitle(title)
    save_figure(figure, path)


@torch.no_grad()
def first_level(model: Net, graphs: Sequence[Graph]) -> tuple[list[int], list[tuple[Tensor, Tensor]]]:
    """The predicted class of each graph, and the assignment and pooled adjacency of its first pooling.

    Raises:
        ValueError: the model uses the pooling operator of another library, which does not return its clusters.
    """
    batch = collate(graphs)
    model.eval()
    out = model(batch.x, batch.adj, batch.mask)
    return out.logits.argmax(-1).tolist(), _first_pooling(
        out.levels[0], [graph.x.size(0) for graph in graphs]
    )


def _first_pooling(
    level: PoolingOutput | HardPoolingOutput, sizes: Sequence[int]
) -> list[tuple[Tensor, Tensor]]:
    """The assignment ``[n, K]`` and the pooled adjacency ``[K, K]`` of each graph, float64."""
    if isinstance(level, HardPoolingOutput):
        s, adj = (level.so.to_dense() != 0).double(), level.graph.to_dense().double()
        first = [0, *itertools.accumulate(sizes)]
        counts = level.so.cluster_ptr.tolist()
        return [
            (s[first[b] : first[b + 1], low:high], adj[b, : high - low, : high - low])
            for b, (low, high) in enumerate(itertools.pairwise(counts))
        ]
    record = level.record
    if record is None:
        raise ValueError(
            "model must have pool='hierpool', since other operators do not return their clusters"
        )
    s, adj = record.s.detach().double(), record.adj.detach().double()  # computed when they are read
    return [(s[b, :n], adj[b]) for b, n in enumerate(sizes)]


def _colour(cluster: int, probability: float) -> tuple[float, float, float]:
    """The colour of a cluster, mixed with white where the probability is low."""
    colours = require("matplotlib", "train").colormaps["tab20" if cluster >= 10 else "tab10"].colors
    opacity = 0.25 + 0.75 * probability if probability else 0.0
    red, green, blue = (1 - opacity * (1 - part) for part in colours[cluster % len(colours)])
    return red, green, blue


def _draw_graph(axis: Any, graph: Graph, s: Tensor, position: Tensor, names: tuple[str, ...] | None) -> None:
    for i, j in graph.edge_index.t().tolist():
        if i < j:
            axis.plot(*position[[i, j]].t().tolist(), color="0.6", linewidth=1.2, zorder=1)
    probability, cluster = s.max(1)
    colours = [_colour(c, p) for c, p in zip(cluster.tolist(), probability.tolist(), strict=True)]
    axis.scatter(*position.t().tolist(), s=110, c=colours, edgecolors="0.25", linewidths=0.8, zorder=2)
    if names is not None and graph.x.size(1) == len(names):
        for (x, y), label in zip(position.tolist(), graph.x.argmax(1).tolist(), strict=True):
            axis.text(x, y, names[label], ha="center", va="center", fontsize=6, zorder=3)


def place_supernodes(s: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where the supernodes of a graph are drawn: at the mean place of their nodes, moved apart where they overlap.

    Args:
        s: assignment, float64 ``[n, K]``.
        position: places of the nodes, float64 ``[n, 2]``, such as those of :func:`stress_layout`.

    Returns:
        Indices of the supernodes that have nodes, int64 ``[k]``; their places, float64 ``[k, 2]``, and their radii,
        float64 ``[k]``, whose square is proportional to the sum of the column of S.
    """
    size = s.sum(0)
    used = (size > 1e-3).nonzero().flatten()
    size = size[used]
    radius = 0.42 * size.sqrt()
    # A little way along a ring tells those apart that have the same nodes.
    angle = torch.arange(len(used), dtype=torch.float64) * (2 * torch.pi / max(len(used), 1))
    place = s[:, used].t() @ position / size[:, None] + 1e-2 * torch.stack([angle.cos(), angle.sin()], 1)
    return used, separate(place, radius), radius


def separate(position: Tensor, radius: Tensor, *, rounds: int = 500) -> Tensor:
    """Move circles away from each other until none overlap, for at most ``rounds`` rounds."""
    min_distance = 1.15 * (radius[:, None] + radius) * (1 - torch.eye(len(radius), dtype=torch.float64))
    for _ in range(rounds if len(radius) > 1 else 0):
        offset = position[:, None] - position  # [K, K, 2]
        distance = offset.norm(dim=2).clamp(min=1e-9)
        overlap = (min_distance - distance).clamp(min=0)
        if float(overlap.max()) < 1e-3 * float(radius.max()):
            break
        push = (overlap / distance)[..., None].mul(offset).sum(1)
        # k circles in one place need a disc of about the root of k diameters; by their sum they would end far beyond.
        position = position + 0.5 * push / (overlap > 0).sum(1).clamp(min=1).sqrt()[:, None]
    return position


def _draw_pooled(axis: Any, supernodes: tuple[Tensor, Tensor, Tensor], adj: Tensor) -> None:
    used, place, radius = supernodes
    weight = (adj + adj.t())[used][:, used]
    heaviest = max(float(weight.triu(1).max()), 1e-12) if len(used) else 1.0
    for i, j in itertools.combinations(range(len(used)), 2):
        width = 6 * float(weight[i, j]) / heaviest
        if width > 0.05:
            axis.plot(*place[[i, j]].t().tolist(), color="0.6", linewidth=width, zorder=1)
    circle = require("matplotlib.patches", "train").Circle
    for c, xy, r in zip(used.tolist(), place.tolist(), radius.tolist(), strict=True):
        axis.add_patch(circle(xy, r, facecolor=_colour(c, 1.0), edgecolor="0.25", zorder=2))
    axis.autoscale_view()


def draw_curves(
    path: str | Path,
    runs: dict[str, Sequence[Sequence[dict[str, float]]]],
    curves: dict[str, str] = CURVES,
    step: str = "epoch",
) -> None:
    """Draw the recorded values over the steps of runs: means over folds, and the 10 to 90 % range.

    Args:
        path: path of the PNG file.
        runs: for each run, by name, the history of every fold (:class:`hierpool.training.FoldResult`).
        curves: keys of the recorded values and titles of their panels.
        step: label of the horizontal axis.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: the file could not be written.
    """
    recorded = {key for folds in runs.values() for history in folds for row in history for key in row}
    drawn = {key: title for key, title in curves.items() if key in recorded}
    figure = require("matplotlib.figure", "train").Figure(figsize=(11, 7), layout="constrained")
    axes = figure.subplots(2, 2).flatten()
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    for axis, (key, title) in zip(axes, drawn.items(), strict=False):
        for name, folds in runs.items():
            length = min(len(history) for history in folds)
            values = torch.tensor([[row[key] for row in history[:length]] for history in folds])
            steps = range(1, length + 1)
            (line,) = axis.plot(steps, values.mean(0).tolist(), label=name)
            if len(folds) > 1:
                low, high = values.quantile(0.1, 0), values.quantile(0.9, 0)
                axis.fill_between(steps, low.tolist(), high.tolist(), alpha=0.15, color=line.get_color())
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(step)
        axis.grid(alpha=0.3)
    axes[0].legend()
    save_figure(figure, path)


def draw_run(
    folder: Path, dataset: GraphDataset, split: Split, runs: dict[str, list[FoldResult]], *, title: str = ""
) -> list[Path]:
    """Draw the curves of runs, and the clusters of test graphs of a run with hierpool's operator.

    Args:
        folder: folder of the files.
        dataset: all graphs.
        split: split of the first fold.
        runs: for each run, by the value of ``pool``, the results of every fold.
        title: title of the plot of clusters.

    Returns:
        The paths of the files.
    """
    curves, clusters = folder / "curves.png", folder / "clusters.png"
    draw_curves(curves, {pool: [result.history for result in results] for pool, results in runs.items()})
    if "hierpool" not in runs:
        return [curves]
    graphs = of_each_class(dataset, split.test, 6)
    draw_clusters(clusters, runs["hierpool"][0].model, graphs, dataset=dataset.name, title=title)
    return [curves, clusters]


def of_each_class(dataset: GraphDataset, indices: Tensor, count: int) -> list[Graph]:
    """``count`` of the graphs with these indices, or all: the first of every class, then the second, and so on."""
    rank: dict[int, int] = {}
    turns = []
    for graph in dataset.select(indices):
        rank[graph.y] = rank.get(graph.y, -1) + 1
        turns.append((rank[graph.y], graph.y, graph))
    return [graph for *_, graph in sorted(turns, key=lambda turn: turn[:2])[:count]]


def save_figure(figure: Any, path: str | Path) -> None:
    """Write a figure as a PNG file, atomically."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    write_atomic(path, buffer.getvalue())
