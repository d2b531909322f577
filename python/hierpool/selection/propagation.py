"""Labels of all nodes from those of some."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool._hashes import node_hash
from hierpool.graph import RaggedGraph
from hierpool.graph.pairs import check_numbers, rows_of
from hierpool.selection import _shared


def propagate(
    graph: RaggedGraph, label: Tensor, *, hops: int = 5, seed: int = 0, backend: str = "auto"
) -> Tensor:
    r"""Spread labels from the nodes that have one to all nodes of their graph.

    In each of ``hops`` rounds, every node without a label gets the one that most edges bring to it, from nodes that had
    a label before the round; of labels that equally many bring, the smallest. A node that is not reached gets a label
    of its graph by a hash of ``seed`` and of the index of the node in its graph.

    Args:
        graph: a batch of graphs; its weights are ignored.
        label: label of each node in its graph, int64 or int32 ``[N]``, from 0, in the caller's order of nodes; -1:
            none. A graph with the largest label :math:`l` has the labels 0 to :math:`l`.
        hops: at least 1.
        seed: selects the labels of nodes that are not reached.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        int64 ``[N]``, in the caller's order; -1 only in graphs without labels.

    Raises:
        TypeError: ``graph`` is not a :class:`hierpool.RaggedGraph`, ``label`` is not a tensor of integers, or ``hops``
            or ``seed`` is no int.
        ValueError: ``label`` has the wrong shape or device or is less than -1, or ``hops`` is less than 1.

    Source: the assignment of Abate and Bianchi, "MaxCutPool: differentiable feature-aware Maxcut for pooling in graph
    neural networks", ICLR 2025 (arXiv:2409.05100), which draws the labels of nodes that are not reached.
    """
    _shared.check_graph(graph)
    hops, seed = _shared.check_count("hops", hops), _shared.check_seed(seed)
    label = check_numbers("label", label, "[N]", graph.num_nodes, rows_of(graph))
    if label.numel() and int(label.min()) < -1:
        raise ValueError(f"label must be at least -1, got {int(label.min())}")
    label = graph.in_graph_order(label)
    rowptr, col = (graph.rowptr, graph.col) if graph.is_symmetric else graph.transposed()[:2]
    of_node = graph.graph_of_node()
    count = torch.zeros(graph.num_graphs, dtype=torch.int64, device=label.device)
    count = count.scatter_reduce(0, of_node, label + 1, "amax")[of_node]
    found = _shared.backend_of(graph.rowptr, backend).propagate(rowptr, col, label, hops)
    drawn = ((node_hash(graph.ptr, of_node, seed) >> 11) & ((1 << 53) - 1)) % count.clamp(min=1)
    return graph.in_callers_order(torch.where((found < 0) & (count > 0), drawn, found))
