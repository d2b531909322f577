"""The page of clusterings, ``docs/clusterings.md``, and its plot, from the newest results."""

from __future__ import annotations

from pathlib import Path

from bench.harness import results
from bench.harness.machine import ROOT
from bench.harness.results import Results
from bench.ops.clusterings import METHODS, RESULTS
from bench.report.illustrated import Illustrated, write_or_check
from bench.report.tables import markdown, number, place

TEMPLATE = Path(__file__).parent / "templates" / "clusterings.md"
PAGE, PLOT = Path("docs") / "clusterings.md", Path("docs") / "assets" / "clusterings.svg"
_COLOURS = {"hierpool": "#0b57d0", "igraph": "#c58b2b", "networkit": "#9a6a1b", "pymetis": "#9aa0a6",
            "kaminpar": "#5f6368"}  # fmt: skip
_NOTHING_S = 1e-4


def by_graph(run: Results) -> dict[str, list[dict]]:
    """The measured rows of each graph."""
    measured = [row for row in run.rows if row["status"] == "measured"]
    names = dict.fromkeys(row["graph"] for row in measured)
    return {name: [row for row in measured if row["graph"] == name] for name in names}


def section(rows: list[dict]) -> str:
    """The table of a graph."""
    has_labels = rows[0]["nmi"] is not None
    names = ["method", "clusters", "modularity", "cut", *(["NMI"] if has_labels else []), "largest", "seconds",
             "build", "same again"]  # fmt: skip
    lines: list[tuple[str, ...]] = [tuple(names)]
    for row in rows:
        said = {"free": "", "leiden": " (of Leiden)", "given": " (given)"}[row["count"]]
        cells = [row["title"], f"{row['k']}{said}", f"{row['modularity']:.4f}", f"{row['cut']:.4f}"]
        cells += [f"{row['nmi']:.3f}"] if has_labels else []
        cells += [f"{row['balance']:.2f}", number(row["seconds"])]
        cells += [
            number(row["build_s"]) if row["build_s"] > _NOTHING_S else "-"
        ]  # hierpool takes the graph as it is
        lines.append((*cells, {True: "yes", False: "no", None: "-"}[row["same_again"]]))
    first = rows[0]
    return (
        f"## {first['graph_title'][0].upper()}{first['graph_title'][1:]}\n\n{first['nodes']:,} nodes, "
        f"{first['entries'] // 2:,} edges.\n\n{markdown(lines)}"
    )


def page(run: Results) -> str:
    """The whole page."""
    peers = ", ".join(f"{name} {version}" for name, version in run.metadata["peers"].items() if version)
    about = f"{place(run)}; {peers}; commit {run.metadata['commit'][:10]}, {run.metadata['date_utc'][:10]}."
    lacking = [
        f"* {row.get('title', 'all methods')} on {row['graph_title']}: {row['reason']}"
        for row in run.rows
        if row["status"] != "measured"
    ]
    parts = [TEMPLATE.read_text(encoding="utf-8").rstrip(), about, *map(section, by_graph(run).values())]
    parts += ["## Not in the tables\n\n" + "\n".join(lacking)] if lacking else []
    return "\n\n".join([*parts, f"![Modularity and time](assets/{PLOT.name})"]) + "\n"


def draw(run: Results, path: Path) -> None:
    """A panel for each graph without features: modularity against time, a dot for each method."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    groups = {name: rows for name, rows in by_graph(run).items() if len(rows) > 2}
    with mpl.rc_context({"svg.hashsalt": "hierpool"}):
        figure = Figure(figsize=(4 * len(groups), 3.6), layout="constrained")
        axes = figure.subplots(1, len(groups), squeeze=False)[0]
        for axis, rows in zip(axes, groups.values(), strict=True):
            for row in rows:
                method = METHODS[row["method"]]
                axis.scatter(row["seconds"], row["modularity"], s=18, color=_COLOURS[method.package])
                text = (
                    row["title"].replace("`", "")
                    + {"free": "", "leiden": ", K of Leiden", "given": ""}[row["count"]]
                )
                axis.annotate(text, (row["seconds"], row["modularity"]), fontsize=5.5, xytext=(3, 3),
                              textcoords="offset points")  # fmt: skip
            axis.set_xscale("log")
            axis.margins(x=0.3, y=0.1)
            axis.set_title(rows[0]["graph_title"], fontsize=8)
            axis.set_xlabel("seconds")
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("modularity")
        figure.savefig(path, metadata={"Date": None})


def command(check: bool, root: Path = ROOT, parent: Path = RESULTS) -> int:
    """``python -m bench clusterings --report`` or ``--check``: the exit status."""
    made = Illustrated("clusterings", PAGE, PLOT, page, draw)
    return write_or_check(made, results.newest(parent), check, root)
