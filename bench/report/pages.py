"""The generated block of README.md, docs/benchmarks.md, and the command that writes and checks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.harness import results
from bench.harness.machine import ROOT
from bench.harness.results import Results
from bench.ops import step, title_of
from bench.report import plots, tables
from bench.report.tables import markdown, number, peak_mb

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
# The workloads of README.md, and our provider on each.
HEADLINES = {
    **dict.fromkeys(
        ("mutag", "enzymes", "proteins", "imdb-binary", "dnd-like", "dense-4096", "sparse-4096"), "hierpool"
    ),
    "million": "hierpool-graph",
}
README_PLOT = "bench-speedup.svg"

TEMPLATE = Path(__file__).parent / "templates" / "benchmarks.md"  # the head of docs/benchmarks.md
SECTIONS = (
    ("Padded batches", ("dense",)),
    ("The same batches from `edge_index`", ("sparse",)),
    ("The same with a linear layer that makes the logits", ("sparse-linear", "scattered-linear")),
    ("Large graphs", ("large", "scattered")),
    ("Poolers and operators", ("pooler", "operator")),
)


class Newest(NamedTuple):
    """The newest run of each sort, None where there is none, and that of training steps on each data set."""

    cpu: Results | None
    gpu: Results | None
    steps: tuple[Results, ...]


def newest(parent: Path = results.RESULTS) -> Newest:
    """The runs that are reported."""
    return Newest(results.newest(parent), results.newest(parent, "cuda"), step.newest(parent / "step"))


# ---- README.md ------------------------------------------------------------------------------------------------------


def headline(run: Results) -> str:
    """The part of README.md between the markers, markers excluded."""
    lines: tables.Lines = [("workload", "PyG ms", "hierpool ms", "ratio", "peak MB")]
    for workload, provider in HEADLINES.items():
        row = run.row(workload, provider)
        if row is None:
            continue
        baseline = tables.baseline_of(row)
        peer = "" if baseline == "pyg" else f" (peer: {title_of(baseline)})"
        peaks = [peak_mb(run.row(workload, baseline)), peak_mb(row)]
        lines.append((
            row["title"] + peer, number(row["peer_ms"]["p50"]), f"**{number(row['candidate_ms']['p50'])}**",
            tables.with_range(row["speedup"], "x"), " / ".join(peak for peak in peaks if peak != "-") or "-",
        ))  # fmt: skip
    plot = next((plot for plot in plots.available(run) if plot.file == README_PLOT), None)
    about = (
        f"{tables.place(run)}, {run.metadata['date_utc'][:10]}. Ratio: median of alternating pairs (20th to 80th "
        "percentile); peak MB beyond the inputs: PyG / hierpool; peer of the million nodes: the same algebra in "
        "`torch.sparse`. All figures: [docs/benchmarks.md](docs/benchmarks.md)."
    )
    picture = f"\n\n![{plot.title}](docs/assets/{plot.file})" if plot else ""
    return f"{markdown(lines)}\n\n{about}{picture}"


def with_block(text: str, block: str, begin: str = BEGIN, end: str = END, file: str = "README.md") -> str:
    """``text`` with ``block`` between two markers. ValueError when they are not there once each, in order."""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{file} needs the lines {begin} and {end}, once each, in this order")
    inside = f"{begin}\n{block}\n{end}" if block else f"{begin}\n{end}"
    return f"{text.split(begin)[0]}{inside}{text.split(end)[1]}"


# ---- docs/benchmarks.md ---------------------------------------------------------------------------------------------


def section(run: Results) -> str:
    """All tables, gaps, notes and plots of a run."""
    parts = [
        f"## On a {'CPU' if run.device == 'cpu' else 'GPU'}",
        f"{tables.heading(run)}.",
        *tables.stage_lines(run),
    ]
    for title, kinds in SECTIONS:
        rows = run.timings(*kinds, mode="both")
        if rows:
            parts += [f"### {title}", markdown(tables.timings(rows, modes=False))]
    rows = [row for row in run.figures() if row.get("kind") != "stage"]
    if rows:
        parts += ["### Studies", markdown(tables.figures(rows))]
    missing = tables.gaps(run)
    if missing:
        parts += ["### Not in the tables", "\n".join(f"* {line}" for line in missing)]
    if run.notes:
        parts += ["### Notes", run.notes]
    parts += [f"![{p.title}](assets/{p.file})" for p in plots.available(run) if p.file != README_PLOT]
    return "\n\n".join(parts)


STEPS = """\
## Whole training steps

