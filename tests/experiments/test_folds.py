"""The folds: own ones, and those of files with everything that can be wrong with them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hierpool.experiments.folds import digest, make_folds, read_folds

LABELS = torch.tensor([0] * 120 + [1] * 60)


def test_own_folds_are_stratified_and_test_every_graph_once() -> None:
    folds = make_folds(LABELS)
    assert torch.cat([fold.test for fold in folds]).sort().values.tolist() == list(range(180))
    for fold in folds:
        assert torch.cat(list(fold)).sort().values.tolist() == list(range(180))
        assert (len(fold.test), len(fold.validation)) in {(18, 16), (18, 17)}
        for part in fold:
            share = LABELS[part].double().mean()
            assert abs(share - 1 / 3) < 1 / len(part)
    assert digest(folds) == digest(make_folds(LABELS))
    assert digest(folds) != digest(make_folds(LABELS, seed=1))


@pytest.mark.parametrize("count", [1, 91])
def test_too_few_graphs(count: int) -> None:
    with pytest.raises(ValueError, match="folds must be between 2 and half of the graphs, 90"):
        make_folds(LABELS, folds=count)


def content() -> list[Any]:
    """Three folds of nine graphs in the form of the published files."""
    parts = [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    return [
        {
            "test": parts[i],
            "model_selection": [{"train": parts[i - 1] + parts[i - 2][:2], "validation": parts[i - 2][2:]}],
        }
        for i in range(3)
    ]


def write(folder: Path, value: Any) -> Path:
    path = folder / "splits.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    folds = read_folds(write(tmp_path, content()), 9)
    assert [part.tolist() for part in folds[0]] == [[1, 2, 4, 5, 8], [7], [0, 3, 6]]
    assert len(folds) == 3


def changed(*path: Any, to: Any) -> list[Any]:
    value = copy.deepcopy(content())
    entry: Any = value
    for step in path[:-1]:
        entry = entry[step]
    entry[path[-1]] = to
    return value


INNER = ("model_selection", 0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "must be a JSON list of folds"),
        ({}, "must be a JSON list of at least two folds"),
        (content()[:1], "at least two folds"),
        (changed(1, to=3), "fold 1 of splits .* must have 'test' and 'model_selection'"),
        (changed(0, "model_selection", to=[]), "fold 0 of splits .* must have"),
        (changed(0, "test", to="abc"), "test of fold 0 .* must be a list of numbers"),
        (changed(0, "test", to=[0, True]), "test of fold 0 .* must be a list of numbers"),
        (changed(0, *INNER, "validation", to=[]), "validation of fold 0 .* must be a list of numbers"),
        (changed(2, "test", 0, to=9), "test of fold 2 .* numbers below 9, the number of graphs, got 9"),
        (changed(2, *INNER, "train", 0, to=-1), "train of fold 2 .* got -1"),
        (
            changed(0, *INNER, "train", 0, to=0),
            r"fold 0 .* every graph once, but 1 are there more than once: \[0\]",
        ),
        (changed(0, *INNER, "train", to=[1, 2]), r"fold 0 .* but 3 are there not at all: \[4, 5, 8\]"),
        ([*content()[:2], content()[1]], r"the test parts of splits .* more than once: \[1, 4, 7\]"),
        (content()[:2], r"the test parts of splits .* not at all: \[2, 5, 8\]"),
    ],
)
def test_what_is_wrong_with_a_file(value: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, value)
    with pytest.raises(ValueError, match=message):
        read_folds(path, 9)
