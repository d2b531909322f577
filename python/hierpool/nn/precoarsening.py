"""Pooling of graphs once, before training."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from hierpool.graph import RaggedGraph
from hierpool.graph.convert import features_of_pyg
from hierpool.graph.levels import Level
from hierpool.nn.hard_pooling import HARD_POOLERS, HardPooling
from hierpool.selection._shared import check_count


class Precoarsening:
    """A transform that pools the levels of a graph with a pooler without parameters, which training then reads.

    Poolers without parameters, as :class:`hierpool.nn.NDPPool`, :class:`hierpool.nn.GraclusPool` or
    :class:`hierpool.nn.KMISPool` with ``scorer="canonical"``, pool a graph alike in every epoch. The levels are kept
    with the graph, loaders collate them with the batch, and layers take them as ``level``. The results are those of
    pooling each batch, as the supernodes of a graph do not depend on the rest of the batch.

    A call takes

    * a :class:`hierpool.RaggedGraph`, and returns its levels;
    * a :class:`hierpool.data.Graph`, and returns one with ``levels``, which :class:`hierpool.data.BatchLoader` and
      :func:`hierpool.data.collate_ragged` put into the batch;
    * a :class:`hierpool.data.GraphDataset`, and returns one of such graphs;
    * a ``Data`` of PyTorch Geometric, as ``transform`` or ``pre_transform`` of a data set, and returns a copy with
      ``levels``. A ``Batch`` of them holds the levels of all graphs in a list, which
      :func:`hierpool.nn.collate_levels` joins.

    Args:
        pooler: the short name of a pooler, see :func:`hierpool.nn.get_pooler`, or a layer.
        levels: number of levels.
        options: options of the pooler if it is named; the defaults are those of its class.

    Raises:
        ValueError: the pooler is unknown or has parameters, or ``levels`` is less than 1.

    Source: Bianchi, Grattarola, Livi, Alippi, TNNLS 2020 (arXiv:1910.11436), which calls it a pyramid.
    """

    def __init__(self, pooler: str | HardPooling, levels: int = 1, **options: Any) -> None:
        if not isinstance(pooler, HardPooling):
            if pooler not in HARD_POOLERS:
                names = ", ".join(map(repr, sorted(HARD_POOLERS)))
                raise ValueError(f"pooler must be a layer or one of {names}, got {pooler!r}")
            pooler = HARD_POOLERS[pooler](**options)
        elif options:
            raise ValueError(f"options must be given with the name of a pooler, got {', '.join(options)}")
        if next(pooler.parameters(), None) is not None:
            raise ValueError(f"pooler must have no parameters, which training would change, got {pooler}")
        self.pooler, self.levels = pooler, check_count("levels", levels)

    def __call__(self, data: Any) -> Any:
        """``data`` with its levels; see the class."""
        if isinstance(data, RaggedGraph):
            return self.pyramid(data)
        if hasattr(data, "graphs"):
            return dataclasses.replace(data, graphs=tuple(map(self, data.graphs)))
        if isinstance(getattr(data, "adj", None), RaggedGraph):
            return dataclasses.replace(data, levels=self.pyramid(data.adj))
        pooled = copy.copy(data)
        use = features_of_pyg(data) if self.pooler.pools_edge_attr else None
        pooled.levels = self.pyramid(RaggedGraph.from_pyg(data, edge_attr=use))
        return pooled

    @torch.no_grad()
    def pyramid(self, graph: RaggedGraph) -> tuple[Level, ...]:
        """The levels of a batch of graphs."""
        found = []
        for _ in range(self.levels):
            out = self.pooler(torch.zeros(graph.num_nodes, 0, device=graph.device), graph)
            found.append(Level(out.so, out.graph))
            graph = out.graph
        return tuple(found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pooler}, levels={self.levels})"
