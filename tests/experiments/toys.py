"""A small data set in files, and short runs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hierpool.experiments.protocol import read_protocol
from hierpool.experiments.queue import Plan, check, make_runs
from hierpool.experiments.results import NAME

NAME_OF_DATA = "TOY"
SHORT = {
    "epochs": 4,
    "patience": 2,
    "hidden_channels": 8,
    "layers": 2,
    "levels": 1,
    "rounds": 1,
    "penalties": [1.0],
}


def write_data(root: Path, graphs: int = 40) -> Path:
    """Rings of nodes with one label and paths of nodes with two, and a label for each edge; the data root."""
    raw = root / "tu" / NAME_OF_DATA / "raw"
    raw.mkdir(parents=True)
    files: dict[str, list[str]] = {
        kind: [] for kind in ("A", "graph_indicator", "graph_labels", "node_labels", "edge_labels")
    }
    first = 1
    for i in range(graphs):
        n, label = 5 + i % 4, i % 2
        for j in range(n - label):
            ends = first + j, first + (j + 1) % n
            files["A"] += [f"{ends[0]}, {ends[1]}", f"{ends[1]}, {ends[0]}"]
            files["edge_labels"] += [str(j % 2)] * 2
        files["graph_indicator"] += [str(i + 1)] * n
        files["node_labels"] += [str(j % (1 + label)) for j in range(n)]
        files["graph_labels"].append(str(label))
        first += n
    for kind, lines in files.items():
        (raw / f"{NAME_OF_DATA}_{kind}.txt").write_text("\n".join(lines) + "\n")
    return root


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(SHORT | changes))
    return path


def make_plan(
    folder: Path, methods: list[str], folds: range = range(2), protocol: str = "fair", **options: Any
) -> Plan:
    """A checked plan of short runs on the data of ``folder``, whose results are in its folder ``out``."""
    if not (folder / "tu").exists():
        write_data(folder)
    how = read_protocol(protocol, write_config(folder))
    retry = options.pop("retry", False)
    runs = make_runs(how, [NAME_OF_DATA], methods, list(folds), options.pop("seeds", [0]))
    return check(Plan(folder / "out", runs, how, folder, **options), retry)[0]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """All lines of the results, not one for each run."""
    return [json.loads(line) for line in (folder / "out" / NAME).read_text().splitlines()]
