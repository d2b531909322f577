"""Plots of the results of an experiment, as SVG files. They need matplotlib."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hierpool._extras import require
from hierpool.experiments.comparison import Cell, critical_difference, mean_ranks
from hierpool.experiments.layers import EXTRA
from hierpool.experiments.methods import BASELINES, DIFF, FLAT, METHODS, PAIR, POOLING
from hierpool.experiments.report import Cells, title
from hierpool.training.files import write_atomic

_COLOURS = {BASELINES: "#5f6368", FLAT: "#c58b2b", DIFF: "#0b57d0", POOLING: "#188038", PAIR: "#8ab4f8"}
COSTS = {"seconds_per_epoch": "seconds of an epoch", "parameters": "parameters"}


def _colour(method: str) -> str:
    known = METHODS.get(method)
    return _COLOURS.get(known.group if known else "", "#9aa0a6")


def draw_costs(path: str | Path, cells: Cells, cost: str) -> bool:
    """Accuracy against what a network costs, a panel for each data set; whether there is one.

    Args:
        path: path of the SVG file.
        cells: the cells of a protocol.
        cost: a name of :data:`COSTS`.
    """
    panels: dict[str, dict[str, Cell]] = {}
    for (data, method), cell in cells.items():
        if isinstance(cell, Cell) and getattr(cell, cost):
            panels.setdefault(data, {})[method] = cell
    if not panels:
        return False
    columns = min(len(panels), 2)
    figure = _figure((5 * columns, 3.8 * -(-len(panels) // columns)))
    axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (data, found) in zip(axes, panels.items(), strict=False):
        for method, cell in found.items():
            place = getattr(cell, cost), 100 * cell.mean
            axis.scatter(*place, s=16, color=_colour(method))
            axis.annotate(title(method), place, fontsize=5.5, xytext=(3, 2), textcoords="offset points")
        axis.set_xscale("log")
        axis.margins(x=0.2)
        axis.set_title(data, fontsize=9)
        axis.set_xlabel(COSTS[cost], fontsize=8)
        axis.set_ylabel("accuracy in %", fontsize=8)
        axis.grid(alpha=0.3)
    _save(figure, path)
    return True


def cliques(ranks: Mapping[str, float], distance: float) -> list[tuple[float, float]]:
    """The largest ranges of ranks with at least two methods that differ by less than ``distance``."""
    values = sorted(ranks.values())
    found: list[tuple[float, float]] = []
    for i, low in enumerate(values):
        high = max(value for value in values[i:] if value - low < distance)
        if values.index(low) == i and high > low and not any(high <= last for _, last in found):
            found.append((low, high))
    return found


def draw_ranks(path: str | Path, cells: Cells) -> bool:
    """A critical-difference diagram; whether there are two methods and data sets, which it needs.

    Methods are named at their mean ranks, and bars join those that the test of Nemenyi does not tell apart.

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.
    """
    ranks, datasets = mean_ranks(cells)
    if len(ranks) < 2 or len(datasets) < 2:
        return False
    distance = critical_difference(len(ranks), len(datasets))
    groups = cliques(ranks, distance)
    half = -(-len(ranks) // 2)
    depth = 0.5 * len(groups) + 0.5
    figure = _figure((9, 0.22 * (half + depth) + 1.2))
    axis = figure.subplots()
    low, high = 1.0, float(len(ranks))
    for i, (method, rank) in enumerate(ranks.items()):
        left = i < half
        y = -depth - (i + 1 if left else len(ranks) - i)
        edge = low - 0.02 * (high - low) if left else high + 0.02 * (high - low)
        axis.plot([rank, rank, edge], [0, y, y], color=_colour(method), linewidth=0.8)
        axis.text(
            edge, y, f" {title(method)} {rank:.1f} ", fontsize=7, va="center", ha="right" if left else "left"
        )
    for number, (first, last) in enumerate(groups):
        y = -0.5 * (number + 1)
        axis.plot([first, last], [y, y], color="black", linewidth=2.5, solid_capstyle="butt")
    axis.plot([low, high], [0, 0], color="black", linewidth=0.8)
    step = max(1, round((high - low) / 10))
    for tick in range(1, len(ranks) + 1, step):
        axis.plot([tick, tick], [0, 0.3], color="black", linewidth=0.8)
        axis.text(tick, 0.5, str(tick), fontsize=7, ha="center")
    axis.set_title(
        f"mean rank over {len(datasets)} data sets; critical difference {distance:.1f}", fontsize=8
    )
    axis.set_axis_off()
    _save(figure, path)
    return True


def draw_all(folder: Path, cells: Cells, prefix: str = "") -> list[Path]:
    """Draw the plots that the cells allow; the files."""
    files = {folder / f"{prefix}{name.replace('_', '-')}.svg": name for name in COSTS}
    drawn = [path for path, cost in files.items() if draw_costs(path, cells, cost)]
    ranks = folder / f"{prefix}ranks.svg"
    return [*drawn, ranks] if draw_ranks(ranks, cells) else drawn


def _figure(size: tuple[float, float]) -> Any:
    return require("matplotlib.figure", EXTRA).Figure(figsize=size, layout="constrained")


def _save(figure: Any, path: str | Path) -> None:
    """Write an SVG file, the same for the same results."""
    buffer = io.BytesIO()
    with require("matplotlib", EXTRA).rc_context({"svg.hashsalt": "hierpool", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    write_atomic(path, buffer.getvalue())
