"""The results of an experiment as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hierpool.experiments.comparison import (
    Cell,
    critical_difference,
    difference,
    make_cells,
    mean_ranks,
    ordered,
)
from hierpool.experiments.methods import METHODS, PAIR
from hierpool.experiments.queue import DATASETS
from hierpool.experiments.results import Row

Cells = Mapping[tuple[str, str], Cell | str]
REFERENCE = "diffpool"
LABELS = {
    "fair": "Test accuracy in %, mean and standard deviation over folds",
    "paper": "Best validation accuracy in %, which is optimistic: no graph is held back for a test",
}


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line is its head."""
    head, *body = lines
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def title(method: str) -> str:
    """The name of a method in tables."""
    known = METHODS.get(method)
    if known is None:
        return method
    return f"DiffPool, one K, {known.title}" if known.group == PAIR else known.title


def accuracy_text(cell: Cell | str | None) -> str:
    """For example ``"75.1 ± 3.0"``, with the number of seeds if there are several, or ``"-"``."""
    if not isinstance(cell, Cell):
        return "-"
    seeds = f" ({len(cell.seeds)} seeds)" if len(cell.seeds) > 1 else ""
    return f"{100 * cell.mean:.1f} ± {100 * cell.std:.1f}{seeds}"


def accuracy_table(cells: Cells) -> str:
    """Methods by data sets; groups of methods have a line of their own."""
    datasets = ordered([data for data, _ in cells], DATASETS)
    methods = ordered([method for _, method in cells], list(METHODS))
    lines = [["method", *datasets]]
    group = ""
    for method in methods:
        own = METHODS[method].group if method in METHODS else "Other methods"
        if own != group:
            group = own
            lines.append([f"*{group}*", *[""] * len(datasets)])
        lines.append([title(method), *(accuracy_text(cells.get((data, method))) for data in datasets)])
    return markdown(lines)


def missing(cells: Cells) -> list[str]:
    """Why cells are missing, a line for each data set and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for (data, method), cell in cells.items():
        if isinstance(cell, str):
            found.setdefault((data, cell), []).append(title(method))
    total = len({method for _, method in cells})
    return [
        f"{data}, {'all methods' if len(names) == total else ', '.join(names)}: {reason}"
        for (data, reason), names in found.items()
    ]


def summary(cells: Cells, reference: str = REFERENCE) -> list[str]:
    """A sentence on each data set: the best mean, and how many methods are told apart from ``reference``."""
    lines = []
    for data in dict.fromkeys(data for data, _ in cells):
        found = {
            method: cell for (name, method), cell in cells.items() if name == data and isinstance(cell, Cell)
        }
        if reference not in found or len(found) < 2:
            continue
        best = max(found, key=lambda method: found[method].mean)
        intervals = [difference(cell, found[reference]) for name, cell in found.items() if name != reference]
        above, below = sum(one.low > 0 for one in intervals), sum(one.high < 0 for one in intervals)
        lines.append(
            f"{data}: the highest mean is {100 * found[best].mean:.1f}, of {title(best)}. Methods above"
            f" {title(reference)} with an interval without 0: {above}; below: {below}; not told apart from it:"
            f" {len(intervals) - above - below}."
        )
    return lines


def difference_table(cells: Cells, reference: str = REFERENCE, methods: Sequence[str] | None = None) -> str:
    """Differences to a method in percentage points, with intervals; ``""`` if there is nothing to compare.

    Args:
        cells: all cells.
        reference: name of the method.
        methods: the others; ``None``: all that have a cell.
    """
    whole = {key: cell for key, cell in cells.items() if isinstance(cell, Cell)}
    datasets = ordered([data for data, method in whole if method == reference], DATASETS)
    others = ordered([method for _, method in whole if method != reference], list(METHODS))
    others = [method for method in others if methods is None or method in methods]
    lines = [["method", *datasets]]
    for method in others:
        texts = []
        for data in datasets:
            cell = whole.get((data, method))
            if cell is None:
                texts.append("-")
                continue
            found = difference(cell, whole[data, reference])
            text = f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
            texts.append(text if found.low <= 0 <= found.high else f"**{text}**")
        if any(text != "-" for text in texts):
            lines.append([title(method), *texts])
    return markdown(lines) if len(lines) > 1 else ""


def rank_text(cells: Cells) -> str:
    """The mean ranks in a sentence; ``""`` with fewer than two data sets or methods."""
    ranks, datasets = mean_ranks(cells)
    if len(ranks) < 2 or len(datasets) < 2:
        return ""
    listing = ", ".join(f"{title(method)} {rank:.1f}" for method, rank in ranks.items())
    distance = critical_difference(len(ranks), len(datasets))
    return (
        f"Mean ranks of {len(ranks)} methods over {len(datasets)} data sets ({', '.join(datasets)}): {listing}. Methods"
        f" whose ranks differ by less than {distance:.1f} are not told apart by the test of Nemenyi at 5 %."
    )


def cost_table(cells: Cells) -> str:
    """Seconds of an epoch and parameters of networks; ``""`` without one."""
    whole = {key: cell for key, cell in cells.items() if isinstance(cell, Cell) and cell.parameters}
    datasets = ordered([data for data, _ in whole], DATASETS)
    lines = [["method", *datasets]]
    for method in ordered([method for _, method in whole], list(METHODS)):
        lines.append([title(method), *(_cost(whole.get((data, method))) for data in datasets)])
    return markdown(lines) if len(lines) > 1 else ""


def _cost(cell: Cell | None) -> str:
    if cell is None or cell.parameters is None:
        return "-"
    return f"{cell.seconds_per_epoch:.2f} s, {cell.parameters / 1000:.0f} k"


def sections(rows: Sequence[Row], everything: bool = False, heading: str = "##") -> str:
    """Tables of all protocols.

    Args:
        rows: all rows.
        everything: see :func:`hierpool.experiments.comparison.make_cells`.
        heading: mark of a heading.

    Raises:
        ImportError: SciPy is not installed.
    """
    parts = []
    for protocol, label in LABELS.items():
        cells = make_cells(rows, protocol, everything)
        if not cells:
            continue
        parts += [f"{heading} {label}", accuracy_table(cells)]
        for name, lines in {"What it shows": summary(cells), "Not in the table": missing(cells)}.items():
            parts += [f"{heading}# {name}", "\n".join(f"* {line}" for line in lines)] if lines else []
        pair = ("diffpool-one-k-pyg", "diffpool-one-k")
        compared = [name for _, name in cells if name not in pair]
        tables = {
            f"Differences to {title(REFERENCE)} on the same folds": difference_table(
                cells, REFERENCE, compared
            ),
            "PyG's operator less hierpool's, in the same network": difference_table(cells, pair[1], pair[:1]),
            "Mean ranks": rank_text(cells),
            "Time and size": cost_table(cells),
        }
        for name, text in tables.items():
            parts += [f"{heading}# {name}", text] if text else []
    return "\n\n".join(parts)
