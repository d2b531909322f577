"""SVG plots of a run: speed-ups, time against the floor, peak memory, growth. matplotlib is imported to draw."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression
from typing import TYPE_CHECKING, NamedTuple

from bench.harness.results import Results
from bench.ops import title_of
from bench.report.goals import goals_for
from bench.report.tables import baseline_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "pyg": "#9aa0a6", "pyg-compiled": "#5f6368", "tgp": "#c58b2b", "pyg-converted": "#9aa0a6", "pyg-call": "#9aa0a6",
    "tgp-unbatched": "#c58b2b", "torch-sparse": "#5f6368", "hierpool-reference": "#8ab4f8", "hierpool": "#0b57d0",
    "hierpool-detected": "#3f83f8", "hierpool-directed": "#174ea6", "hierpool-edges": "#0b57d0",
    "hierpool-graph": "#8ab4f8", "hierpool-graph-reference": "#3f83f8", "hierpool-call": "#0b57d0",
    "hierpool-call-reference": "#8ab4f8",
}  # fmt: skip


def dense_rows(run: Results) -> list[dict]:
    """Rows of padded batches on a CPU."""
    return run.timings("dense", mode="both") if run.device == "cpu" else []


def memory_rows(run: Results) -> list[dict]:
    """Those whose peak memory was measured."""
    return [row for row in dense_rows(run) if row.get("peak", {}).get("bytes") is not None]


def without_baseline(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["provider"] != baseline_of(row)]


def sparse_rows(run: Results) -> list[dict]:
    """Rows of sparse batches on a CPU other than the baseline's own."""
    rows = run.timings("sparse", "sparse-linear", mode="both")
    return without_baseline(rows) if run.device == "cpu" else []


def gpu_rows(run: Results) -> list[dict]:
    """All rows on a GPU."""
    return run.timings(mode="both") if run.device == "cuda" else []


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
        for goal in goals_for(row["workload"], row["provider"]):
            if goal.quantity == "speed-up":
                ax.plot(goal.bound, y, marker="D", color="#d93025", markersize=4)
    ax.axvline(1.0, color="black", linewidth=0.8)
    ax.set_xlabel("times as fast, forward + backward (line: 20 to 80 %, diamond: goal)")


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


def draw_linearity(ax: Axes, rows: list[dict]) -> None:
    """Median time of a step over the entries of A, with its 20th to 80th percentile and the fitted power."""
    points = [row for row in rows if row["quantity"] == "seconds"]
    entries, times = ([row[key] for row in points] for key in ("entries", "value"))
    power, constant = linear_regression(*([math.log(v) for v in values] for values in (entries, times)))
    ends = [min(entries), max(entries)]
    line = [math.exp(constant) * e**power for e in ends]
    ax.plot(ends, line, color="#9aa0a6", label=f"least squares: E to the {power:.3f}")
    ax.vlines(
        entries, [row["low"] for row in points], [row["high"] for row in points], color="black", linewidth=1
    )
    ax.plot(entries, times, "o", color=COLOURS["hierpool"], label="hierpool")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.grid(color="#dddddd")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel("entries E of A, N = E / 10, K = F = 64")
    ax.set_ylabel("s, forward + backward")


class Plot(NamedTuple):
    """A picture: its file and title, the rows it shows and how they are drawn, a line each unless it has a height."""

    file: str
    title: str
    choose: Callable[[Results], list[dict]]
    paint: Callable[[Axes, list[dict]], None]
    height: float | None = None


PLOTS = (
    Plot("bench-speedup.svg", "Speed-up over PyG eager", lambda run: without_baseline(dense_rows(run)), draw_speedup),
    Plot("bench-floor.svg", "Time against the floor", dense_rows, draw_floor),
    Plot("bench-memory.svg", "Peak memory", memory_rows, draw_memory),
    Plot("bench-sparse.svg", "Speed-up over PyG + conversions, with a linear layer over tgp", sparse_rows,
         draw_speedup),
    Plot("bench-linearity.svg", "Time against the size of the graph", lambda run: run.figures("linearity"),
         draw_linearity, 3.6),
    Plot("gpu-speedup.svg", "Speed-up over the peer, on a GPU", lambda run: without_baseline(gpu_rows(run)),
         draw_speedup),
    Plot("gpu-time.svg", "Time against the floor, on a GPU", gpu_rows, draw_floor),
)  # fmt: skip


def available(run: Results) -> list[Plot]:
    """The plots that the run has rows for."""
    return [plot for plot in PLOTS if plot.choose(run)]


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
        for file, title, choose, paint, height in available(run):
            rows = choose(run)
            lines = 1.2 + 0.16 * len(rows) + 0.12 * len({row["workload"] for row in rows})
            figure = Figure(figsize=(8, height or lines))
            ax = figure.subplots()
            paint(ax, rows)
            ax.set_title(title, loc="left")
            figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False)
            figure.set_layout_engine("constrained")
            figure.savefig(folder / file, metadata={"Date": None})
            written.append(folder / file)
    return written
