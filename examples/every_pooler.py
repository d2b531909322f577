"""One graph, pooled by every pooler that keeps or merges nodes, in one picture.

Poolers with parameters have the weights they are made with: trained, they select others.

    python examples/every_pooler.py --out poolers.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.nn import HARD_POOLERS, HardPoolingOutput, get_pooler
from hierpool.training.plots import save_figure

PER_ROW = 4


def points(count: int = 60, seed: int = 0) -> tuple[Tensor, RaggedGraph]:
    """Points in the plane, ``[N, 2]``, each joined with the four that are nearest."""
    position = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    nearest = torch.cdist(position, position).topk(5, largest=False).indices[:, 1:]
    ends = torch.stack([torch.arange(count).repeat_interleave(4), nearest.reshape(-1)])
    ends = torch.cat([ends, ends.flip(0)], 1).unique(dim=1)
    return position, RaggedGraph.from_edge_index(ends, count)


def pooled(name: str, position: Tensor, graph: RaggedGraph) -> HardPoolingOutput:
    """The graph, whose features are the positions, pooled by the pooler of this name."""
    torch.manual_seed(0)
    with torch.no_grad():
        out: HardPoolingOutput = get_pooler(name, in_channels=2)(position - 0.5, graph)
    return out


def draw(axis: Any, title: str, position: Tensor, graph: RaggedGraph, out: HardPoolingOutput) -> None:
    """The graph in grey, its nodes in the colour of their supernodes, and the coarsened graph over it."""
    share = out.so.to_dense().abs()
    mine = share.argmax(1)
    stays = share.sum(1) > 0
    place = share.T @ position / share.sum(0)[:, None].clamp(min=1e-12)
    for (i, j), colour, width in [
        *((e, "0.85", 0.8) for e in graph.to_edge_index()[0].T.tolist()),
        *((e, "0.25", 1.4) for e in out.edge_index.T.tolist()),
    ]:
        ends = place if colour == "0.25" else position
        axis.plot(*ends[[i, j]].T.tolist(), color=colour, linewidth=width, zorder=1)
    axis.scatter(*position[~stays].T.tolist(), s=14, color="0.75", zorder=2)
    colours = (mine[stays] * 7 % 20).tolist()
    axis.scatter(*position[stays].T.tolist(), s=22, c=colours, cmap="tab20", vmin=0, vmax=19, zorder=3)
    axis.scatter(*place.T.tolist(), s=60, facecolors="none", edgecolors="0.1", zorder=4)
    axis.set_title(f"{title}: {graph.num_nodes} to {out.so.num_clusters} nodes", fontsize=10)
    axis.set_axis_off()
    axis.set_aspect("equal")


def main() -> None:
    """Draw the picture."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("poolers.png"), help="picture to write")
    parser.add_argument("--nodes", type=int, default=60, help="points of the graph, at least 5 (default: 60)")
    args = parser.parse_args()
    if args.nodes < 5:
        parser.error(f"--nodes must be at least 5, got {args.nodes}")
    position, graph = points(args.nodes)
    names = sorted(HARD_POOLERS)
    rows = -(-len(names) // PER_ROW)
    figure = Figure(figsize=(3.2 * PER_ROW, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, PER_ROW, squeeze=False).flatten()
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, names, strict=False):
        draw(axis, f"{HARD_POOLERS[name].__name__} ({name})", position, graph, pooled(name, position, graph))
    save_figure(figure, args.out)
    print(f"written: {args.out}")


if __name__ == "__main__":
    main()
