"""The report of a run: a table of all rows for the terminal, short ones between two markers of README.md."""

from __future__ import annotations

from pathlib import Path

from bench import plots, results, tables
from bench.goals import GOALS, value_of
from bench.gpu.report import table as gpu_table
from bench.kinds import KINDS
from bench.registry import STUDIES, WORKLOADS, title_of
from bench.results import NOT_ASKED, Results
from bench.tables import milliseconds, number, of_floor, outcome, peak_mb, speedup, verdict, workload_cell

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


# ---- lines around the tables ---------------------------------------------------------------------------------------


def heading(run: Results) -> str:
    """What was measured, where and when, in one line."""
    m = run.metadata
    code = m["commit"][:10] + (" with local changes" if m["dirty"] else "")
    quick = "quick look, " if m.get("quick") else "" if run.finished else "unfinished run, "
    return (
        f"{quick}{m['cpu_model']}, {m['threads']} threads, torch {m['packages'].get('torch', '?')}, commit {code}, "
        f"{m['date_utc'][:10]}; copy {number(m['rates']['copy_gbps'])} GB/s, "
        f"float32 GEMM {number(m['rates']['gemm_gflops'])} GFLOP/s; {noise(run)}"
    )


def noise(run: Results) -> str:
    """The widest 20 to 80 % range of PyG eager timed against itself: what the machine adds to every ratio."""
    spreads = [row["speedup"] for row in run.timings("dense") if row["provider"] == KINDS["dense"].baseline]
    if not spreads:
        return "noise not measured"
    low, high = min(s["p20"] for s in spreads), max(s["p80"] for s in spreads)
    return f"PyG eager against itself {low:.2f}x to {high:.2f}x at worst"


def gaps(run: Results) -> list[str]:
    """What is missing from the table and why: skipped, not measured, refused and failed, each reason once."""
    seen: dict[tuple[str, str], list[str]] = {}
    kinds: dict[str, str] = {}
    for row in run.rows:
        if row["status"] == "measured":
            continue
        provider = row.get("provider")
        who = row["title"] if provider is None else title_of(provider)
        head = f"{who}: {row['status']}"
        kinds[head] = row.get("kind", "dense")
        where = seen.setdefault((head, row["reason"]), [])
        if provider is not None:
            where.append(row["title"])
    lines = []
    for (head, reason), where in seen.items():
        same_kind = (row for row in run.rows if row.get("kind", "dense") == kinds[head])
        ran = {row["workload"] for row in same_kind if row["status"] != "skipped"}
        partial = f" on {', '.join(where)}" if 0 < len(where) < len(ran) else ""
        lines.append(f"{head}{partial} ({reason})")
    for row in run.rows:
        peak = row.get("peak", {})
        if peak.get("bytes", 0) is None and peak["reason"] != NOT_ASKED:
            lines.append(f"{title_of(row['provider'])}: no peak memory on {row['title']} ({peak['reason']})")
    return lines


def goal_lines(run: Results) -> list[str]:
    """Every goal: met, not met by how much, or not measured."""
    lines = []
    for goal in GOALS:
        if goal.provider is None:
            what = f"{STUDIES[goal.workload].title}, {goal.quantity}"
            row = next((r for r in run.figures(goal.workload) if r["quantity"] == goal.quantity), None)
        else:
            what = f"{WORKLOADS[goal.workload].title}, {title_of(goal.provider)}"
            row = run.row(goal.workload, goal.provider, "both")
        value = value_of(row, goal.quantity) if row else None
        if row is None or value is None:
            lines.append(f"{what}: not measured" if row is None else f"{what}: {goal.quantity} not measured")
            continue
        at = speedup(row) if goal.quantity == "speed-up" else f"{number(value)} {goal.unit}".rstrip()
        lines.append(f"{what}: {outcome(goal, value)} at {at}")
    return lines


# ---- tables --------------------------------------------------------------------------------------------------------


