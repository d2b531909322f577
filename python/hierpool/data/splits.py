"""Stratified splits of labelled graphs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Disjoint indices that together are all graphs; int64, ascending."""

    train: Tensor
    validation: Tensor
    test: Tensor


def deal(labels: Tensor, parts: int, seed: int) -> list[Tensor]:
    """Deal graphs into parts that differ by at most one graph, in all and in every class.

    Args:
        labels: int64 ``[graphs]``.
        parts: how many.
        seed: of the order within a class.
    """
    generator = torch.Generator().manual_seed(seed)
    part = torch.empty_like(labels)
    dealt = 0  # the next class goes on where the last one stopped, or part 0 would be the largest
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        part[members] = torch.arange(dealt, dealt + len(members)) % parts
        dealt += len(members)
    return [(part == i).nonzero().flatten() for i in range(parts)]


def cross_validation(labels: Tensor, folds: int, seed: int) -> list[Split]:
    """Stratified cross-validation: each graph is tested once.

    Split ``i`` is tested on part ``i``, validated on part ``i + 1``, and trained on the others, so that choosing
    an epoch never looks at the test part.

    Args:
        labels: int64 ``[graphs]``.
        folds: at least 3, at most the number of graphs.
        seed: of the parts.

    Raises:
        ValueError: ``folds`` out of range.
    """
    if not 3 <= folds <= len(labels):
        raise ValueError(f"folds must be between 3 and the number of graphs, {len(labels)}, got {folds}")
    parts = deal(labels, folds, seed)
    splits = []
    for i in range(folds):
        validation = (i + 1) % folds
        rest = torch.cat([parts[j] for j in range(folds) if j not in (i, validation)])
        splits.append(Split(rest.sort().values, parts[validation], parts[i]))
    return splits


def holdout(labels: Tensor, seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """One stratified split.

    Args:
        labels: int64 ``[graphs]``.
        seed: of the order within a class.
        validation, test: parts of every class, rounded to whole graphs.

    Raises:
        ValueError: parts out of range, or so few graphs that one of the three is empty.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(
            f"validation and test must be positive and leave a rest, got {validation} and {test}"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        first = round(len(members) * test)
        second = first + round(len(members) * validation)
        for indices, part in zip(
            chosen, (members[second:], members[first:second], members[:first]), strict=True
        ):
            indices.append(part)
    split = Split(*(torch.cat(indices).sort().values for indices in chosen))
    if any(len(part) == 0 for part in split):
        raise ValueError(
            f"labels must hold enough graphs for a split into train, validation and test, got {len(labels)}"
        )
    return split
