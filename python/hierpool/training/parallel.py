"""Training in several processes: each takes its share of the graphs of every batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hierpool.data import Batch, BatchLoader
from hierpool.distributed import sum_gradients
from hierpool.distributed.ranks import Ranks
from hierpool.nn.norm import MaskedBatchNorm, synchronise


class Share(NamedTuple):
    """What a process has of a batch."""

    batch: Batch
    own: int  # graphs of this process; with 0, the batch has one that does not count
    whole: int  # graphs of all processes


class Processes:
    r"""The processes of a training run, or this process alone.

    A loss that is a mean over graphs is the sum of the losses of the processes, each times its share of the graphs of
    the batch; gradients are summed in a fixed order, so that all processes take the same step.

    Args:
        ranks: the group; ``None``: this process alone.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self.ranks = ranks if ranks is not None and ranks.size > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.ranks is None or self.ranks.rank == 0

    def prepare(self, model: nn.Module) -> None:
        """Synchronise the batch normalisation of a model."""
        if self.ranks is not None:
            synchronise(model, self.ranks)

    def shares(self, loader: BatchLoader, epoch: int) -> Iterator[Share]:
        """The share of each batch of an epoch."""
        for indices in loader.batches(epoch):
            own = indices if self.ranks is None else indices[self.ranks.rank :: self.ranks.size]
            yield Share(loader.collated(own or indices[:1]), len(own), len(indices))

    def begin(self, model: nn.Module, share: Share) -> None:
        """Before a step: whether the share of this process counts in batch normalisation."""
        if self.ranks is not None:
            for module in model.modules():
                if isinstance(module, MaskedBatchNorm):
                    module.counts = share.own > 0

    def sum_gradients(self, model: nn.Module) -> None:
        """Sum the gradients of the processes."""
        if self.ranks is not None:
            sum_gradients(model.parameters(), self.ranks.group)

    def total(self, numbers: list[float]) -> list[float]:
        """Sums over the processes."""
        if self.ranks is None:
            return numbers
        found: list[float] = self.ranks.total(torch.tensor(numbers, dtype=torch.float64)).tolist()
        return found

    def totals(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums of 0-d tensors over the processes."""
        if self.ranks is None:
            return terms
        total = self.ranks.total(torch.stack([term.double() for term in terms.values()]))
        return dict(zip(terms, total, strict=True))

    def restore(self, state: Any, resume: Any) -> None:
        """Resume in the first process, and take over its state in the others.

        Args:
            state: has ``state_dict`` and ``load_state_dict``.
            resume: loads the checkpoint into ``state``, in the first process.
        """
        if self.ranks is None:
            resume()
            return

        def load() -> dict[str, Any]:
            if self.is_first:
                resume()
            return {"state": state.state_dict() if self.is_first else None}

        found = self.ranks.agree(load, compared=())[0]["state"]
        if not self.is_first:
            state.load_state_dict(found)