def terminal_table(run: Results) -> str:
    """Every measured row, aligned, with goals, gaps and notes below."""
    ratio = "over the baseline (20 to 80 %)"
    cells = [("workload", "provider", "mode", "ms", ratio, "of floor", "peak MB", "goal")]
    for row in run.timings(*KINDS):
        who = (workload_cell(row), title_of(row["provider"]), row["mode"])
        cells.append((*who, milliseconds(row), speedup(row), of_floor(row), peak_mb(row), verdict(row)))
    parts = [heading(run), "", tables.aligned(cells)]
    if run.figures():
        parts += ["", "Studies"]
        parts += [f"  {tables.figure_title(row)}: {tables.figure_cell(row)}" for row in run.figures()]
    parts += ["", "Goals"]
    parts += [f"  {line}" for line in goal_lines(run)]
    missing = gaps(run)
    if missing:
        parts += ["", "Not in the table", *(f"  {line}" for line in missing)]
    if run.notes:
        parts += ["", "Notes", run.notes]
    return "\n".join(parts)


def markdown_block(run: Results) -> str:
    """The part of README.md between the markers, markers excluded."""
    lines = [tables.LEGEND, "", f"{heading(run)}.", ""]
    dense, sparse, large = tables.dense_table(run), tables.sparse_table(run), tables.large_table(run)
    lines += [*dense, ""] if dense else []
    lines += [tables.SPARSE_LEGEND, "", *sparse, ""] if sparse else []
    lines += [tables.LARGE_LEGEND, "", *large, ""] if large else []
    missing = gaps(run)
    if missing:
        lines += ["Not in the table: " + "; ".join(missing) + ".", ""]
    if run.notes:
        lines += [run.notes, ""]
    lines += [f"![{title}](docs/assets/{file})" for file, title in plots.available(run)]
    return "\n".join(lines).strip()


# ---- README --------------------------------------------------------------------------------------------------------


def current_block(readme: str) -> str:
    """The text between the markers. ValueError when they are not there once each, in order."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"README.md needs the lines {BEGIN} and {END}, once each, in this order")
    return readme.split(BEGIN)[1].split(END)[0].strip()


def with_block(readme: str, block: str) -> str:
    """``readme`` with ``block`` between the markers."""
    current_block(readme)
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def mismatch(run: Results | None, root: Path) -> str | None:
    """Why README.md or the plots do not hold the newest results, or None when they do."""
    block = current_block((root / "README.md").read_text())
    if run is None:
        return "README.md has a benchmark table but there are no results" if block else None
    if block != markdown_block(run):
        return f"README.md does not hold the results of {run.folder.name}: run python -m bench report"
    absent = [file for file, _ in plots.available(run) if not (root / "docs" / "assets" / file).is_file()]
    return f"missing plots: {', '.join(absent)}; run python -m bench report" if absent else None


def write(run: Results, root: Path) -> list[Path]:
    """Write the table into README.md and the plots; the files written."""
    readme = root / "README.md"
    readme.write_text(with_block(readme.read_text(), markdown_block(run)))
    return [readme, *plots.draw(run, root / "docs" / "assets")]


def command(folder: Path | None, *, check: bool, print_only: bool, root: Path = ROOT) -> int:
    """``python -m bench report``: the exit status."""
    run = results.read(folder) if folder else results.newest()
    if check:
        if run is not None and run.device != "cpu":
            raise ValueError(f"{run.folder.name} is of a GPU, and README.md shows runs on CPUs")
        problem = mismatch(run, root)
        print(problem or "README.md holds the newest results")
        return 1 if problem else 0
    if run is None:
        raise ValueError("no complete results yet: python -m bench run")
    if run.device != "cpu":
        print(gpu_table(run))
        return 0
    print(terminal_table(run))
    if not print_only and (run.metadata.get("quick") or not run.finished):
        kind = "a quick look" if run.metadata.get("quick") else "unfinished"
        raise ValueError(f"{run.folder.name} is {kind} and is not reported: use --print")
    if not print_only:
        for path in write(run, root):
            print(f"wrote {path.relative_to(root)}")
    return 0
