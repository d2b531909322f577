"""Stratified splits of labelled graphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """Indices of the graphs of each part: disjoint, ascending int64; together they are all graphs."""

    train: Tensor
    validation: Tensor
    test: Tensor


def stratified_parts(labels: Tensor, parts: int, seed: int) -> list[Tensor]:
    """Split graphs at random into parts whose sizes differ by at most one graph, in total and in every class.

    Args:
        labels: class of each graph, int64 ``[graphs]``.
        parts: number of parts.
        seed: seed of the order within a class.
    """
    generator = torch.Generator().manual_seed(seed)
    part = torch.empty_like(labels)
    assigned = 0  # each class continues where the last one stopped; otherwise part 0 would be the largest
    for members in _shuffled_classes(labels, generator):
        part[members] = torch.arange(assigned, assigned + len(members)) % parts
        assigned += len(members)
    return [(part == i).nonzero().flatten() for i in range(parts)]


def _shuffled_classes(labels: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """The indices of every class in turn, in random order."""
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        yield members[torch.randperm(len(members), generator=generator)]


def cross_validation(labels: Tensor, folds: int, seed: int) -> list[Split]:
    """Stratified cross-validation, in which each graph is tested once.

    Split ``i`` is tested on part ``i``, validated on part ``i + 1`` and trained on the others. The validation part
    chooses the epoch.

    Args:
        labels: class of each graph, int64 ``[graphs]``.
        folds: number of splits, at least 3 and at most the number of graphs.
        seed: seed of the parts.

    Raises:
        ValueError: ``folds`` is out of range.
    """
    if not 3 <= folds <= len(labels):
        raise ValueError(f"folds must be between 3 and the number of graphs, {len(labels)}, got {folds}")
    parts = stratified_parts(labels, folds, seed)
    splits = []
    for i in range(folds):
        validation = (i + 1) % folds
        rest = torch.cat([parts[j] for j in range(folds) if j not in (i, validation)])
        splits.append(Split(rest.sort().values, parts[validation], parts[i]))
    return splits


def holdout(labels: Tensor, seed: int, *, validation: float = 0.1, test: float = 0.1) -> Split:
    """One stratified split.

    Args:
        labels: class of each graph, int64 ``[graphs]``.
        seed: seed of the order within a class.
        validation, test: shares of every class, rounded to whole graphs.

    Raises:
        ValueError: a share is out of range, or one of the three parts would be empty.
    """
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(
            f"validation and test must be positive and sum to less than 1, got {validation} and {test}"
        )
    generator = torch.Generator().manual_seed(seed)
    chosen: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for members in _shuffled_classes(labels, generator):
        first = round(len(members) * test)
        second = first + round(len(members) * validation)
        for indices, part in zip(
            chosen, (members[second:], members[first:second], members[:first]), strict=True
        ):
            indices.append(part)
    split = Split(*(torch.cat(indices).sort().values for indices in chosen))
    if any(len(part) == 0 for part in split):
        raise ValueError(
            f"labels must hold enough graphs for three parts, train, validation and test, got {len(labels)}"
        )
    return split
