"""Cells, lines and tables of a run, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from bench.harness.results import NOT_ASKED, Results
from bench.ops import WORKLOADS, title_of
from bench.ops.step import PARTS, PYG, SIDES, TOO_LARGE
from bench.report.goals import STEP_GOALS, Goal, goals_for, value_of

KERNELS_SHOWN = 8
Lines = list[Sequence[str]]  # of cells, the first with the names of the columns

# ---- cells ----------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, never in exponent form."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def workload_cell(row: dict) -> str:
    """The title, with the padding where there is any."""
    sizes = row.get("sizes", {})
    if "padded_nodes" not in sizes or sizes["nodes"] == sizes["graphs"] * sizes["padded_nodes"]:
        return row["title"]
    if row.get("kind", "dense") != "dense":
        return f"{row['title']} ({sizes['nodes']} nodes, {sizes['entries']} entries, K {sizes['clusters']})"
    real = sizes["nodes"] / (sizes["graphs"] * sizes["padded_nodes"])
    return f"{row['title']} (N {sizes['padded_nodes']}, K {sizes['clusters']}, {real:.0%} of rows real)"


def baseline_of(row: dict) -> str:
    """The provider that the row is compared with; older runs always took the first of the kind."""
    return row.get("baseline") or WORKLOADS[row["workload"]].kind.baselines[0]


def with_range(p: dict, unit: str = "") -> str:
    return f"{number(p['p50'])}{unit} ({number(p['p20'])} to {number(p['p80'])})"


def of_floor(row: dict) -> str:
    fraction = row["floor"]["fraction"]
    return f"{fraction:.0%}" if fraction >= 0.1 else f"{fraction:.1%}"


def peak_mb(row: dict | None) -> str:
    peak = row.get("peak", {}).get("bytes") if row else None
    return "-" if peak is None else number(peak / 1e6)


def outcome(goal: Goal, value: float) -> str:
    """The goal and whether ``value`` meets it."""
    return f"{goal.text} {'met' if goal.met(value) else 'not met'}"


def verdict(row: dict) -> str:
    """The goals of a row that it has a figure for, and their outcome."""
    if row.get("mode", "both") != "both":
        return ""
    judged = (
        (goal, value_of(row, goal.quantity)) for goal in goals_for(row["workload"], row.get("provider"))
    )
    return "; ".join(outcome(goal, value) for goal, value in judged if value is not None)


def too_large(row: dict) -> str:
    """Why a side of a training step was not run."""
    return f"does not fit (needs {number(row['needs_gib'])} GiB)"


def step_ratio(run: Results, row: dict) -> tuple[str, str]:
    """How many times as fast a side's step is, in the median and over all steps; or why there is no ratio."""
    if "speedup" in row:
        return with_range(row["speedup"], "x"), f"{row['overall']:.2f}x"
    peers = [other for other in run.rows if other["side"] in PYG and other["status"] == TOO_LARGE]
    return f"PyG {too_large(min(peers, key=lambda other: other['needs_gib']))}", ""


def step_count(run: Results, row: dict) -> str:
    """The number of steps that were timed, and how many were asked for if there was no time for them."""
    asked = run.metadata["steps"]
    timed = row.get("steps", asked)
    return f"{timed} of {asked}" if timed < asked else str(timed)


def step_verdict(run: Results, row: dict) -> str:
    """The goal of our side on the data set, and its outcome."""
    goal = STEP_GOALS.get(run.metadata["config"]["dataset"])
    if goal is None or row["side"] != goal.provider:
        return ""
    if "speedup" in row:
        return outcome(goal, value_of(row, goal.quantity))
    return f"{goal.text}, or PyG does not fit: met" if goal.unless_too_large else f"{goal.text} not measured"


def figure_cell(row: dict) -> str:
    """The value of a study's row, with its range and what came with it."""
    text = f"{number(row['value'])}{'x' if row['unit'] == 'x' else ' ' + row['unit']}".rstrip()
    if "low" in row:
        text += f" ({number(row['low'])} to {number(row['high'])})"
    if "busy" in row:
        text += (
            f" as fast as one thread; {number(row['busy'])} of {row['threads']} processors busy; "
            f"{number(row['seconds'])} s"
        )
    return text


def figure_title(row: dict) -> str:
    size = f", E {row['entries']}" if row["quantity"] == "seconds" and "entries" in row else ""
    return f"{row['title']}: {row['quantity']}{size}"


# ---- tables ---------------------------------------------------------------------------------------------------------


def used(lines: Lines) -> Lines:
    """The columns that have a cell below their name."""
    keep = [i for i, column in enumerate(zip(*lines, strict=True)) if any(column[1:])]
    return [[line[i] for i in keep] for line in lines]


