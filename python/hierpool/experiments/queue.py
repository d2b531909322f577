"""The runs of an experiment, and the work on them by one process."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from hierpool._version import __version__
from hierpool.data import DatasetError, GraphDataset, Split, load_tu
from hierpool.experiments import features, folds
from hierpool.experiments.claims import Claims
from hierpool.experiments.methods import METHODS, Task
from hierpool.experiments.protocol import Protocol
from hierpool.experiments.results import ALL, FAILED, NO_DATA, OK, ResultFile, Row
from hierpool.training.files import write_json

CLAIMS = "claims"
# The data sets of the table. What of them cannot be had is a row that says so.
DATASETS = ("MUTAG", "ENZYMES", "PROTEINS", "DD", "IMDB-BINARY", "COLLAB", "REDDIT-MULTI-12K")
_WAIT_S = 2.0  # for runs that others are at


@dataclass(frozen=True)
class Run:
    """One run, by its key."""

    protocol: str
    dataset: str
    method: str
    fold: int
    seed: int

    @property
    def key(self) -> str:
        """The key in files."""
        return f"{self.protocol}/{self.dataset}/{self.method}/{self.fold}/{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What an experiment runs.

    Attributes:
        folder: folder of the results.
        runs: the runs in the order of work.
        protocol: the configuration.
        data_root: see :func:`hierpool.data.load_tu`.
        splits: file of folds for the one data set, or a folder with ``NAME_splits.json`` of data sets; others have own
            folds.
        time_limit: seconds for a run; ``None``: no limit.
        again: rows that do not count: of runs that failed, and are to be done again.
    """

    folder: Path
    runs: tuple[Run, ...]
    protocol: Protocol
    data_root: Path | None = None
    splits: Path | None = None
    time_limit: float | None = None
    again: Mapping[str, Row] = field(default_factory=dict)

    def is_open(self, run: Run, rows: Mapping[str, Row]) -> bool:
        """Whether a run is still to be done, by the rows of the results."""
        row = rows.get(run.key)
        return row is None or row == self.again.get(run.key)

    def open_runs(self, rows: Mapping[str, Row]) -> list[Run]:
        """The runs that are still to be done."""
        return [run for run in self.runs if self.is_open(run, rows)]


def make_runs(
    protocol: Protocol,
    datasets: Sequence[str],
    methods: Sequence[str],
    numbers: Sequence[int],
    seeds: Sequence[int],
) -> tuple[Run, ...]:
    """All runs, data set by data set; methods that do not depend on the seed have seed 0 alone.

    With the protocol of the paper, of methods that it is not for there are no runs.
    """
    return tuple(
        Run(protocol.name, dataset, method, fold, seed)
        for dataset in datasets
        for method in methods
        if protocol.name == "fair" or METHODS[method].in_paper
        for fold in numbers
        for seed in (seeds if METHODS[method].is_random else (0,))
    )


# ---- data -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def load(name: str, root: Path | None, protocol: Protocol) -> GraphDataset:
    """A data set as the protocol has it. Raises what :func:`hierpool.data.load_tu` raises."""
    return features.without_attributes(load_tu(name, root), protocol)


def file_of_folds(name: str, splits: Path | None) -> Path | None:
    """The file of the folds of a data set; ``None`` for own folds. See :class:`Plan`."""
    if splits is None or not splits.is_dir():
        return splits
    path = splits / f"{name}_splits.json"
    return path if path.exists() else None


@functools.lru_cache(maxsize=1)
def load_folds(dataset: GraphDataset, path: Path | None) -> tuple[Split, ...]:
    """The folds of a data set, from a file or own ones. Raises what :func:`read_folds` raises."""
    if path is None:
        return tuple(folds.make_folds(dataset.labels))
    return tuple(folds.read_folds(path, len(dataset.graphs)))


@functools.lru_cache(maxsize=1)
def _prepared(method: str, dataset: GraphDataset, protocol: Protocol) -> Any:
    return METHODS[method].prepare(dataset, protocol)


def _identity(dataset: GraphDataset, plan: Plan) -> Row:
    """What runs of one column of a table have in common."""
    path = file_of_folds(dataset.name, plan.splits)
    splits = load_folds(dataset, path)
    return {
        "settings": plan.protocol.digest,
        "data": dataset.fingerprint,
        "splits": folds.digest(splits),
        "folds": len(splits),
        "own_folds": path is None,
    }


# ---- checks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """A data set of an experiment, or why it cannot be had."""

    name: str
    graphs: int = 0
    nodes: int = 0
    folds: int = 0
    origin: str = ""  # of the folds
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: not available here: {self.reason}"
        return f"{self.name}: {self.graphs} graphs, {self.nodes} nodes, {self.folds} folds, {self.origin}"


