"""Argument checks and the arguments of backends."""

from __future__ import annotations

from numbers import Integral, Real
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool.contract import Links
from hierpool.graph import RaggedGraph
from hierpool.graph.facts import normally
from hierpool.graph.values import ones_or_values

LARGEST = 2**63 - 1  # of int64


def backend_of(t: Tensor, backend: str = "auto") -> ModuleType:
    """The module of a backend for tensors on the device of ``t``."""
    module = backends.module("selection", t.device.type, backend)
    assert module is not None
    return module


def check_graph(graph: Any) -> None:
    """Raise ``TypeError`` unless ``graph`` is a RaggedGraph."""
    if not isinstance(graph, RaggedGraph):
        raise TypeError(f"graph must be a RaggedGraph, got {type(graph).__name__}")


def check_count(name: str, value: Any) -> int:
    """``value`` if it is an integer of at least 1; one that is larger than every index is as good as the largest."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return min(int(value), LARGEST)


def check_seed(seed: Any) -> int:
    """``seed`` modulo 2^64, as int64: ``torch.initial_seed()`` may be larger."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed must be an int, got {type(seed).__name__}")
    return (int(seed) + LARGEST + 1) % 2**64 - LARGEST - 1


def check_number(name: str, value: Any) -> float:
    """``value`` if it is a real number."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}")
    if value != value:
        raise ValueError(f"{name} must not be NaN")
    return float(value)


def check_probability(name: str, value: Any) -> float:
    """``value`` if it is a number in [0, 1]."""
    number = check_number(name, value)
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return number


def check_scores(name: str, scores: Any, count: int, per: str, device: torch.device) -> Tensor:
    """``scores`` detached, as float32 or float64 ``[count]``, in which every value is a number."""
    scores = as_scores(name, scores, count, per, device)
    if bool(scores.isnan().any()):
        raise nan_error(name, scores)
    return scores


def nan_error(name: str, scores: Tensor) -> ValueError:
    """The exception for scores of which one is NaN."""
    return ValueError(f"{name} must not contain NaN, but element {int(scores.isnan().nonzero()[0])} is NaN")


def as_scores(name: str, scores: Any, count: int, per: str, device: torch.device) -> Tensor:
    """``scores`` detached, as float32 or float64 ``[count]``."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(scores).__name__}")
    if scores.is_complex():
        raise TypeError(f"{name} must be real, got dtype {str(scores.dtype).removeprefix('torch.')}")
    if scores.shape != (count,):
        raise ValueError(
            f"{name} must have shape [{count}], one score for each {per}, got {list(scores.shape)}"
        )
    if scores.device != device:
        raise ValueError(f"{name} must be on {device}, got {scores.device}")
    exact = scores.dtype in (torch.float64, torch.int64, torch.int32)  # float32 has 24 bits
    return scores.detach().to(torch.float64 if exact else torch.float32).contiguous()


def links(graph: RaggedGraph, is_symmetric: bool) -> Links:
    """The entries that join each node with others, where ``is_symmetric`` says whether those of its row are all."""
    transpose = () if is_symmetric else normally(graph.reversed_entries)
    return Links(graph.rowptr, graph.col, *transpose)


def callers_nodes(graph: RaggedGraph, node_of_node: Tensor) -> Tensor:
    """A node or -1 for each node, from the numbering of the matrix to the caller's."""
    if graph.order is None:
        return node_of_node
    found = torch.where(node_of_node < 0, -1, graph.order[node_of_node.clamp(min=0)])
    return graph.in_callers_order(found)


def sum_of_directions(graph: RaggedGraph) -> RaggedGraph:
    """:math:`A + A^T` of a directed graph, in float64, in the order of its matrix."""
    weight = ones_or_values(graph, torch.float32).detach()
    ends = torch.stack([torch.cat([graph.row, graph.col]), torch.cat([graph.col, graph.row])])
    both = weight.double().repeat(2)
    return RaggedGraph.from_edge_index(ends, graph.num_nodes, edge_weight=both, ptr=graph.ptr, symmetric=True)
