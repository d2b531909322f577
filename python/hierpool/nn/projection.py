"""Poolers that assign nodes by the scores of a linear map, in one pass over the features."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hierpool._tracing import is_traced, is_transformed
from hierpool.contract import Links
from hierpool.graph import RaggedGraph
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.ops import scored_pool
from hierpool.ops._contraction import not_triton
from hierpool.reference.scored_pool import Scored
from hierpool.reference.scored_pool import Selected as ByScores


def is_projected(layer: HardPooling, kind: type[HardPooling], x: Tensor, weight: Tensor) -> bool:
    """Whether the features that ``layer`` pools are sums of what the operator computes.

    ``kind``: the class whose methods it replaces; a subclass may have others.
    """
    return (
        type(layer) is kind
        and layer.reduce == "sum"
        and x.dtype is weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not is_traced()
        and not is_transformed()
        and not torch.is_autocast_enabled(x.device.type)
    )


def pooled_by_projection(
    layer: HardPooling,
    nodes: Scored,
    graph: RaggedGraph,
    links: Links,
    select: Callable[..., ByScores],
    is_injective: bool,
) -> tuple[Selected, Tensor, RaggedGraph]:
    """What ``layer`` selects, the features of its supernodes, and the coarsened graph.

    Args:
        layer: the layer.
        nodes: its features, by node, and how it scores them.
        graph: the graph of these nodes.
        links: the entries that the selection reads.
        select: what finds clusters; called with the rows of the matrix, the graph, and the arguments of a
            ``Selection``.
        is_injective: whether each cluster is one node.
    """
    rows = nodes._replace(x=graph.in_graph_order(nodes.x))
    found, assignment, coarse = layer._selected_graph(
        graph, links, partial(select, rows, graph), is_injective
    )
    x, weight, bias, activation, is_unit, multiplier = rows
    how = scored_pool.Options(activation, is_unit, multiplier, not_triton(layer.backend))
    call = scored_pool.Call(x, weight, bias, found.score, *assignment.clusters(), how)
    known = None if found.y is None else scored_pool.Out(found.y, found.score)
    features, score = scored_pool.OPERATOR(call, known=known)
    score = graph.in_callers_order(score)
    weighted = assignment._weighted_by_node(score if multiplier == 1 else score * multiplier)
    return Selected(weighted, score), features, coarse
