"""The folds of an experiment: published ones from a file, or our own of the same shape."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hierpool.data import Split
from hierpool.data.splits import stratified_parts

FOLDS = 10


def make_folds(labels: Tensor, seed: int = 0, folds: int = FOLDS) -> list[Split]:
    """Stratified folds; of the graphs that a fold does not test, a tenth of every class is its validation part.

    Args:
        labels: class of each graph, int64 ``[graphs]``.
        seed: seed of the order within a class.
        folds: number of folds.

    Raises:
        ValueError: there are too few graphs.
    """
    if not 2 <= folds <= len(labels) // 2:
        raise ValueError(f"folds must be between 2 and half of the graphs, {len(labels) // 2}, got {folds}")
    made = []
    everything = torch.arange(len(labels))
    for number, test in enumerate(stratified_parts(labels, folds, seed)):
        rest = everything[~torch.isin(everything, test)]
        parts = stratified_parts(labels[rest], min(FOLDS, len(rest)), seed * FOLDS + number + 1)
        made.append(Split(rest[torch.cat(parts[1:]).sort().values], rest[parts[0]], test))
    return made


def read_folds(path: str | Path, graphs: int) -> list[Split]:
    """Read folds in the format of the published ones of Errica et al., ICLR 2020.

    The file is a JSON list with an object for each fold,
    ``{"test": [...], "model_selection": [{"train": [...], "validation": [...]}]}``. Graphs are numbered from 0. Of
    several inner splits the first is taken.

    Args:
        path: path of the file.
        graphs: number of graphs of the data set.

    Raises:
        ValueError: the file has another form, a number is out of range, a graph is in two parts of a fold or in none,
            or is tested in two folds or in none.
        OSError: the file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"splits {path} must be a JSON list of folds: {error}") from error
    if not isinstance(content, list) or len(content) < 2:
        raise ValueError(f"splits {path} must be a JSON list of at least two folds")
    found = [_fold(one, f"fold {number} of splits {path}", graphs) for number, one in enumerate(content)]
    _check_cover([fold.test for fold in found], graphs, f"the test parts of splits {path}")
    return found


def _fold(entry: Any, where: str, graphs: int) -> Split:
    inner = entry.get("model_selection") if isinstance(entry, dict) else None
    if not (isinstance(inner, list) and inner and isinstance(inner[0], dict)):
        raise ValueError(
            f"{where} must have 'test' and 'model_selection', a list of 'train' and 'validation'"
        )
    given = {
        "train": inner[0].get("train"),
        "validation": inner[0].get("validation"),
        "test": entry.get("test"),
    }
    parts = {name: _indices(part, f"{name} of {where}", graphs) for name, part in given.items()}
    _check_cover(list(parts.values()), graphs, where)
    return Split(**parts)


def _indices(part: Any, where: str, graphs: int) -> Tensor:
    if not (isinstance(part, list) and part and all(type(i) is int for i in part)):
        raise ValueError(f"{where} must be a list of numbers of graphs")
    if not 0 <= min(part) <= max(part) < graphs:
        wrong = next(i for i in part if not 0 <= i < graphs)
        raise ValueError(f"{where} must hold numbers below {graphs}, the number of graphs, got {wrong}")
    return torch.tensor(part).sort().values


def _check_cover(parts: Sequence[Tensor], graphs: int, where: str) -> None:
    """Raise ``ValueError`` unless every graph is in one part."""
    times = torch.cat(list(parts)).bincount(minlength=graphs)
    for wrong, text in ((times > 1, "more than once"), (times == 0, "not at all")):
        if bool(wrong.any()):
            first = wrong.nonzero().flatten()[:5].tolist()
            raise ValueError(
                f"{where} must hold every graph once, but {int(wrong.sum())} are there {text}: {first}"
            )


def digest(folds: Sequence[Split]) -> str:
    """A hash of the folds."""
    return hashlib.sha256(json.dumps([[p.tolist() for p in fold] for fold in folds]).encode()).hexdigest()[
        :16
    ]
