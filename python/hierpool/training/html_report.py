"""``report.html`` of a training run: curves, confusion matrix, and the learned clusters of some graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool.data import Graph, GraphDataset, Split
from hierpool.nn import HardPooling, Precoarsening
from hierpool.training import html, plots
from hierpool.training.config import TrainConfig
from hierpool.training.html import Choice, Panel
from hierpool.training.loop import FoldResult, Net, make_loader

GRAPHS = 8  # that are shown
_HELP = "Point at a node for its cluster and weight; drag to move, scroll to zoom."


@torch.no_grad()
def confusion(
    config: TrainConfig, dataset: GraphDataset, splits: Sequence[Split], results: Sequence[FoldResult]
) -> Tensor:
    """Counts of the test graphs of all folds by class and predicted class, int64 ``[classes, classes]``."""
    counts = torch.zeros(dataset.num_classes, dataset.num_classes, dtype=torch.int64)
    for split, result in zip(splits, results, strict=True):
        data = dataset
        if config.precoarsen:
            pooler = result.model.pools[0]
            assert isinstance(pooler, HardPooling)
            data = Precoarsening(pooler, config.levels)(dataset)
        result.model.eval()
        for batch in make_loader(config, data, split.test).epoch(0):
            predicted = result.model(*batch.inputs).logits.argmax(-1)
            counts += (
                (batch.y * dataset.num_classes + predicted).bincount(minlength=counts.numel()).view_as(counts)
            )
    return counts


def _graph(graph: Graph, s: Tensor, position: Tensor, names: Sequence[str] | None, title: str) -> html.Figure:
    share, cluster = s.max(1)
    known = names is not None and graph.x.size(1) == len(names)
    atoms = [f" ({names[i]})" for i in graph.x.argmax(1).tolist()] if names and known else [""] * len(s)
    hover = [
        f"node {i}{atom}<br>" + (f"cluster {c}<br>weight {w:.3f}" if w > 0 else "dropped")
        for i, (atom, c, w) in enumerate(zip(atoms, cluster.tolist(), share.tolist(), strict=True))
    ]
    colours = [
        html.PALETTE[c % 10] if w > 0 else "#ffffff"
        for c, w in zip(cluster.tolist(), share.tolist(), strict=True)
    ]
    opacity = (0.3 + 0.7 * share).clamp(max=1).tolist()
    marker = {"size": 13, "color": colours, "opacity": opacity, "line": {"width": 1, "color": "#444"}}
    edges = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    return html.network(position, edges, torch.ones(edges.size(1)), marker, hover, title)


def pooled_graph(s: Tensor, adj: Tensor, position: Tensor) -> html.Figure:
    used, place, _ = plots.place_supernodes(s, position)
    size, weight = s.sum(0)[used], (adj + adj.t())[used][:, used] / 2
    edges = weight.triu(1).nonzero().t()
    strength = weight[edges[0], edges[1]]
    kept = strength > 0.01 * strength.max() if len(strength) else strength > 0
    edges, strength = edges[:, kept], strength[kept]
    inside = weight.diagonal().tolist()
    hover = [
        f"cluster {c}<br>size {n:.2f}<br>weight inside {w:.2f}"
        for c, n, w in zip(used.tolist(), size.tolist(), inside, strict=True)
    ]
    marker = {
        "size": (12 + 30 * (size / size.max()).sqrt()).tolist(), "line": {"width": 1, "color": "#444"},
        "color": [html.PALETTE[c % 10] for c in used.tolist()],
    }  # fmt: skip
    width = 1 + 7 * strength / strength.max() if len(strength) else strength
    return html.network(place, edges, width, marker, hover, f"{len(s)} nodes pooled to {len(used)} clusters")


def cluster_panel(model: Net, graphs: Sequence[Graph], dataset: str) -> Panel:
    """The learned clusters of graphs, and the pooled graph beside each."""
    predicted, pooled = plots.first_level(model, graphs)
    names = plots.NODE_NAMES.get(dataset)
    choices = []
    for i, (graph, (s, adj)) in enumerate(zip(graphs, pooled, strict=True)):
        position = plots.stress_layout(graph.edge_index, graph.x.size(0))
        label = f"test graph {i + 1}: {graph.x.size(0)} nodes, class {graph.y}, predicted {predicted[i]}"
        choices.append(
            Choice(label, [_graph(graph, s, position, names, label), pooled_graph(s, adj, position)])
        )
    return Panel("Learned clusters of the first pooling", _HELP, choices)


def report(
    path: Path,
    config: TrainConfig,
    dataset: GraphDataset,
    splits: Sequence[Split],
    results: Sequence[FoldResult],
    facts: Sequence[str],
    command: str,
) -> Path:
    """Write the page.

    Args:
        path: path of the HTML file.
        config: configuration of the run.
        dataset: all graphs.
        splits, results: of every fold.
        facts: lines under the title.
        command: the command that repeats the run.

    Raises:
        ImportError: plotly is not installed.
        OSError: the file could not be written; an existing file is unchanged.
    """
    figures: list[dict[str, Any]] = html.curves([r.history for r in results], plots.CURVES, "epoch")
    panels = [
        Panel("Training", "One line for each fold; the thick one is their mean.", [Choice("", figures)])
    ]
    if len(results) == 1:
        panels = [panels[0]._replace(text="Values of each epoch.")]
    counts = confusion(config, dataset, splits, results)
    title = f"{int(counts.trace())} of {int(counts.sum())} test graphs are classified correctly"
    text = "Numbers of test graphs, of all folds, at the chosen epoch. Colours are shares of the true class."
    panels.append(
        Panel(
            "Confusion matrix", text, [Choice("", [html.matrix(counts, title, "class", "predicted class")])]
        )
    )
    if config.pool == "hierpool":
        graphs = plots.of_each_class(dataset, splits[0].test, GRAPHS)
        panels.append(cluster_panel(results[0].model, graphs, dataset.name))
    return html.write_report(path, f"{dataset.name}: graph classification", facts, panels, command)
