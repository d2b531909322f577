"""The page of accuracies, ``docs/accuracy.md``, and its plots, from the finished runs of experiments."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.harness.machine import ROOT
from hierpool.experiments import plots, report
from hierpool.experiments.comparison import Cell, make_cells
from hierpool.experiments.queue import DATASETS
from hierpool.experiments.results import NO_DATA, OK, ResultFile, Row, read_rows

RESULTS = ROOT / "bench" / "results" / "experiments"
PAGE, ASSETS, PREFIX = Path("docs") / "accuracy.md", Path("docs") / "assets", "accuracy-"
TEMPLATE = Path(__file__).parent / "templates" / "accuracy.md"


def whole(rows: list[Row]) -> list[Row]:
    """The rows of cells that are whole, and those that say that there are no data."""
    tables = {
        protocol: make_cells(rows, protocol) for protocol in dict.fromkeys(row["protocol"] for row in rows)
    }

    def is_whole(row: Row) -> bool:
        cell = tables[row["protocol"]].get((row["dataset"], row["method"]))
        return row["status"] == OK and isinstance(cell, Cell) and row["seed"] in cell.seeds

    return [row for row in rows if row["status"] == NO_DATA or is_whole(row)]


def add(folder: Path, parent: Path = RESULTS) -> int:
    """Add the whole cells of a folder to the results; the number of new runs."""
    results = ResultFile(parent)
    results.update()
    merged = [*results.rows.values(), *read_rows(folder)]
    chosen = whole(merged)  # checks that they can be compared
    for path in folder.glob("protocol-*.json"):
        target = parent / path.name
        if target.exists() and json.loads(target.read_text()) != json.loads(path.read_text()):
            raise ValueError(f"{path} is another configuration than {target}")
        shutil.copyfile(path, target)
    return sum(results.add(row) for row in chosen if row not in results.rows.values())


def published(parent: Path) -> list[str]:
    """The published figures, marked as such."""
    parts = []
    for table in json.loads((parent / "published.json").read_text(encoding="utf-8")).values():
        lines = [["method, quoted", *table["datasets"]]]
        lines += [[name, *values] for name, values in table["rows"].items()]
        parts += [f"## {table['title']}", report.markdown(lines), table["source"]]
    return parts


def about(rows: list[Row]) -> str:
    """How long the runs took."""
    done = [row for row in rows if row["status"] == OK]
    text = f"{len(done)} runs took {_hours(done):.1f} hours of processor time, without waiting."
    one = [
        row for row in done if (row["protocol"], row["method"], row["seed"]) == ("fair", report.REFERENCE, 0)
    ]
    by_data = {data: [row for row in one if row["dataset"] == data] for data in DATASETS}
    times = [f"{60 * _hours(some):.0f} on {data}" for data, some in by_data.items() if some]
    if times:
        text += (
            f" What was not run lacks time only: ten folds of {report.title(report.REFERENCE)} took minutes, "
            f"{', '.join(times)}."
        )
    return text


def _hours(rows: list[Row]) -> float:
    """Processor time of training; of methods without epochs, the time of the whole run."""
    times = [
        row["epochs"] * row["seconds_per_epoch"] if "epochs" in row else row.get("seconds", 0.0)
        for row in rows
    ]
    return sum(times) / 3600


def page(parent: Path = RESULTS) -> str:
    """The whole page."""
    rows = read_rows(parent)
    pictures = [
        f"![{name}]({ASSETS.name}/{PREFIX}{file}.svg)" for name, file in PLOTS.items() if file in drawn(rows)
    ]
    parts = [
        TEMPLATE.read_text(encoding="utf-8").rstrip(),
        about(rows),
        report.sections(rows, everything=True),
        *pictures,
    ]
    return "\n\n".join([*parts, *published(parent)]) + "\n"


PLOTS = {"Accuracy and seconds of an epoch": "seconds-per-epoch", "Accuracy and parameters": "parameters",
         "Mean ranks": "ranks"}  # fmt: skip


def drawn(rows: list[Row]) -> set[str]:
    """The plots that the results allow."""
    cells = make_cells(rows, "fair")
    found = [cell for cell in cells.values() if isinstance(cell, Cell)]
    files = {"seconds-per-epoch", "parameters"} if any(cell.parameters for cell in found) else set()
    return files | ({"ranks"} if report.rank_text(cells) else set())


def command(check: bool, folder: Path | None = None, root: Path = ROOT, parent: Path = RESULTS) -> int:
    """``python -m bench accuracy``, with ``--add FOLDER`` or ``--check``: the exit status."""
    path = root / PAGE
    if check:
        files = [root / ASSETS / f"{PREFIX}{name}.svg" for name in drawn(read_rows(parent))]
        same = path.is_file() and path.read_text(encoding="utf-8") == page(parent)
        same = same and all(file.is_file() for file in files)
        print(f"{PAGE.name} {'holds' if same else 'does not hold'} the results")
        return 0 if same else 1
    if folder is not None:
        print(f"added {add(folder, parent)} runs")
    path.write_text(page(parent), encoding="utf-8")
    for file in plots.draw_all(root / ASSETS, make_cells(read_rows(parent), "fair"), PREFIX):
        print(f"wrote {file.relative_to(root)}")
    print(f"wrote {PAGE}")
    return 0
