"""What clustering needs of a graph, whether one process has it or several share it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.data import LargeGraph
from hierpool.data.fingerprints import fingerprint
from hierpool.data.loader import epoch_generator
from hierpool.distributed import ShardedGraph
from hierpool.distributed.ranks import Ranks

Graph = RaggedGraph | ShardedGraph
_BLOCK, _LEAST_COLUMNS = 1 << 22, 16  # elements, and columns, that are multiplied at a time
_ROWS = 1 << 14  # nodes that draw their random numbers together


def total(graph: Graph, values: Tensor) -> Tensor:
    """The sum over the processes that share a graph."""
    return graph.total(values) if isinstance(graph, ShardedGraph) else values


def count_nodes(graph: Graph) -> int:
    """Nodes of the graph in all processes."""
    return graph.total_nodes if isinstance(graph, ShardedGraph) else graph.num_nodes


def count_entries(graph: Graph) -> int:
    """Entries of the graph in all processes."""
    return graph.total_edges if isinstance(graph, ShardedGraph) else graph.num_edges


def largest(graph: Graph, value: float) -> float:
    """The largest of the numbers of the processes."""
    return max(graph.ranks.objects(value)) if isinstance(graph, ShardedGraph) else value


def columns_at_a_time(nodes: int, channels: int) -> int:
    """Columns of features that a process with so many nodes multiplies at a time, as rows of the halo take memory."""
    return min(channels, max(_LEAST_COLUMNS, _BLOCK // max(nodes, 1)))


def random_rows(graph: Graph, channels: int, seed: int) -> Tensor:
    """Random numbers ``[n, channels]`` of the nodes of this process.

    Blocks of nodes have generators of their own, so that every number of processes gets the same numbers, and none
    draws those of all nodes.
    """
    low = graph.low if isinstance(graph, ShardedGraph) else 0
    out = torch.empty(graph.num_nodes, channels)
    done = 0
    while done < out.size(0):
        block, skipped = divmod(low + done, _ROWS)
        rows = out[done : done + _ROWS - skipped]
        generator = epoch_generator(seed, block)
        if skipped or rows.size(0) < _ROWS:
            rows.copy_(torch.randn(_ROWS, channels, generator=generator)[skipped : skipped + rows.size(0)])
        else:
            rows.normal_(generator=generator)
        done += rows.size(0)
    return out


def rows_at(graph: Graph, rows: Tensor, nodes: Tensor) -> Tensor:
    """Rows of some nodes of all processes, ascending, ``[m, F]``, in each of them, from ``rows [n, F]``."""
    if isinstance(graph, RaggedGraph):
        return rows[nodes]
    own = nodes[(nodes >= graph.low) & (nodes < graph.low + graph.num_nodes)] - graph.low
    bounds = torch.searchsorted(nodes, graph.offsets)
    return graph.ranks.gather(rows[own], bounds.diff().tolist())


def share(ranks: Ranks, load: Callable[[], LargeGraph]) -> LargeGraph:
    """Load a graph in the first process, and split its nodes, with their features and labels, among all of them.

    The first process keeps ids and names of all nodes.

    Raises:
        ValueError, OSError, ImportError, RuntimeError, MemoryError: in all processes, if the first cannot load it.
    """
    data: list[LargeGraph] = []

    def facts() -> dict[str, Any]:
        if ranks.rank:
            return {}
        data.append(load())
        one = data[0]
        return {
            "name": one.name, "source": one.source, "notes": one.notes,
            "features": one.x is not None, "labels": one.labels is not None,
        }  # fmt: skip

    found = ranks.agree(facts, compared=())[0]
    whole = data.pop() if data else None
    graph = ShardedGraph.from_global(whole.graph if whole else None, group=ranks.group)
    if whole is not None:
        whole = whole._replace(graph=None)
    x = graph.scatter(whole.x if whole else None) if found["features"] else None
    labels = graph.scatter(whole.labels if whole else None) if found["labels"] else None
    node_ids, names = (whole.node_ids, whole.names) if whole else (None, None)
    return LargeGraph(
        found["name"], graph, x, labels, node_ids, found["source"], found["notes"], names,
        known_fingerprint=fingerprint(graph, x),
    )  # fmt: skip


def whole_graph(graph: ShardedGraph) -> RaggedGraph | None:
    """The graph of all processes in the first of them; ``None`` in the others."""
    counts = [int(count) for count in graph.ranks.objects(graph.num_edges)]
    row, col = (graph.ranks.gather(t, counts, 0) for t in (graph.row + graph.low, graph.col))
    value = None if graph.value is None else graph.ranks.gather(graph.value, counts, 0)
    if graph.ranks.rank:
        return None
    ends = torch.stack([row, col])
    return RaggedGraph.from_edge_index(
        ends, graph.total_nodes, edge_weight=value, symmetric=graph.is_symmetric
    )
