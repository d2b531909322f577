"""Tables of a run: the full one for the terminal, a short one between two markers of README.md."""

from __future__ import annotations

from pathlib import Path

from bench import plots, results
from bench.goals import GOALS, goal_for
from bench.registry import BASELINE, WORKLOADS, title_of
from bench.results import NOT_ASKED, Results

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
VARIANTS = {"hierpool": "given", "hierpool-detected": "detected", "hierpool-directed": "none: directed"}
LEGEND = (
    "Milliseconds for forward + backward in float32: softmax, pooled features and adjacency, both losses, gradients "
    "to logits and features. The ratio to PyG eager is the median over alternating pairs (20th to 80th percentile); "
    "the floor is the least time by bytes or flops at this machine's measured rates; peak MB is PyG eager / hierpool, "
    "beyond the inputs."
)
PEERS = ("pyg", "pyg-compiled", "tgp", "hierpool-reference")


# ---- cells ---------------------------------------------------------------------------------------------------------


def number(value: float) -> str:
    """Three significant digits, never in exponent form."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def workload_cell(row: dict) -> str:
    """The title, with the padding where there is any."""
    sizes = row.get("sizes")
    if not sizes or sizes["nodes"] == sizes["graphs"] * sizes["padded_nodes"]:
        return row["title"]
    real = sizes["nodes"] / (sizes["graphs"] * sizes["padded_nodes"])
    return f"{row['title']} (N {sizes['padded_nodes']}, K {sizes['clusters']}, {real:.0%} of rows real)"


def milliseconds(row: dict | None) -> str:
    return number(row["candidate_ms"]["p50"]) if row else "-"


def speedup(row: dict | None) -> str:
    if row is None:
        return "-"
    s = row["speedup"]
    return f"{number(s['p50'])}x ({number(s['p20'])} to {number(s['p80'])})"


def of_floor(row: dict | None) -> str:
    if row is None:
        return "-"
    fraction = row["floor"]["fraction"]
    return f"{fraction:.0%}" if fraction >= 0.1 else f"{fraction:.1%}"


def peak_mb(row: dict | None) -> str:
    peak = row.get("peak", {}).get("bytes") if row else None
    return "-" if peak is None else number(peak / 1e6)


def verdict(row: dict | None) -> str:
    """The row's goal and whether the median meets it."""
    goal = goal_for(row["workload"], row["provider"]) if row and row["mode"] == "both" else None
    if row is None or goal is None:
        return ""
    return f"{number(goal.ratio)}x {'met' if row['speedup']['p50'] >= goal.ratio else 'not met'}"


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
    spreads = [
        row["speedup"] for row in run.rows if row["status"] == "measured" and row["provider"] == BASELINE
    ]
    if not spreads:
        return "noise not measured"
    low, high = min(s["p20"] for s in spreads), max(s["p80"] for s in spreads)
    return f"PyG eager against itself {low:.2f}x to {high:.2f}x at worst"


def gaps(run: Results) -> list[str]:
    """What is missing from the table and why: skipped, not measured, refused and failed, each reason once."""
    seen: dict[tuple[str, str], list[str]] = {}
    for row in run.rows:
        if row["status"] == "measured":
            continue
        provider = row.get("provider")
        who = row["title"] if provider is None else title_of(provider)
        where = seen.setdefault((f"{who}: {row['status']}", row["reason"]), [])
        if provider is not None:
            where.append(row["title"])
    ran = {row["workload"] for row in run.rows if row["status"] != "skipped"}
    lines = []
    for (head, reason), where in seen.items():
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
        row = run.row(goal.workload, goal.provider, "both")
        what = f"{WORKLOADS[goal.workload].title}, {title_of(goal.provider)}"
        lines.append(f"{what}: {verdict(row)} at {speedup(row)}" if row else f"{what}: not measured")
    return lines


# ---- tables --------------------------------------------------------------------------------------------------------


def terminal_table(run: Results) -> str:
    """Every measured row, aligned, with goals, gaps and notes below."""
    ratio = "over PyG eager (20 to 80 %)"
    cells = [("workload", "provider", "mode", "ms", ratio, "of floor", "peak MB", "goal")]
    for row in run.rows:
        if row["status"] == "measured":
            who = (workload_cell(row), title_of(row["provider"]), row["mode"])
            cells.append((*who, milliseconds(row), speedup(row), of_floor(row), peak_mb(row), verdict(row)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells]
    parts = [heading(run), "", *table, "", "Goals"]
    parts += [f"  {line}" for line in goal_lines(run)]
    missing = gaps(run)
    if missing:
        parts += ["", "Not in the table", *(f"  {line}" for line in missing)]
    if run.notes:
        parts += ["", "Notes", run.notes]
    return "\n".join(parts)


def markdown_rows(run: Results) -> list[str]:
    """One line for each workload and way of telling the operator about symmetry."""
    lines = []
    for name in dict.fromkeys(row["workload"] for row in run.rows):
        peers = [run.row(name, provider, "both") for provider in PEERS]
        ours = [(how, run.row(name, provider, "both")) for provider, how in VARIANTS.items()]
        ours = [(how, row) for how, row in ours if row] or [("-", None)]
        known = [row for row in (*peers, *(row for _, row in ours)) if row]
        if not known:
            continue
        title = workload_cell(known[0])
        for how, row in ours:
            memory = f"{peak_mb(peers[0])} / {peak_mb(row)}"
            times = [milliseconds(peer) for peer in peers]
            if row:  # PyG eager as it ran in the same pairs
                times[0] = number(row["peer_ms"]["p50"])
            cells = [
                title,
                *times,
                how,
                f"**{milliseconds(row)}**",
                speedup(row),
                verdict(row),
                of_floor(row),
                memory,
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def markdown_block(run: Results) -> str:
    """The part of README.md between the markers, markers excluded."""
    head = [title_of(peer) for peer in PEERS]
    columns = [
        "workload",
        *head,
        "symmetry of A",
        "hierpool",
        "over PyG eager",
        "goal",
        "of the floor",
        "peak MB",
    ]
    lines = [
        LEGEND,
        "",
        f"{heading(run)}.",
        "",
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *markdown_rows(run),
        "",
    ]
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
        problem = mismatch(run, root)
        print(problem or "README.md holds the newest results")
        return 1 if problem else 0
    if run is None:
        raise ValueError("no complete results yet: python -m bench run")
    print(terminal_table(run))
    if not print_only and (run.metadata.get("quick") or not run.finished):
        kind = "a quick look" if run.metadata.get("quick") else "unfinished"
        raise ValueError(f"{run.folder.name} is {kind} and is not reported: use --print")
    if not print_only:
        for path in write(run, root):
            print(f"wrote {path.relative_to(root)}")
    return 0
