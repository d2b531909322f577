"""Graphs in one block of memory, of which batches are taken without a loop over graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hierpool.data.graphs import Graph, RaggedBatch, collate_ragged
from hierpool.graph.blocks import graphs_at, levels_at


class PackedGraphs:
    """All graphs one after the other.

    ``DataLoader(range(len(graphs)), collate_fn=packed.batch)`` of :mod:`torch.utils.data` takes batches of them, also
    in worker processes.

    Args:
        graphs: at least one graph; all have the same number of features, and levels or none of them has. They are
            copied: later changes of their tensors are not followed.

    Raises:
        ValueError: ``graphs`` is empty, or their levels are not equally many.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.whole = collate_ragged(graphs)

    def batch(self, index: Sequence[int] | Tensor) -> RaggedBatch:
        """The graphs at ``index`` as a batch, which is that of :func:`hierpool.data.collate_ragged`."""
        x, graph, y, levels = self.whole
        places = torch.as_tensor(index, dtype=torch.int64, device=graph.device)
        chosen, nodes = graphs_at(graph, places)
        return RaggedBatch(
            x.index_select(0, nodes),
            chosen,
            y.index_select(0, places.to(y.device)),
            levels_at(levels, places),
        )
