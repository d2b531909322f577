"""The page of poolers that keep or merge nodes, ``docs/hard-poolers.md``, and its plot, from the newest results."""

from __future__ import annotations

from pathlib import Path

from bench.harness import results
from bench.harness.machine import ROOT
from bench.harness.results import Results
from bench.ops.hard_poolers import RESULTS
from bench.ops.precoarsening import GOAL, LEVELS, PARTS
from bench.report.illustrated import Illustrated, write_or_check
from bench.report.tables import markdown, number, place, with_range

TEMPLATE = Path(__file__).parent / "templates" / "hard-poolers.md"
PAGE, PLOT = Path("docs") / "hard-poolers.md", Path("docs") / "assets" / "hard-poolers.svg"
MOST_EXPONENT = 1.15


def of_kind(run: Results, kind: str) -> list[dict]:
    """The measured rows of a kind."""
    return [row for row in run.rows if row.get("kind") == kind and row["status"] == "measured"]


def _times(row: dict, goal: float | None) -> tuple[str, ...]:
    """The cells of a comparison: both times, the ratio, and whether it is as large as wanted."""
    ratio = row["speedup"]
    said = "-" if goal is None else f"{goal:g}x: {'met' if ratio['p50'] >= goal else 'missed'}"
    ours = f"**{number(row['candidate_ms']['p50'])}**"
    return number(row["peer_ms"]["p50"]), ours, with_range(ratio, "x"), said


def pairs(run: Results) -> str:
    """The table of pairs."""
    lines: list[tuple[str, ...]] = [("operation", "batch", "peer", "peer ms", "hierpool ms", "ratio", "goal")]
    for row in of_kind(run, "pair"):
        title = row["title"] + ("" if row["same"] else " (other result)")
        lines.append((title, row["graph"], row["peer"], *_times(row, row["goal"])))
    return markdown(lines)


def pooled_once(run: Results) -> str:
    """The table of epochs on graphs that were pooled before."""
    lines: list[tuple[str, ...]] = [("data set", "graphs", "part", "anew ms", "once ms", "ratio", "goal")]
    for row in of_kind(run, "precoarsening"):
        goal = GOAL if row["part"] == "epoch" else None
        lines.append((row["data_set"], str(row["graphs"]), PARTS[row["part"]], *_times(row, goal)))
    return markdown(lines)


def growth(run: Results) -> str:
    """The table of times against sizes, in ms."""
    found = of_kind(run, "growth")
    sizes = sorted({row["entries"] for row in found})
    powers = {row["operation"]: row["exponent"] for row in of_kind(run, "exponent")}
    lines: list[tuple[str, ...]] = [("operation", *(f"E {size:,}" for size in sizes), "exponent")]
    for name in dict.fromkeys(row["operation"] for row in found):
        times = {row["entries"]: row for row in found if row["operation"] == name}
        title = next(iter(times.values()))["title"]
        power = powers.get(name)
        said = "-" if power is None else f"{power:.3f}" + ("" if power <= MOST_EXPONENT else " (too large)")
        lines.append((title, *(number(1e3 * times[size]["seconds"]) for size in sizes), said))
    return markdown(lines)


def page(run: Results) -> str:
    """The whole page."""
    about = f"{place(run)}; commit {run.metadata['commit'][:10]}, {run.metadata['date_utc'][:10]}."
    lacking = [
        f"* {row['title']}, {row['graph']}: {row['reason']}" for row in run.rows if row["status"] == "missing"
    ]
    parts = [TEMPLATE.read_text(encoding="utf-8").rstrip(), about, "## Pairs", pairs(run)]
    parts += ["Not measured:\n\n" + "\n".join(lacking)] if lacking else []
    parts += [
        "## Pooled once",
        f"An epoch of `train --pooler ndp` with {LEVELS} poolings, which pools every batch anew or, with"
        " `--precoarsen`, reads what it pooled before the first epoch. The rest of an epoch, the network and its"
        " optimizer, is the same on both sides; loading and pooling is all that can be saved.",
        pooled_once(run),
        "## Growth of the time",
        f"Milliseconds on uniformly random graphs with N = E / 10. The exponent is that of E, by least squares; at most"
        f" {MOST_EXPONENT} is wanted.",
        growth(run),
        f"![Time against the number of entries](assets/{PLOT.name})",
    ]
    return "\n\n".join(parts) + "\n"


def draw(run: Results, path: Path) -> None:
    """A line for each operation: seconds against entries."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = of_kind(run, "growth")
    powers = {row["operation"]: row["exponent"] for row in of_kind(run, "exponent")}
    with mpl.rc_context({"svg.hashsalt": "hierpool"}):
        figure = Figure(figsize=(6, 3.8), layout="constrained")
        axis = figure.subplots()
        for name in dict.fromkeys(row["operation"] for row in rows):
            mine = [row for row in rows if row["operation"] == name]
            power = f" (E to the {powers[name]:.2f})" if name in powers else ""
            axis.plot(
                [row["entries"] for row in mine],
                [row["seconds"] for row in mine],
                "o-",
                markersize=3,
                label=mine[0]["title"] + power,
            )
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.set_xlabel("entries E of A, N = E / 10")
        axis.set_ylabel("seconds")
        axis.legend(fontsize=7)
        figure.savefig(path, metadata={"Date": None})


def command(check: bool, root: Path = ROOT, parent: Path = RESULTS) -> int:
    """``python -m bench hard-poolers --report`` or ``--check``: the exit status."""
    made = Illustrated("hard-poolers", PAGE, PLOT, page, draw)
    return write_or_check(made, results.newest(parent), check, root)
