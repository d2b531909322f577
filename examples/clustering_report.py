"""The table and the plot of recorded clustering runs, with published results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

Rows = list[Mapping[str, Any]]


class Published(NamedTuple):
    """A published mean NMI over runs."""

    mean: float
    std: float | None  # None: unknown
    k: str  # number of clusters
    source: str  # a key of SOURCES


SOURCES = {
    "MinCut": "Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481), the paper's own table of clusterings",
    "DMoN": "Tsitsulin, Palowitch, Perozzi, Müller, JMLR 24, 2023 (arXiv:2006.16904), the paper's own table",
    "PyAGC": "PyAGC (arXiv:2602.08519), structured benchmark results, other networks and 1000 epochs",
    "DPR": "Salehi, Giannacopoulos (arXiv:2501.13451), rerun of DMoN",
    "Listed": "wizwand.com, listed for the method's paper; who ran it, and with how many clusters, is not said",
}
# The papers were not available when this was written; their results are from memory.
UNREAD = ("MinCut", "DMoN")
PUBLISHED = {
    ("mincut", "Cora"): (Published(0.404, 0.018, "7", "MinCut"), Published(0.408, 0.018, "7", "PyAGC")),
    ("mincut", "CiteSeer"): (Published(0.287, 0.047, "6", "MinCut"),),
    ("mincut", "PubMed"): (Published(0.200, 0.020, "3", "MinCut"),),
    ("dmon", "Cora"): (
        Published(0.488, None, "16", "DMoN"),
        Published(0.488, None, "?", "Listed"),
        Published(0.438, 0.023, "7", "PyAGC"),
        Published(0.439, None, "?", "DPR"),
    ),
    ("dmon", "CiteSeer"): (Published(0.337, None, "16", "DMoN"),),
    ("dmon", "PubMed"): (Published(0.298, None, "16", "DMoN"),),
    ("just-balance", "Cora"): (Published(0.22, None, "?", "Listed"),),
    ("just-balance", "CiteSeer"): (Published(0.19, None, "?", "Listed"),),
    ("hosc", "CiteSeer"): (Published(0.20, None, "?", "Listed"),),
    ("tvgnn", "CiteSeer"): (Published(0.27, None, "?", "Listed"),),
}
TITLES = {
    "mincut": "MinCut",
    "dmon": "DMoN",
    "just-balance": "Just Balance",
    "hosc": "HOSC",
    "tvgnn": "TVGNN",
}
DATASETS = ("Cora", "CiteSeer", "PubMed")


def read_rows(folder: Path) -> Rows:
    """The recorded runs."""
    return [
        json.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def by_method(rows: Rows) -> dict[tuple[str, str], Rows]:
    """Runs by method and dataset, in the order of the table; other datasets follow."""
    names = [*DATASETS, *sorted({row["dataset"] for row in rows} - {*DATASETS})]
    groups = {
        (method, name): [row for row in rows if row["method"] == method and row["dataset"] == name]
        for name in names
        for method in TITLES
    }
    return {key: group for key, group in groups.items() if group}


def table(rows: Rows) -> str:
    """A Markdown table of the mean and standard deviation of the NMI over seeds, with published results."""
    lines = [
        "| data set | method | K | runs | NMI | published | modularity |",
        "|---|---|---|---|---|---|---|",
    ]
    cited: list[str] = []
    for (method, dataset), group in by_method(rows).items():
        known = PUBLISHED.get((method, dataset), ())
        cited += [figure.source for figure in known if figure.source not in cited]
        published = "; ".join(
            f"{figure.mean:.3f}{'' if figure.std is None else f' ± {figure.std:.3f}'}"
            f" (K {figure.k}) [{cited.index(figure.source) + 1}]{'†' if figure.source in UNREAD else ''}"
            for figure in known
        )
        nmi = [row["nmi"] for row in group]
        cells = (
            dataset,
            TITLES[method],
            ", ".join(str(k) for k in sorted({row["k"] for row in group})),
            len(group),
            f"**{statistics.fmean(nmi):.3f}**" + (f" ± {statistics.stdev(nmi):.3f}" if len(nmi) > 1 else ""),
            published or "none found",
            f"{statistics.fmean(row['modularity'] for row in group):.3f}",
        )
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    notes = [f"{number}. {SOURCES[source]}." for number, source in enumerate(cited, 1)]
    if any(source in UNREAD for source in cited):
        notes.append("\n† from memory: the paper's table could not be opened to check it.")
    return "\n".join([*lines, "", *notes]) + "\n"


def page(rows: Rows) -> str:
    """The table with a title and the picture."""
    return (
        "# Clusters of nodes and their classes\n\n"
        "Normalised mutual information (NMI) of the classes with the likeliest clusters after the last epoch: mean\n"
        "and standard deviation over seeds. Made by `python examples/clustering.py --report --out <this folder>`.\n\n"
        f"{table(rows)}\n![NMI of every run](clustering.png)\n"
    )


def draw(path: Path, rows: Rows) -> None:
    """Draw a panel per dataset: a dot for every run, a line at the mean, and published results in grey."""
    from matplotlib.figure import Figure

    groups = by_method(rows)
    names = list(dict.fromkeys(dataset for _, dataset in groups))
    figure = Figure(figsize=(4 * len(names) + 0.6, 3.8), layout="constrained")
    axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        methods = [method for method, dataset in groups if dataset == name]
        for x, method in enumerate(methods):
            for known in PUBLISHED.get((method, name), ()):
                axis.plot([x - 0.32, x + 0.32], [known.mean] * 2, color="0.55", linewidth=1)
                if known.std is not None:
                    low, high = known.mean - known.std, known.mean + known.std
                    axis.fill_between([x - 0.32, x + 0.32], low, high, color="0.88")
            nmi = [row["nmi"] for row in groups[method, name]]
            shift = [x + 0.03 * (i - (len(nmi) - 1) / 2) for i in range(len(nmi))]
            axis.scatter(shift, nmi, s=12, color="tab:blue", zorder=3)
            axis.plot([x - 0.22, x + 0.22], [statistics.fmean(nmi)] * 2, color="tab:blue", linewidth=2)
        axis.set_xticks(range(len(methods)), [TITLES[method] for method in methods], rotation=30, ha="right")
        axis.set_title(name)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("NMI with the classes; grey: published")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def write_report(folder: Path) -> str:
    """Write ``clustering.md`` and ``clustering.png`` to the folder, and return the table."""
    rows = read_rows(folder)
    if not rows:
        raise SystemExit(f"{folder} holds no recorded runs")
    text = table(rows)
    (folder / "clustering.md").write_text(page(rows), encoding="utf-8")
    draw(folder / "clustering.png", rows)
    return f"\n{text}\nwritten: {folder / 'clustering.md'}, {folder / 'clustering.png'}"
