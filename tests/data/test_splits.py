"""Splits: disjoint, complete, stratified, repeatable."""

from __future__ import annotations

import pytest
import torch

from hierpool.data import Split, cross_validation, holdout

LABELS = torch.tensor([0] * 63 + [1] * 125 + [2] * 7)[
    torch.randperm(195, generator=torch.Generator().manual_seed(0))
]


def check_partition(split: Split) -> None:
    everything = torch.cat(list(split))
    assert torch.equal(everything.sort().values, torch.arange(len(LABELS)))
    assert all(len(part) for part in split)


@pytest.mark.parametrize("folds", [3, 10])
def test_folds_test_each_graph_once(folds: int) -> None:
    splits = cross_validation(LABELS, folds, seed=1)
    assert len(splits) == folds
    for split in splits:
        check_partition(split)
    tested = torch.cat([split.test for split in splits])
    assert torch.equal(tested.sort().values, torch.arange(len(LABELS)))
    for i, split in enumerate(splits):
        assert torch.equal(split.validation, splits[(i + 1) % folds].test)
    sizes = [len(split.test) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    for label in range(3):
        counts = [int((LABELS[split.test] == label).sum()) for split in splits]
        assert max(counts) - min(counts) <= 1


def test_holdout_is_stratified() -> None:
    split = holdout(LABELS, seed=1, validation=0.2, test=0.1)
    check_partition(split)
    assert LABELS[split.test].bincount().tolist() == [6, 12, 1]
    assert LABELS[split.validation].bincount().tolist() == [13, 25, 1]


@pytest.mark.parametrize(
    "make", [lambda seed: cross_validation(LABELS, 5, seed)[0], lambda seed: holdout(LABELS, seed)]
)
def test_seed_decides(make) -> None:
    torch.manual_seed(0)
    first = make(3)
    torch.manual_seed(1)
    assert all(torch.equal(a, b) for a, b in zip(first, make(3), strict=True))
    assert not torch.equal(first.test, make(4).test)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="folds must be between 3 and the number of graphs, 195, got 2"):
        cross_validation(LABELS, 2, 0)
    with pytest.raises(ValueError, match="folds must be between 3 and the number of graphs, 4, got 5"):
        cross_validation(LABELS[:4], 5, 0)
    with pytest.raises(ValueError, match="validation and test must be positive"):
        holdout(LABELS, 0, validation=0.5, test=0.5)
    with pytest.raises(ValueError, match="labels must hold enough graphs"):
        holdout(LABELS[:3], 0)
