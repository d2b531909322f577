"""Cases of training on the graphs of a batch in several processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from hierpool.distributed.ranks import Ranks
from hierpool.training import FoldResult, make_splits, train_fold
from tests.support.training import make_config, make_dataset

Group = dist.ProcessGroup
PAPER: dict[str, Any] = {"convention": "paper", "dropout": 0.0, "epochs": 3}


def trained(options: dict[str, Any], ranks: Ranks | None = None, **more: Any) -> FoldResult:
    config, dataset = make_config(**options), make_dataset(27)
    return train_fold(config, dataset, make_splits(config, dataset)[0], ranks=ranks, **more)


def same(one: FoldResult, other: FoldResult) -> None:
    for row, expected in zip(other.history, one.history, strict=True):
        for name in set(expected) - {"seconds"}:
            assert abs(row[name] - expected[name]) < 1e-4, (name, row, expected)
    assert one.best_epoch == other.best_epoch
    assert one.test_accuracy == other.test_accuracy
    for got, value in zip(other.model.state_dict().values(), one.model.state_dict().values(), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-4)


def equal_to_one_process(options: dict[str, Any], group: Group) -> None:
    """With losses that are means over graphs; batches of 8, 8 and 5 graphs."""
    same(trained(PAPER | options), trained(PAPER | options, Ranks(group)))


def batches_of_fewer_graphs(group: Group) -> None:
    """Some processes have no graph of a batch."""
    options = PAPER | {"batch_size": 2, "epochs": 1}
    same(trained(options), trained(options, Ranks(group)))


def other_conventions(group: Group) -> None:
    """The same in all processes, and finite; the norm is that of each process."""
    found = trained({"epochs": 2}, Ranks(group))
    copies: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(copies, found.model.state_dict(), group=group)
    for other in copies:
        for name, value in found.model.state_dict().items():
            assert torch.equal(value, other[name]), name
            assert value.isfinite().all()


def resumed(group: Group) -> None:
    """A run goes on in the processes of a group, and in one process."""
    ranks = Ranks(group)
    with tempfile.TemporaryDirectory() as own:
        folder = ranks.objects(own)[0]
        trained(PAPER | {"epochs": 1}, ranks, folder=folder)
        dist.barrier(group=group)
        several = trained(PAPER, ranks, folder=folder, resume=True)
        same(trained(PAPER), several)
        if ranks.rank == 0:
            same(several, trained(PAPER, folder=folder, resume=True))
        dist.barrier(group=group)


CASES: dict[str, Callable[[Group], None]] = {
    "paper": partial(equal_to_one_process, {}),
    "dense": partial(equal_to_one_process, {"dense": True}),
    "mincut": partial(
        equal_to_one_process, {"pooler": "mincut", "convention": "pyg", "embedding_channels": 64}
    ),
    **{one.__name__: one for one in (batches_of_fewer_graphs, other_conventions, resumed)},
}
