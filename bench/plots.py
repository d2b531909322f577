"""SVG plots of a run: speed-up over PyG eager, time against the floor, peak memory. matplotlib is imported to draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.goals import goal_for
from bench.registry import BASELINE, title_of
from bench.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "pyg": "#9aa0a6",
    "pyg-compiled": "#5f6368",
    "tgp": "#c58b2b",
    "hierpool-reference": "#8ab4f8",
    "hierpool": "#0b57d0",
    "hierpool-detected": "#3f83f8",
    "hierpool-directed": "#174ea6",
}


def both_rows(run: Results) -> list[dict]:
    """Measured rows of mode "both"."""
    return [row for row in run.rows if row["status"] == "measured" and row["mode"] == "both"]


def memory_rows(run: Results) -> list[dict]:
    """Rows whose peak memory was measured."""
    return [row for row in both_rows(run) if row.get("peak", {}).get("bytes") is not None]


def candidate_rows(run: Results) -> list[dict]:
    """Rows of mode "both" other than the baseline's own."""
    return [row for row in both_rows(run) if row["provider"] != BASELINE]


Value = Callable[[dict], float]


def grouped(ax: Axes, rows: list[dict], value: Value, base: Value | None = None) -> list[tuple[float, dict]]:
    """One line a row, in groups by workload, first on top, on a log axis: a bar from ``base`` to ``value``, or a dot
    when a length would mean nothing. Returns the height of each row."""
    places: list[tuple[float, dict]] = []
    ticks, labels, y = [], [], 0.0
    for name in dict.fromkeys(row["workload"] for row in rows):
        group = [row for row in rows if row["workload"] == name]
        places += [(y + i, row) for i, row in enumerate(group)]
        ticks.append(y + (len(group) - 1) / 2)
        labels.append(group[0]["title"])
        y += len(group) + 0.8
    for provider in dict.fromkeys(row["provider"] for row in rows):
        heights, mine = zip(
            *((place, row) for place, row in places if row["provider"] == provider), strict=True
        )
        colour, label = COLOURS.get(provider, "#444444"), title_of(provider)
        values = [value(row) for row in mine]
        if base is None:
            ax.plot(values, heights, "o", color=colour, label=label)
        else:
            starts = [base(row) for row in mine]
            widths = [v - s for v, s in zip(values, starts, strict=True)]
            ax.barh(heights, widths, left=starts, height=0.9, color=colour, label=label)
    ax.set_yticks(ticks, labels)
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.use_sticky_edges = False  # keeps a margin left of bars that start at the smallest value
    ax.xaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)
    return places


def draw_speedup(ax: Axes, rows: list[dict]) -> None:
    """Median ratio with its 20th to 80th percentile; a diamond marks a goal."""
    for y, row in grouped(ax, rows, lambda row: row["speedup"]["p50"], lambda row: 1.0):
        s = row["speedup"]
        ax.plot([s["p20"], s["p80"]], [y, y], color="black", linewidth=1)
        goal = goal_for(row["workload"], row["provider"])
        if goal:
            ax.plot(goal.ratio, y, marker="D", color="#d93025", markersize=4)
    ax.axvline(1.0, color="black", linewidth=0.8)
    ax.set_xlabel("times as fast as PyG eager, forward + backward (line: 20 to 80 %, diamond: goal)")


def draw_floor(ax: Axes, rows: list[dict]) -> None:
    """Median time as a bar that starts at the floor."""
    for y, row in grouped(ax, rows, lambda row: row["candidate_ms"]["p50"], lambda row: row["floor"]["ms"]):
        ax.plot([row["floor"]["ms"]] * 2, [y - 0.5, y + 0.5], color="black", linewidth=1.5)
    ax.set_xlabel("ms, forward + backward, from the least time by bytes or flops on this machine (black)")


def draw_memory(ax: Axes, rows: list[dict]) -> None:
    """Peak resident memory beyond the inputs."""
    grouped(ax, rows, lambda row: row["peak"]["bytes"] / 1e6)
    ax.grid(axis="x", color="#dddddd")
    ax.set_xlabel("MB beyond the inputs at the peak of forward + backward")


PLOTS = (
    ("bench-speedup.svg", "Speed-up over PyG eager", candidate_rows, draw_speedup),
    ("bench-floor.svg", "Time against the floor", both_rows, draw_floor),
    ("bench-memory.svg", "Peak memory", memory_rows, draw_memory),
)


def available(run: Results) -> list[tuple[str, str]]:
    """File name and title of each plot that the run has rows for."""
    return [(file, title) for file, title, choose, _ in PLOTS if choose(run)]


def draw(run: Results, folder: Path) -> list[Path]:
    """Draw into ``folder``; the files written. RuntimeError naming the extra when matplotlib is missing."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError("plots need matplotlib: pip install 'hierpool[bench]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context({"svg.hashsalt": "hierpool", "svg.fonttype": "none", "font.size": 9}):
        for file, title, choose, paint in PLOTS:
            rows = choose(run)
            if not rows:
                continue
            figure = Figure(figsize=(8, 1.2 + 0.16 * len(rows) + 0.12 * len({r["workload"] for r in rows})))
            ax = figure.subplots()
            paint(ax, rows)
            ax.set_title(title, loc="left")
            figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
            figure.set_layout_engine("constrained")
            figure.savefig(folder / file, metadata={"Date": None})
            written.append(folder / file)
    return written
