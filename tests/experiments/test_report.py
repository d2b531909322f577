"""What is made of the results: accuracies, paired differences, ranks, tables and plots."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import stdev
from typing import Any
from xml.etree import ElementTree

import pytest

from hierpool.experiments import comparison, plots, report
from hierpool.experiments.comparison import Cell, make_cell, make_cells
from hierpool.experiments.methods import METHODS
from hierpool.experiments.results import Row

stats = pytest.importorskip("scipy.stats", reason="scipy (extra: experiments) is not installed")


def row(method: str, fold: int, accuracy: Any, *, dataset: str = "MUTAG", seed: int = 0, **more: Any) -> Row:
    key = {
        "protocol": "fair",
        "dataset": dataset,
        "method": method,
        "fold": fold,
        "seed": seed,
        "status": "ok",
    }
    value = {"test_accuracy": accuracy} if isinstance(accuracy, float) else accuracy
    same = {"settings": "s", "data": "d", "splits": "f", "train_graphs": 80, "test_graphs": 10, "folds": 10}
    return key | same | value | more


def rows_of(method: str, values: list[float], **more: Any) -> list[Row]:
    return [row(method, fold, value, **more) for fold, value in enumerate(values)]


ONE = [0.70, 0.72, 0.74, 0.76, 0.78, 0.70, 0.72, 0.74, 0.76, 0.78]
TWO = [0.1 + value + 0.01 * (fold % 3) for fold, value in enumerate(ONE)]


def cell(rows: list[Row]) -> Cell:
    found = make_cell(rows)
    assert isinstance(found, Cell), found
    return found


def test_a_cell_is_the_mean_over_seeds_of_every_fold() -> None:
    rows = rows_of("gin", ONE, seconds_per_epoch=0.5, parameters=100)
    rows += rows_of("gin", TWO, seed=1, seconds_per_epoch=0.7, parameters=100)
    rows += rows_of("gin", [0.0] * 4, seed=2)  # not finished
    found = cell(rows)
    assert found.accuracy == pytest.approx([(a + b) / 2 for a, b in zip(ONE, TWO, strict=True)])
    assert found.seeds == (0, 1)
    assert (found.test_share, found.seconds_per_epoch, found.parameters) == (10 / 80, 0.6, 100)
    assert found.std == stdev(found.accuracy)


def test_a_cell_without_all_folds_is_none() -> None:
    rows = rows_of("gin", ONE[:9])
    assert make_cell(rows) == "9 of 10 folds are finished"
    failed = row("gin", 9, {"reason": "no memory"}) | {"status": "failed"}
    assert make_cell([*rows, failed]) == "1 runs failed: no memory"
    assert isinstance(make_cell([row("gin", fold, 0.5, folds=2) for fold in range(2)]), Cell)


def test_the_best_epoch_of_the_paper_is_that_of_all_folds() -> None:
    curves = [[0.1 * fold, 0.5, 0.9 - 0.1 * fold] for fold in range(10)]  # means: 0.45, 0.5, 0.45
    found = cell([row("diffpool", fold, {"validation_curve": curve}) for fold, curve in enumerate(curves)])
    assert found.accuracy == (0.5,) * 10


@pytest.mark.parametrize("name", ["settings", "data", "splits"])
def test_rows_that_cannot_be_compared(name: str) -> None:
    rows = [*rows_of("gin", ONE), row("wl", 0, 0.5, **{name: "other"})]
    with pytest.raises(
        ValueError, match=r"rows must have one .* for each data set, got \w and other on MUTAG"
    ):
        make_cells(rows, "fair")
    rows[-1]["dataset"] = "ENZYMES"
    assert isinstance(make_cells(rows, "fair")["MUTAG", "gin"], Cell)


def test_a_paired_difference() -> None:
    first, second = cell(rows_of("gin", TWO)), cell(rows_of("wl", ONE))
    found = comparison.difference(first, second)
    each = [a - b for a, b in zip(TWO, ONE, strict=True)]
    plain = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    widened = math.sqrt((1 / 10 + 1 / 8) / (1 / 10))  # folds share training graphs
    assert found.mean == pytest.approx(0.109)
    assert found.high - found.mean == pytest.approx(widened * (plain.high - plain.low) / 2)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)
    with pytest.raises(ValueError, match="second must have 10 folds, as first has, got 2"):
        comparison.difference(first, cell([row("wl", fold, 0.5, folds=2) for fold in range(2)]))


def many() -> dict[tuple[str, str], Cell | str]:
    """Three methods on two data sets, of which two share a rank, and one that is not on both."""
    rows = []
    for shift, data in enumerate(("MUTAG", "PROTEINS")):
        for method, values in {"gin": ONE, "wl": ONE, "diffpool": TWO}.items():
            more = {} if method == "wl" else {"seconds_per_epoch": 0.1, "parameters": 2000}
            rows += rows_of(method, [value - 0.1 * shift for value in values], dataset=data, **more)
    return make_cells([*rows, *rows_of("ecc", TWO)], "fair")


def test_mean_ranks() -> None:
    ranks, datasets = comparison.mean_ranks(many())
    assert datasets == ["MUTAG", "PROTEINS"]
    assert ranks == {"diffpool": 1.0, "gin": 2.5, "wl": 2.5}
    few = make_cells(rows_of("gin", ONE, dataset="COLLAB"), "fair")  # on which most methods did not run
    assert comparison.mean_ranks(many() | few) == (ranks, datasets)
    # Demšar, table 5: q of 5 methods is 2.728, of 10 methods 3.164.
    assert comparison.critical_difference(5, 30) == pytest.approx(2.728 * math.sqrt(30 / 180), rel=1e-3)
    assert comparison.critical_difference(10, 20) == pytest.approx(3.164 * math.sqrt(110 / 120), rel=1e-3)


def test_bars_join_what_is_not_told_apart() -> None:
    ranks = {"a": 1.0, "b": 2.0, "c": 2.9, "d": 3.0, "e": 5.5}
    assert plots.cliques(ranks, 2.0) == [(1.0, 2.9), (2.0, 3.0)]
    assert plots.cliques(ranks, 0.5) == [(2.9, 3.0)]
    assert plots.cliques(ranks, 9.0) == [(1.0, 5.5)]


def test_the_tables() -> None:
    cells = many()
    table = report.accuracy_table(cells).splitlines()
    assert table[0] == "| method | MUTAG | PROTEINS |"
    assert "| 1-WL subtree | 74.0 ± 3.0 | 64.0 ± 3.0 |" in table
    assert "| ECC | 84.9 ± 3.0 | - |" in table
    assert table.index("| ECC | 84.9 ± 3.0 | - |") > table.index("| GIN | 74.0 ± 3.0 | 64.0 ± 3.0 |")
    differences = report.difference_table(cells)
    assert "| GIN | **-10.9 (-11.8 to -10.0)** | **-10.9 (-11.8 to -10.0)** |" in differences
    assert "| ECC | +0.0 (+0.0 to +0.0) | - |" in differences
    assert report.summary(cells)[1] == (
        "PROTEINS: the highest mean is 74.9, of DiffPool. Methods above DiffPool with an interval without 0: 0; below:"
        " 2; not told apart from it: 0."
    )
    assert "| GIN | 0.10 s, 2 k | 0.10 s, 2 k |" in report.cost_table(cells)
    assert "DiffPool 1.0, 1-WL subtree 2.5, GIN 2.5" in report.rank_text(cells)


def test_the_page_of_a_folder_that_is_not_finished() -> None:
    absent = row("*", 0, {"reason": "no file"}, dataset="REDDIT-MULTI-12K") | {"status": "no data"}
    rows = [*rows_of("gin", ONE[:3]), *rows_of("wl", ONE), absent]
    text = report.sections(rows)
    assert "* MUTAG, GIN: 3 of 10 folds are finished" in text
    assert "* REDDIT-MULTI-12K, all methods: no file" in text
    assert "| 1-WL subtree | 74.0 ± 3.0 | - |" in text
    assert "Differences" not in text
    assert report.sections([]) == ""
    whole = report.sections(rows, everything=True)
    assert "| method | MUTAG | ENZYMES | PROTEINS | DD | IMDB-BINARY | COLLAB | REDDIT-MULTI-12K |" in whole
    assert "| DiffPool | - | - | - | - | - | - | - |" in whole
    assert "* ENZYMES, all methods: not run" in whole
    assert "* REDDIT-MULTI-12K, all methods: no file" in whole


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib (extra: experiments) is not installed")
    files = plots.draw_all(tmp_path, many(), "a-")
    assert [path.name for path in files] == ["a-seconds-per-epoch.svg", "a-parameters.svg", "a-ranks.svg"]
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in plots.draw_all(tmp_path, many(), "a-")] == before
    for path in files:
        ElementTree.parse(path)
    assert plots.draw_all(tmp_path, make_cells(rows_of("wl", ONE), "fair")) == []


def test_every_method_has_a_title_of_its_own() -> None:
    assert len({report.title(name) for name in METHODS}) == len(METHODS)
    assert report.title("new") == "new"
