"""What a pooler does to one graph: clusters that its loss alone finds, or the nodes that it keeps or merges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from examples.every_pooler import draw as draw_hard
from examples.every_pooler import points, pooled
from hierpool import RaggedGraph
from hierpool.nn import HARD_POOLERS, SAGEConv, get_pooler
from hierpool.training.plots import save_figure

STEPS = 150


class Learned(torch.nn.Module):
    """A layer of message passing and a soft pooler."""

    def __init__(self, name: str, k: int) -> None:
        super().__init__()
        self.conv = SAGEConv(2, 32)
        self.pool = get_pooler(name, in_channels=[32, 32], k=k)

    def forward(self, x: Tensor, graph: RaggedGraph) -> Any:
        return self.pool(self.conv(x, graph).relu(), graph)


def learn(name: str, position: Tensor, graph: RaggedGraph, k: int = 6) -> Tensor:
    """The assignment that minimises the losses of the pooler, ``[N, K]``."""
    torch.manual_seed(0)
    net = Learned(name, k)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x = position * 4 - 2
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(net(x, graph).loss.values()).backward()
        optimizer.step()
    with torch.no_grad():
        return net(x, graph).so.s


def draw_soft(axes: Any, title: str, position: Tensor, graph: RaggedGraph, s: Tensor) -> None:
    """The nodes in the colours of their clusters, paler where they are undecided, and the pooled graph over them."""
    from matplotlib import colormaps

    left, right = axes
    share, cluster = s.max(1)
    palette = torch.tensor(colormaps["tab10"].colors)
    opacity = share[:, None]
    colour = (1 - opacity * (1 - palette[cluster % 10])).tolist()
    edges = graph.to_edge_index()[0].T.tolist()
    for axis in axes:
        axis.set_axis_off()
        axis.set_aspect("equal")
    for i, j in edges:
        left.plot(*position[[i, j]].T.tolist(), color="0.8", linewidth=0.8, zorder=1)
    left.scatter(*position.T.tolist(), s=40, c=colour, edgecolors="0.4", linewidths=0.4, zorder=2)
    left.set_title(title, fontsize=10)
    size = s.sum(0)
    place = s.T @ position / size[:, None].clamp(min=1e-9)
    weight = s.T @ graph.to_dense()[0].float() @ s
    heaviest = weight.fill_diagonal_(0).max().clamp(min=1e-9)
    for i in range(len(size)):
        for j in range(i):
            width = float(5 * weight[i, j] / heaviest)
            if width > 0.1:
                right.plot(*place[[i, j]].T.tolist(), color="0.6", linewidth=width, zorder=1)
    area = (1500 * size / size.sum()).clamp(min=10).tolist()
    right.scatter(*place.T.tolist(), s=area, c=palette[: len(size)].tolist(), edgecolors="0.2", zorder=2)
    right.set_xlim(left.get_xlim())
    right.set_ylim(left.get_ylim())
    right.set_title(f"{len(position)} nodes pooled to {len(size)} clusters", fontsize=10)


def draw(name: str, path: Path) -> None:
    """Draw the picture of a pooler."""
    from matplotlib.figure import Figure

    position, graph = points()
    if name in HARD_POOLERS:
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        draw_hard(
            figure.subplots(), HARD_POOLERS[name].__name__, position, graph, pooled(name, position, graph)
        )
    else:
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        s = learn(name, position, graph)
        draw_soft(figure.subplots(1, 2), "clusters of its losses alone", position, graph, s)
    save_figure(figure, path)