Loading, forward, backward, gradient clipping and Adam of one network: ours, and the same network of PyG's dense layers.
All have one number of clusters for all graphs, a part of the nodes of the largest graph of the data set, as PyG's has,
and are checked to be one function of the same weights; sides "in proportion to each graph" have a part of the nodes of
each graph instead, which is our default. Where steps are slow, fewer than asked for are timed, and the table says so.

A side of padded batches that needs more than {free:.0%} of the available memory does not fit and is not run. What it
needs is estimated beforehand: for PyG the tensors that are alive at once in a step on a batch with the largest graph,
without scratch space, weights and the state of Adam, and of graphs that are padded beforehand, all of them; for
hierpool what `python -m hierpool train` estimates."""


def step_section(runs: Sequence[Results]) -> str:
    """Whole training steps, on each data set."""
    parts = [STEPS.format(free=step.FREE)]
    for run in runs:
        m = run.metadata
        about = f"Batches of {m['config']['batch_size']} graphs. {tables.place(run)}"
        if "available_bytes" in m:
            about += f", {number(m['available_bytes'] / 2**30)} GiB of memory available"
        about += f", commit {m['commit'][:10]}, {m['date_utc'][:10]}."
        parts += [f"### {m['config']['dataset']}", about, markdown(tables.steps(run))]
    return "\n\n".join(parts)


def page(runs: Newest) -> str:
    """docs/benchmarks.md."""
    parts = [section(run) for run in (runs.cpu, runs.gpu) if run]
    parts += [step_section(runs.steps)] if runs.steps else []
    body = "\n\n".join(parts or ["There are no results yet."])
    return f"{TEMPLATE.read_text(encoding='utf-8')}\n{body}\n"


# ---- command --------------------------------------------------------------------------------------------------------


def expected(runs: Newest, root: Path) -> dict[Path, str]:
    """What README.md and docs/benchmarks.md are to hold."""
    readme = root / "README.md"
    block = headline(runs.cpu) if runs.cpu else ""
    return {
        readme: with_block(readme.read_text(encoding="utf-8"), block),
        root / "docs" / "benchmarks.md": page(runs),
    }


def mismatch(runs: Newest, root: Path) -> str | None:
    """Why the pages or the plots are not those of the newest results, or None when they are."""
    for path, text in expected(runs, root).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            return f"{path.relative_to(root)} does not hold the newest results: run python -m bench report"
    drawn = [plot.file for run in (runs.cpu, runs.gpu) if run for plot in plots.available(run)]
    absent = [file for file in drawn if not (root / "docs" / "assets" / file).is_file()]
    return f"missing plots: {', '.join(absent)}; run python -m bench report" if absent else None


def write(runs: Newest, root: Path) -> list[Path]:
    """Write the pages and the plots; the files written."""
    texts = expected(runs, root)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    drawn = [plots.draw(run, root / "docs" / "assets") for run in (runs.cpu, runs.gpu) if run]
    return [*texts, *(path for paths in drawn for path in paths)]


def command(
    folder: Path | None, *, check: bool, print_only: bool, root: Path = ROOT, parent: Path = results.RESULTS
) -> int:
    """``python -m bench report``: the exit status. A folder is printed only."""
    if folder is not None:
        print(tables.terminal(results.read(folder)))
        return 0
    runs = newest(parent)
    if check:
        problem = mismatch(runs, root)
        print(problem or "README.md and docs/benchmarks.md hold the newest results")
        return 1 if problem else 0
    if not any(runs):
        raise ValueError("no complete results yet: python -m bench run")
    for run in (runs.cpu, runs.gpu):
        if run:
            print(tables.terminal(run))
    for path in () if print_only else write(runs, root):
        print(f"wrote {path.relative_to(root)}")
    return 0
