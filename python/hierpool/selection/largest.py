"""The nodes of each graph with the largest scores."""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool.contract import ContractOptions, Links, exact_ratio, ranges_of
from hierpool.graph import RaggedGraph
from hierpool.reference.scored_pool import Scored, Selected
from hierpool.selection import _shared

_exact_ratio = lru_cache(maxsize=64)(exact_ratio)


class Kept(NamedTuple):
    """Nodes that are kept, graph by graph."""

    nodes: Tensor  # int64 [K], in the caller's numbering of nodes
    ptr: Tensor  # int64 [B + 1]: the first of each graph


def topk(
    score: Tensor,
    graph: RaggedGraph | Tensor,
    *,
    ratio: float | None = None,
    k: int | None = None,
    min_score: float | None = None,
    backend: str = "auto",
) -> Kept:
    r"""The nodes of each graph with the largest scores.

    Give one of ``ratio``, ``k`` and ``min_score``. Of a graph with :math:`n_b` nodes these keep

    * ``ratio``: the first :math:`\lceil \mathrm{ratio} \cdot n_b \rceil` nodes, computed exactly;
    * ``k``: the first :math:`\min(k, n_b)` nodes;
    * ``min_score``: the nodes whose score is larger than ``min_score``, or that have the largest score of the graph if
      there are none.

    Args:
        score: ``[N]``, in the caller's order of nodes.
        graph: the batch, or the first node of each graph, int64 ``[B + 1]``.
        ratio: in (0, 1].
        k: at least 1.
        min_score: the bound.
        backend: ``"auto"`` or the name of a backend.

    Returns:
        The nodes, graph by graph: by descending score, equal scores by their index; with ``min_score`` by their index.
        Waits for the device to know their number.

    Raises:
        TypeError: ``score`` is not a real tensor, ``graph`` is neither a :class:`hierpool.RaggedGraph` nor int64, or
            ``ratio``, ``k`` or ``min_score`` is no number.
        ValueError: not exactly one of the three is given, or it is out of range, or ``score`` has the wrong shape or
            device, or contains NaN.
    """
    if sum(given is not None for given in (ratio, k, min_score)) != 1:
        raise ValueError(
            f"exactly one of ratio, k and min_score must be given, got ratio={ratio}, k={k}, min_score={min_score}"
        )
    if ratio is not None:
        ratio = check_ratio(ratio)
    elif k is not None:
        k = _shared.check_count("k", k)
    else:
        min_score = _shared.check_number("min_score", min_score)
    ptr, order = _ptr_and_order(graph)
    nodes = graph.num_nodes if isinstance(graph, RaggedGraph) else int(ptr[-1])
    if min_score is not None:
        score = _shared.check_scores("score", score, nodes, "node", ptr.device)
        kept, counts = _above(score if order is None else score[order], ptr, min_score)
        return Kept(kept if order is None else order[kept], torch.cat([ptr[:1], counts.cumsum(0)]))
    score = _shared.as_scores("score", score, nodes, "node", ptr.device)
    kept, first, valid = _shared.backend_of(score, backend).topk(score, ptr, order, *_counts(ratio, k))
    if not valid:
        raise _shared.nan_error("score", score)
    return Kept(kept, first)


def pool_of_topk(
    rows: Scored,
    graph: RaggedGraph,
    module: ModuleType,
    links: Links,
    value: Tensor | None,
    options: ContractOptions,
    *,
    ratio: float,
    k: int | None,
) -> Selected:
    """The nodes of :func:`topk`, each a cluster, and the graph of these, by one call of a backend.

    Args:
        rows: of the nodes, in the order of the matrix.
        graph: see :func:`topk`.
        module: the backend.
        links: the entries of the graph.
        value: their weights, detached.
        options: how the graph is contracted.
        ratio, k: see :func:`topk`; ``ratio`` is not used if ``k`` is given.
    """
    found: Selected = module.topk_pool(rows, links, value, graph.ptr, *_counts(ratio, k), options)
    if found.assigned is None:
        raise _shared.nan_error("score", graph.in_callers_order(found.score))
    return found


def _counts(ratio: float | None, k: int | None) -> tuple[int, int, int]:
    """``over``, ``under`` and ``most`` of a backend's ``topk``."""
    if k is not None:
        return 1, 1, k
    assert ratio is not None
    return (*_exact_ratio(ratio), _shared.LARGEST)


def check_ratio(ratio: Any, hint: str = "", name: str = "ratio") -> float:
    """``ratio`` if it is a number in (0, 1]; else an error, whose message ends with ``hint``."""
    number = _shared.check_number(name, ratio)
    if not 0 < number <= 1:
        raise ValueError(f"{name} must be in (0, 1], got {ratio}{hint}")
    return number


def _ptr_and_order(graph: RaggedGraph | Tensor) -> tuple[Tensor, Tensor | None]:
    """The first node of each graph, and the caller's number of each node."""
    if isinstance(graph, RaggedGraph):
        return graph.ptr, graph.order
    if not isinstance(graph, Tensor) or graph.dtype is not torch.int64:
        given = graph.dtype if isinstance(graph, Tensor) else type(graph).__name__
        raise TypeError(f"graph must be a RaggedGraph or an int64 tensor of first nodes, got {given}")
    if graph.dim() != 1 or not graph.numel():
        raise ValueError(f"graph must have shape [B + 1] if it is a tensor, got {list(graph.shape)}")
    if int(graph[0]) != 0 or bool((graph.diff() < 0).any()):
        raise ValueError("graph must ascend from 0 if it is a tensor of first nodes")
    return graph.contiguous(), None


def _above(score: Tensor, ptr: Tensor, min_score: float) -> tuple[Tensor, Tensor]:
    """The nodes above ``min_score``, or the best of each graph, and their number in each graph."""
    graph_of_node = ranges_of(ptr, score.numel())
    graphs = ptr.numel() - 1
    best = score.new_full((graphs,), -torch.inf).scatter_reduce(0, graph_of_node, score, "amax")[
        graph_of_node
    ]
    kept = torch.where(best > min_score, score > min_score, score == best)
    return kept.nonzero()[:, 0], torch.bincount(graph_of_node[kept], minlength=graphs)