def aligned(lines: Lines) -> str:
    """Cells of lines, in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(padded)


def markdown(lines: Lines) -> str:
    """A Markdown table."""
    return "\n".join([
        f"| {' | '.join(lines[0])} |",
        f"|{'---|' * len(lines[0])}",
        *(f"| {' | '.join(line)} |" for line in lines[1:]),
    ])  # fmt: skip


def timings(rows: list[dict], modes: bool = True) -> Lines:
    """A line for each row; without a column of ``modes`` where all rows are of forward + backward."""
    lines: Lines = [(
        "workload", "provider", "mode" if modes else "", "ms", "peer", "peer ms", "times as fast (20 to 80 %)",
        "of the floor", "peak MB", "kernels", "goal",
    )]  # fmt: skip
    for row in rows:
        launches = sum(kernel["count"] for kernel in row.get("kernels", []))
        lines.append((
            workload_cell(row), title_of(row["provider"]), row["mode"] if modes else "",
            number(row["candidate_ms"]["p50"]), title_of(baseline_of(row)), number(row["peer_ms"]["p50"]),
            with_range(row["speedup"], "x"), of_floor(row), peak_mb(row), str(launches or ""), verdict(row),
        ))  # fmt: skip
    return used(lines)


def figures(rows: list[dict]) -> Lines:
    """A line for each row of a study."""
    head = ("what", "measured", "goal")
    return used([head, *((figure_title(row), figure_cell(row), verdict(row)) for row in rows)])


def steps(run: Results) -> Lines:
    """Whole training steps, a line for each side; times in ms."""
    peer = run.metadata["peer"]
    head = f"times as fast as {SIDES[peer] if peer else 'PyG'} (20 to 80 %)"
    lines: Lines = [("side", "ms", "steps", *PARTS, head, "over all steps", "goal")]
    for row in run.rows:
        if row["status"] == TOO_LARGE:
            lines.append((row["title"], "-", "-", *("-" for _ in PARTS), too_large(row), "", ""))
            continue
        parts = [f"{row['parts_ms'][name]:.2f}" for name in PARTS]
        times, overall = step_ratio(run, row)
        goal = step_verdict(run, row)
        lines.append(
            (row["title"], number(row["ms"]["p50"]), step_count(run, row), *parts, times, overall, goal)
        )
    return used(lines)


# ---- lines around the tables ----------------------------------------------------------------------------------------


def place(run: Results) -> str:
    """The device and its software, in words."""
    m = run.metadata
    packages = [f"{name} {m['packages'][name]}" for name in ("torch", "triton") if name in m["packages"]]
    if run.device == "cpu":
        threads = f"{m['threads']} thread{'s' if m['threads'] != 1 else ''}"
        return f"{m['cpu_model']}, {threads}, {packages[0]}"
    return f"{m['device_name']}, driver {m.get('driver')}, {', '.join(packages)}"


def heading(run: Results) -> str:
    """What was measured, where and when, in one line."""
    m = run.metadata
    code = m["commit"][:10] + (" with local changes" if m["dirty"] else "")
    state = "quick look, " if m.get("quick") else "" if run.finished else "unfinished run, "
    text = f"{state}{place(run)}, commit {code}, {m['date_utc'][:10]}"
    rates = m["rates"]
    gemm = rates["gemm_gflops"]
    products = gemm.items() if isinstance(gemm, dict) else (("ieee", gemm),)  # a number in older runs
    text += f"; copy {number(rates['copy_gbps'])} GB/s; GEMM in GFLOP/s: "
    text += ", ".join(f"{name} {number(rate)}" for name, rate in products)
    if rates.get("launch_us"):
        text += f"; {rates['launch_us']:.2g} us a launch"
    return f"{text}; {noise(run)}"


def noise(run: Results) -> str:
    """The widest 20 to 80 % range of PyG eager timed against itself: what the machine adds to every ratio."""
    spreads = [row["speedup"] for row in run.timings("dense", mode="both") if row["provider"] == "pyg"]
    if not spreads:
        return "noise not measured"
    low, high = min(s["p20"] for s in spreads), max(s["p80"] for s in spreads)
    return f"PyG eager against itself {low:.2f}x to {high:.2f}x at worst"


def gaps(run: Results) -> list[str]:
    """What is missing from the tables, each reason once: skipped, not measured, refused, failed."""
    where: dict[tuple[str, str], list[str]] = {}
    for row in run.rows:
        provider, peak = row.get("provider"), row.get("peak", {})
        if row["status"] != "measured":
            who = row["title"] if provider is None else title_of(provider)
            places = where.setdefault((f"{who}: {row['status']}", row["reason"]), [])
        elif peak.get("bytes", 0) is None and peak["reason"] != NOT_ASKED and row["mode"] == "both":
            places = where.setdefault((f"{title_of(row['provider'])}: no peak memory", peak["reason"]), [])
        else:
            continue
        if provider is not None:
            places.append(row["title"])
    return [f"{head}{' on ' if on else ''}{', '.join(on)} ({reason})" for (head, reason), on in where.items()]


def kernel_lines(run: Results) -> list[str]:
    """The longest kernels of each provider's forward and backward, on a GPU."""
    lines = []
    for row in run.timings(mode="both"):
        found = row.get("kernels", [])
        if found:
            total, count = sum(k["us"] for k in found), sum(k["count"] for k in found)
            lines.append(
                f"{row['title']}, {title_of(row['provider'])}: {number(total)} us in {count} kernels"
            )
            lines += [
                f"    {number(k['us'])} us  {k['count']} x  {k['name'][:100]}" for k in found[:KERNELS_SHOWN]
            ]
    return lines


def stage_lines(run: Results) -> list[str]:
    """What ran before the workloads."""
    rows = [row for row in run.figures() if row.get("kind") == "stage"]
    return [f"{row['title']}: {row['outcome']}, {number(row['value'])} s" for row in rows]


def terminal(run: Results) -> str:
    """The whole report of a run as text."""
    parts = [heading(run)]
    studies = [row for row in run.figures() if row.get("kind") != "stage"]
    for title, lines in (
        ("", stage_lines(run)),
        ("", [aligned(timings(run.timings()))] if run.timings() else []),
        ("", [aligned(figures(studies))] if studies else []),
        ("Kernels of forward + backward", kernel_lines(run)),
        ("Not in the table", gaps(run)),
        ("Notes", [run.notes] if run.notes else []),
    ):
        if lines:
            parts += ["", *([title] if title else []), *(f"  {line}" if title else line for line in lines)]
    return "\n".join(parts)
