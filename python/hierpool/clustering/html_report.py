"""``report.html`` of a clustering: the pooled graph, sizes and quality of clusters, known labels, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import metrics
from hierpool.clustering import plots
from hierpool.data import LargeGraph
from hierpool.training import html
from hierpool.training.html import Choice, Panel

_MAX_LABELS = 200  # columns of the table of labels


def pooled_graph(
    sizes: Tensor, weights: Tensor, conductance: Tensor, mean_probability: Tensor
) -> html.Figure:
    """Clusters, joined by their strongest edges, in the layout of ``pooled.png``."""
    used, radius, position, weight = plots.place_clusters(sizes, weights)
    edges = plots.strongest_edges(weight)
    strength = weight[edges[0], edges[1]]
    width = 0.5 + 5 * (strength / strength.max()).sqrt() if len(strength) else strength
    hover = [
        f"cluster {c}<br>{n} nodes<br>conductance {phi:.3f}<br>mean probability {p:.3f}"
        for c, n, phi, p in zip(
            used.tolist(),
            sizes[used].tolist(),
            conductance[used].tolist(),
            mean_probability[used].tolist(),
            strict=True,
        )
    ]
    value = [None if phi != phi else round(phi, 4) for phi in conductance[used].tolist()]
    marker = {
        "size": (60 * radius / radius.max()).clamp(min=8).tolist(), "color": value, "colorscale": "Viridis",
        "reversescale": True, "cmin": 0, "cmax": 1, "line": {"width": 1, "color": "#333"},
        "colorbar": {"title": {"text": "conductance"}, "thickness": 12},
    }  # fmt: skip
    figure = html.network(position, edges, width, marker, hover, "Pooled graph")
    figure["layout"]["height"] = 560
    return figure


def _sizes(sizes: Tensor) -> html.Figure:
    ordered, cluster = sizes.sort(descending=True)
    trace = {
        "type": "bar", "y": ordered.tolist(), "text": [f"cluster {c}" for c in cluster.tolist()],
        "textposition": "none", "hovertemplate": "%{text}: %{y} nodes<extra></extra>",
        "marker": {"color": html.PALETTE[0]},
    }  # fmt: skip
    return {"data": [trace], "layout": html.layout("Nodes of each cluster, largest first")}


def report(
    path: Path,
    data: LargeGraph,
    clusters: Tensor,
    probabilities: Tensor,
    k: int,
    history: Sequence[dict[str, float]],
    facts: Sequence[str],
    command: str,
) -> Path:
    """Write the page.

    Args:
        path: path of the HTML file.
        data: the graph.
        clusters: most probable clusters, int64 ``[N]``.
        probabilities: probabilities of these clusters, ``[N]``.
        k: number of clusters.
        history: rows of the training.
        facts: lines under the title.
        command: the command that repeats the run.

    Raises:
        ImportError: plotly is not installed.
        OSError: the file could not be written; an existing file is unchanged.
    """
    sizes = clusters.bincount(minlength=k)
    weights = metrics.pooled_weights(data.graph, clusters, k)
    conductance = plots.conductance_of(data.graph, clusters, k)
    mean = torch.zeros(k, dtype=torch.float64).index_add_(0, clusters, probabilities.double()) / sizes.clamp(
        min=1
    )
    text = (
        "The area of a cluster is its number of nodes. Point at it for details; drag to move, scroll to zoom."
    )
    panels = [
        Panel("Clusters", text, [Choice("", [pooled_graph(sizes, weights, conductance, mean)])]),
        Panel("Sizes", "", [Choice("", [_sizes(sizes)])]),
    ]
    if data.labels is not None and int(data.labels.max()) < _MAX_LABELS:
        known = data.labels >= 0
        classes = int(data.labels.max()) + 1
        counts = (
            (clusters[known] * classes + data.labels[known]).bincount(minlength=k * classes).view(k, classes)
        )
        figure = html.matrix(counts, "Nodes by cluster and known label", "cluster", "label")
        panels.append(Panel("Known labels", "Colours are shares of the cluster.", [Choice("", [figure])]))
    titles: dict[str, Any] = plots.titles_of(history)
    if titles:
        panels.append(
            Panel("Training", "Values of each step.", [Choice("", html.curves([history], titles, "step"))])
        )
    return html.write_report(path, f"{data.name}: clusters", facts, panels, command)
