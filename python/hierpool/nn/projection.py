"""Poolers that assign nodes by the scores of a linear map, in one pass over the features."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool._tracing import is_transformed
from hierpool.graph import Assignment, RaggedGraph
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.ops import scored_pool
from hierpool.ops._contraction import not_triton


class Projection(NamedTuple):
    """Scores of nodes, and the factors of their features, which are the scores times ``multiplier``."""

    weight: Tensor  # [F]
    bias: Tensor | None  # [1]
    activation: str  # a name in hierpool.ops.scored_pool.ACTIVATIONS
    is_unit: bool = False  # the weight is divided by its norm
    multiplier: float = 1.0


def is_projected(layer: HardPooling, kind: type[HardPooling], x: Tensor, weight: Tensor) -> bool:
    """Whether the features that ``layer`` pools are sums of what the operator computes.

    ``kind``: the class whose methods it replaces; a subclass may have others.
    """
    return (
        type(layer) is kind
        and layer.reduce == "sum"
        and x.dtype is weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not is_transformed()
        and not torch.is_autocast_enabled(x.device.type)
    )


def pooled_by_projection(
    layer: HardPooling,
    x: Tensor,
    graph: RaggedGraph,
    projection: Projection,
    assigned: Callable[[Tensor, RaggedGraph], Assignment],
) -> tuple[Selected, Tensor, RaggedGraph]:
    """What ``layer`` selects, the features of its supernodes, and the coarsened graph.

    ``assigned``: the assignment by the scores of all nodes, without weights.
    """
    weight, bias, activation, is_unit, multiplier = projection
    how = scored_pool.Options(activation, is_unit, multiplier, not_triton(layer.backend))
    with torch.no_grad():
        known = scored_pool.known_scores(x, weight, bias, how)
    assignment = assigned(known, graph)
    rows, of_row = graph.in_graph_order(x), graph.in_graph_order(known)
    features, score = scored_pool.OPERATOR(
        scored_pool.Call(rows, weight, bias, of_row, *assignment.clusters(), how)
    )
    score = graph.in_callers_order(score)
    weighted = assignment._weighted_by_node(score if multiplier == 1 else score * multiplier)
    return Selected(weighted, score), features, layer._pooled_graph(None, graph, assignment).graph
