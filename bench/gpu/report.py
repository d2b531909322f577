"""The report of a GPU run: a table for the terminal, the kernels of each provider, what is missing, and plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.results import Results
from bench.tables import aligned, milliseconds, number, of_floor, peak_mb, speedup

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KERNELS_SHOWN = 8
COLOURS = ("#0b57d0", "#3f83f8", "#9aa0a6", "#5f6368", "#c58b2b", "#8ab4f8", "#d93025", "#188038")


def heading(run: Results) -> str:
    """What was measured, where and when."""
    m, rates = run.metadata, run.metadata["rates"]
    code = m["commit"][:10] + (" with local changes" if m["dirty"] else "")
    state = "quick look, " if m.get("quick") else "" if run.finished else "unfinished run, "
    products = ", ".join(f"{name} {number(rate / 1e3)}" for name, rate in rates["gemm_gflops"].items())
    packages = ", ".join(
        f"{name} {m['packages'][name]}" for name in ("torch", "triton") if name in m["packages"]
    )
    return (
        f"{state}{m['device_name']}, driver {m.get('driver')}, {packages}, commit {code}, {m['date_utc'][:10]}; "
        f"copy {number(rates['copy_gbps'])} GB/s; TFLOP/s: {products}; {rates['launch_us']:.2g} us a launch"
    )


def timed(run: Results) -> list[dict]:
    """Rows with a time."""
    return [row for row in run.rows if row["status"] == "measured" and "candidate_ms" in row]


def timings(run: Results) -> str:
    """A line a row; what the model of `bench.bytes` predicts beside it."""
    cells = [
        ("workload", "provider", "mode", "ms", "over", "times (20 to 80 %)", "of floor", "peak MB", "kernels",
         "predicted ms")
    ]  # fmt: skip
    for row in timed(run):
        launches = sum(kernel["count"] for kernel in row.get("kernels", []))
        predicted = row.get("predicted")
        cells.append((
            row["title"], row["provider_title"], row["mode"], milliseconds(row), row["baseline"], speedup(row),
            of_floor(row), peak_mb(row), str(launches or "-"), number(predicted["ms"]) if predicted else "-",
        ))  # fmt: skip
    return aligned(cells)


def kernel_lists(run: Results) -> list[str]:
    """The longest kernels of each provider's forward and backward."""
    lines = []
    for row in timed(run):
        found = row.get("kernels", [])
        if row["mode"] != "both" or not found:
            continue
        total, count = sum(k["us"] for k in found), sum(k["count"] for k in found)
        lines.append(f"{row['title']}, {row['provider_title']}: {number(total)} us in {count} kernels")
        lines += [
            f"    {number(k['us'])} us  {k['count']} x  {k['name'][:100]}" for k in found[:KERNELS_SHOWN]
        ]
    return lines


def missing(run: Results) -> list[str]:
    """What there is no figure of, each reason once."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for row in run.rows:
        if row["status"] == "measured":
            continue
        title = row["title"]
        who = row.get("provider_title", title)
        places = where.setdefault((who, row["status"], row["reason"]), [])
        if who != title:
            places.append(title)
    lines = []
    for (who, status, reason), places in where.items():
        on = f" on {'; '.join(places)}" if places else ""
        lines.append(f"{who}: {status}{on} ({reason})")
    return lines


def stages(run: Results) -> list[str]:
    """What ran beside the workloads."""
    return [
        f"{row['title']}: {row['outcome']}, {number(row['value'])} s"
        for row in run.figures()
        if row.get("kind") == "stage"
    ]


def table(run: Results) -> str:
    """The whole report as text."""
    parts = [heading(run)]
    for title, lines in (
        ("", stages(run)),
        ("", [timings(run)] if timed(run) else []),
        ("Kernels of forward + backward", kernel_lists(run)),
        ("Not in the table", missing(run)),
        ("Notes", [run.notes] if run.notes else []),
    ):
        if lines:
            parts += ["", title] if title else [""]
            parts += [f"  {line}" for line in lines] if title else lines
    return "\n".join(parts)


# ---- plots ----------------------------------------------------------------------------------------------------------


def _bars(ax: Axes, rows: list[dict], value: Callable[[dict], float]) -> None:
    """A bar a row, in groups by workload, first on top, coloured by provider."""
    titles = list(dict.fromkeys(row["provider_title"] for row in rows))
    ticks, labels, y, named = [], [], 0.0, set()
    for workload in dict.fromkeys(row["workload"] for row in rows):
        group = [row for row in rows if row["workload"] == workload]
        for i, row in enumerate(group):
            title = row["provider_title"]
            colour = COLOURS[titles.index(title) % len(COLOURS)]
            ax.barh(y + i, value(row), height=0.9, color=colour, label=None if title in named else title)
            named.add(title)
        ticks.append(y + (len(group) - 1) / 2)
        labels.append(group[0]["title"])
        y += len(group) + 0.8
    ax.set_yticks(ticks, labels)
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:g}")
    ax.spines[["top", "right"]].set_visible(False)


def _draw_times(ax: Axes, rows: list[dict]) -> None:
    _bars(ax, rows, lambda row: row["candidate_ms"]["p50"])
    ax.set_xscale("log")
    ax.set_xlabel("ms, forward + backward")


def _draw_floor(ax: Axes, rows: list[dict]) -> None:
    _bars(ax, rows, lambda row: row["floor"]["fraction"])
    ax.set_xlabel("part of the floor that is reached, forward + backward: least time over median time")


PLOTS = (
    ("gpu-time.svg", "Time against peers", _draw_times),
    ("gpu-floor.svg", "Fraction of the floor", _draw_floor),
)


def draw(run: Results, folder: Path) -> list[Path]:
    """Draw into ``folder``; the files written. RuntimeError when matplotlib is missing."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RuntimeError("no plots: matplotlib is not installed") from error
    rows = [row for row in timed(run) if row["mode"] == "both"]
    written: list[Path] = []
    if not rows:
        return written
    with matplotlib.rc_context({"svg.hashsalt": "hierpool", "svg.fonttype": "none", "font.size": 9}):
        for file, title, paint in PLOTS:
            figure = Figure(figsize=(9, 1.6 + 0.2 * len(rows)))
            ax = figure.subplots()
            paint(ax, rows)
            ax.set_title(title, loc="left")
            figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
            figure.set_layout_engine("constrained")
            figure.savefig(folder / file, metadata={"Date": None})
            written.append(folder / file)
    return written
