"""What the results of an experiment say: accuracies, paired differences, ranks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from hierpool._extras import require
from hierpool.experiments.folds import FOLDS
from hierpool.experiments.layers import EXTRA
from hierpool.experiments.methods import METHODS
from hierpool.experiments.queue import DATASETS
from hierpool.experiments.results import ALL, FAILED, OK, Row

LEVEL = 0.95  # of intervals


@dataclass(frozen=True)
class Cell:
    """A method on a data set, with all folds.

    Attributes:
        accuracy: of each fold, the mean over seeds.
        seeds: the seeds of which all folds are there.
        test_share: test graphs divided by the graphs that were trained on.
        seconds_per_epoch, parameters: medians over runs; ``None`` of what is no network.
    """

    accuracy: tuple[float, ...]
    seeds: tuple[int, ...]
    test_share: float
    seconds_per_epoch: float | None
    parameters: float | None

    @property
    def mean(self) -> float:
        """Mean over folds."""
        return fmean(self.accuracy)

    @property
    def std(self) -> float:
        """Standard deviation over folds."""
        return stdev(self.accuracy)


def make_cell(rows: Sequence[Row]) -> Cell | str:
    """The cell of the rows of a method on a data set, or why there is none."""
    done = [row for row in rows if row["status"] == OK]
    count = max((row.get("folds", FOLDS) for row in done), default=FOLDS)
    found = {(row["seed"], row["fold"]): row for row in done}
    whole = [
        seed
        for seed in sorted({row["seed"] for row in done})
        if all((seed, fold) in found for fold in range(count))
    ]
    if not whole:
        return _reason(rows, len({row["fold"] for row in done}), count)
    used = [[found[seed, fold] for seed in whole] for fold in range(count)]
    runs = [row for fold in used for row in fold]
    return Cell(
        tuple(_accuracies(used)),
        tuple(whole),
        fmean(row["test_graphs"] / row["train_graphs"] for row in runs),
        _median(runs, "seconds_per_epoch"),
        _median(runs, "parameters"),
    )


def _reason(rows: Sequence[Row], done: int, count: int) -> str:
    reasons = [str(row["reason"]) for row in rows if row["status"] == FAILED]
    if reasons:
        return f"{len(reasons)} runs failed: {reasons[0]}"
    return f"{done} of {count} folds are finished"


def _accuracies(folds: Sequence[Sequence[Row]]) -> list[float]:
    """The accuracy of each fold: on test graphs, or on validation graphs at the epoch that is best for all folds."""
    if "validation_curve" not in folds[0][0]:
        return [fmean(row["test_accuracy"] for row in fold) for fold in folds]
    curves = [
        [fmean(values) for values in zip(*(row["validation_curve"] for row in fold), strict=True)]
        for fold in folds
    ]
    epochs = [fmean(values) for values in zip(*curves, strict=True)]
    best = epochs.index(max(epochs))
    return [curve[best] for curve in curves]


def _median(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if name in row]
    return median(values) if values else None


def make_cells(
    rows: Sequence[Row], protocol: str, everything: bool = False
) -> dict[tuple[str, str], Cell | str]:
    """The cells of a protocol by data set and method, or why they are missing.

    Args:
        rows: all rows.
        protocol: name of the protocol.
        everything: have the cells of the whole table, not only those of the data sets and methods in the rows.

    Raises:
        ValueError: rows of a data set are of several configurations, files or folds.
    """
    own = [row for row in rows if row["protocol"] == protocol]
    _check_same([row for row in own if row["status"] == OK])
    absent = {row["dataset"]: row["reason"] for row in own if row["method"] == ALL}
    datasets = ordered([row["dataset"] for row in own], DATASETS, everything)
    known = [method.name for method in METHODS.values() if protocol == "fair" or method.in_paper]
    methods = ordered([row["method"] for row in own if row["method"] != ALL], known, everything)
    found: dict[tuple[str, str], list[Row]] = {(data, method): [] for data in datasets for method in methods}
    for row in own:
        if row["method"] != ALL:
            found[row["dataset"], row["method"]].append(row)
    return {key: make_cell(some) if some else absent.get(key[0], "not run") for key, some in found.items()}


def ordered(names: Iterable[str], known: Sequence[str], everything: bool = False) -> list[str]:
    """``names`` once each, those of ``known`` first and in its order; with ``everything`` all of ``known``."""
    given = dict.fromkeys(names)
    return [
        *(one for one in known if everything or one in given),
        *(one for one in given if one not in known),
    ]


def _check_same(rows: Sequence[Row]) -> None:
    """Raise ``ValueError`` if rows of a data set cannot be compared."""
    for name, text in {
        "settings": "configuration",
        "data": "version of the files",
        "splits": "list of folds",
    }.items():
        first: dict[str, str] = {}
        for row in rows:
            before = first.setdefault(row["dataset"], row[name])
            if row[name] != before:
                raise ValueError(
                    f"rows must have one {text} for each data set, got {before} and {row[name]} on {row['dataset']}"
                )


@dataclass(frozen=True)
class Difference:
    """The mean over folds of the difference of two methods, and its interval."""

    mean: float
    low: float
    high: float


def difference(first: Cell, second: Cell) -> Difference:
    r"""The paired difference of the accuracies of two methods on the same folds.

    .. math:: \bar d \pm t_{J - 1} \sqrt{\Bigl(\frac{1}{J} + \rho\Bigr) \frac{1}{J - 1} \sum_j (d_j - \bar d)^2}

    :math:`J` is the number of folds, and :math:`\rho` the number of test graphs over that of training graphs: folds
    share training graphs, for which the plain interval, without :math:`\rho`, is too narrow.

    Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003.

    Raises:
        ValueError: the cells have different numbers of folds.
        ImportError: SciPy is not installed.
    """
    if len(first.accuracy) != len(second.accuracy):
        raise ValueError(
            f"second must have {len(first.accuracy)} folds, as first has, got {len(second.accuracy)}"
        )
    stats = require("scipy.stats", EXTRA)
    each = [a - b for a, b in zip(first.accuracy, second.accuracy, strict=True)]
    folds = len(each)
    error = stdev(each) * math.sqrt(1 / folds + first.test_share)
    half = float(stats.t.ppf((1 + LEVEL) / 2, folds - 1)) * error
    return Difference(fmean(each), fmean(each) - half, fmean(each) + half)


def mean_ranks(cells: Mapping[tuple[str, str], Cell | str]) -> tuple[dict[str, float], list[str]]:
    """The mean rank of each method, 1 for the best, over data sets; methods of equal accuracy share their ranks.

    Of the data sets, those count on which more than half as many methods have a cell as on any other; of the methods,
    those with a cell on all of them.

    Returns:
        The ranks, ascending, and the data sets.
    """
    means = {key: cell.mean for key, cell in cells.items() if isinstance(cell, Cell)}
    counts = Counter(data for data, _ in means)
    datasets = [data for data, count in counts.items() if 2 * count > max(counts.values())]
    methods = [m for m in dict.fromkeys(m for _, m in means) if all((data, m) in means for data in datasets)]
    ranks: dict[str, list[float]] = {method: [] for method in methods}
    for data in datasets:
        values = [means[data, method] for method in methods]
        for method in methods:
            own = means[data, method]
            ranks[method].append(sum(v > own for v in values) + (sum(v == own for v in values) + 1) / 2)
    found = {method: fmean(values) for method, values in ranks.items() if values}
    return dict(sorted(found.items(), key=lambda item: item[1])), datasets


def critical_difference(methods: int, datasets: int) -> float:
    r"""The difference of mean ranks from which the test of Nemenyi calls two methods different, at a level of 5 %.

    .. math:: q_{0.05, k} \sqrt{k (k + 1) / (6 N)}

    Source: Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006.

    Raises:
        ImportError: SciPy is not installed.
    """
    stats = require("scipy.stats", EXTRA)
    q = float(stats.studentized_range.ppf(LEVEL, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * datasets))
