"""The levels of pooled graphs that are made once, before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from hierpool.graph.assignment import Assignment
from hierpool.graph.ragged import RaggedGraph


class Level(NamedTuple):
    """How one level pools a batch of graphs: its assignment, and the coarsened graphs."""

    assignment: Assignment
    graph: RaggedGraph

    def to(self, device: torch.device | str) -> Level:
        """The level on another device."""
        return Level(self.assignment.to(device), self.graph.to(device))


torch.serialization.add_safe_globals([Level])  # for torch.load


def collate_levels(levels: Sequence[Sequence[Level]]) -> tuple[Level, ...]:
    """The levels of a batch, from those of each of its graphs.

    Raises:
        ValueError: the sequence is empty, or graphs have different numbers of levels.
    """
    if not levels or len({len(one) for one in levels}) > 1:
        counts = sorted({len(one) for one in levels})
        raise ValueError(f"levels must be of at least one graph, and equally many of each, got {counts}")
    return tuple(
        Level(
            Assignment.collate([one.assignment for one in same]),
            RaggedGraph.collate([one.graph for one in same]),
        )
        for same in zip(*levels, strict=True)
    )