def check(plan: Plan, retry: bool = False) -> tuple[Plan, list[Column]]:
    """Load every data set and its folds, compare them with the results in the folder, and note what cannot be had.

    Args:
        plan: the experiment.
        retry: do again what failed.

    Returns:
        The plan, without data sets that cannot be had, and with what is to be done again; and the data sets.

    Raises:
        ValueError, OSError, ImportError: no data set can be had, or one outside the table, folds are invalid or too
            few, or the folder holds results of another protocol, data set or folds.
    """
    _check_config(plan)
    results = ResultFile(plan.folder)
    results.update()
    columns = [_column(plan, name, results) for name in dict.fromkeys(run.dataset for run in plan.runs)]
    found = {column.name for column in columns if not column.reason}
    if not found:
        raise ValueError(f"datasets must hold one that can be had; {columns[0]}")
    again = {key: row for key, row in results.rows.items() if row["status"] == FAILED and retry}
    runs = tuple(run for run in plan.runs if run.dataset in found)
    return replace(plan, runs=runs, again=again), columns


def _column(plan: Plan, name: str, results: ResultFile) -> Column:
    try:
        dataset = load(name, plan.data_root, plan.protocol)
    except (DatasetError, OSError, ImportError, RuntimeError) as error:
        if name not in DATASETS:
            raise
        row = asdict(Run(plan.protocol.name, name, ALL, 0, 0)) | {
            "status": NO_DATA,
            "reason": _sentence(error),
        }
        if row not in results.rows.values():
            results.add(row)
        return Column(name, reason=_sentence(error))
    path = file_of_folds(name, plan.splits)
    splits = load_folds(dataset, path)
    most = max(run.fold for run in plan.runs if run.dataset == name)
    if most >= len(splits):
        raise ValueError(f"folds of {name} must be from 0 to {len(splits) - 1}, got {most}")
    found = _identity(dataset, plan)
    for row in results.rows.values():
        if (row["dataset"], row["protocol"], row["status"]) == (name, plan.protocol.name, OK):
            _compare(row, found, plan.folder)
    nodes = sum(graph.x.size(0) for graph in dataset.graphs)
    origin = "our own" if path is None else f"of {path.name}"
    return Column(name, len(dataset.graphs), nodes, len(splits), origin)


def _compare(row: Row, found: Row, folder: Path) -> None:
    texts = {"settings": "configuration", "data": "files of the data set", "splits": "folds"}
    for key, text in texts.items():
        if row[key] != found[key]:
            raise ValueError(
                f"{folder} holds runs on {row['dataset']} with other {text} ({row[key]}, now {found[key]}); give"
                " the former ones, or another folder"
            )


def _check_config(plan: Plan) -> None:
    """Write the configuration to the folder, or compare it with the one that is there."""
    path = plan.folder / f"protocol-{plan.protocol.name}.json"
    given = json.loads(json.dumps(asdict(plan.protocol)))
    if not path.exists():
        write_json(path, given)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must be a JSON object: {error}") from error
    if before != given:
        raise ValueError(
            f"{path} holds another configuration of the runs in this folder; give another folder"
        )


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


# ---- work -----------------------------------------------------------------------------------------------------------


def perform(plan: Plan, run: Run) -> Row:
    """Do a run; the row of it, which of a failed one has the reason."""
    start = time.perf_counter()
    row: Row = asdict(run) | {"status": OK}
    try:
        dataset = load(run.dataset, plan.data_root, plan.protocol)
        row |= _identity(dataset, plan)
        split = load_folds(dataset, file_of_folds(run.dataset, plan.splits))[run.fold]
        # 1009: as fold_seed of hierpool.training. Methods of one fold and seed have the same order of graphs.
        task = Task(dataset, split, plan.protocol, run.seed * 1009 + run.fold, plan.time_limit)
        prepared = _prepared(run.method, dataset, plan.protocol)
        row |= METHODS[run.method].run(prepared, task)
        row |= {"train_graphs": len(split.train), "test_graphs": len(split.test)}
    except Exception as error:  # a queue of days must not end with one run
        row |= {"status": FAILED, "reason": f"{type(error).__name__}: {_sentence(error)}"}
    seconds = round(time.perf_counter() - start, 3)
    finished = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"
    versions = {"hierpool": __version__, "torch": torch.__version__}
    return row | {"seconds": seconds, "finished": finished} | versions


def work(plan: Plan, on_row: Callable[[Row], None] | None = None) -> None:
    """Do the runs that nobody else does, one after the other, until all are finished, also those of others.

    Args:
        plan: the experiment, which :func:`check` has accepted.
        on_row: called with each row that is added.
    """
    results = ResultFile(plan.folder)
    with Claims(plan.folder / CLAIMS) as claims:
        while True:
            idle = True
            for run in plan.runs:
                results.update()
                if not plan.is_open(run, results.rows) or not claims.take(run.key):
                    continue
                try:
                    results.update()  # the last owner may have finished it between the reading and the claim
                    if plan.is_open(run, results.rows):
                        idle = False
                        row = perform(plan, run)
                        if results.add(row) and on_row is not None:
                            on_row(row)
                finally:
                    claims.release(run.key)
            results.update()
            if not plan.open_runs(results.rows):
                return
            if idle:
                time.sleep(_WAIT_S)
