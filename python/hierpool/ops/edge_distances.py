"""``hierpool::edge_distances``: how far apart the rows at the two ends of each edge are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator
from hierpool.ops.fallback import edge_distances as fallback

_ARGUMENTS = (
    "Tensor x, Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? source, str backend"
)


class EdgeDistances(Operator):
    """``source`` is the entry that each one of the transpose comes from, which the backward alone needs."""

    name = "edge_distances"
    schema = f"({_ARGUMENTS}) -> Tensor"
    backward_schema = f"(Tensor grad, {_ARGUMENTS}) -> Tensor"

    def forward(self, *args: Any) -> Tensor:
        return self.filler(args).forward(*args[:-1])

    def backward(self, *args: Any) -> Tensor:
        return self.filler(args).backward(*args[:-1])

    def forward_fake(self, *args: Any) -> Tensor:
        x, _, col = args[:3]
        return x.new_empty(col.shape)

    def backward_fake(self, *args: Any) -> Tensor:
        return args[1].new_empty(args[1].shape)

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.backend = inputs[-1]

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        return backward(grads[0], *ctx.saved_tensors, ctx.backend), *(None,) * 6

    def plain(self, *args: Any) -> Tensor:
        return fallback.forward(*args)


_operator = EdgeDistances().register()


def edge_distances(graph: RaggedGraph, x: Tensor, *, backend: str = "auto") -> Tensor:
    r"""The distance :math:`\lVert x_i - x_j \rVert_1` of the ends of every edge of a batch of graphs.

    With ``grad`` that of edge :math:`(i, j)`, the derivative is
    :math:`\sum_j (\mathrm{grad}_{ij} + \mathrm{grad}_{ji}) \, \mathrm{sign}(x_i - x_j)`, where
    :math:`\mathrm{sign}(0) = 0`. Sums are taken in float32, or float64 if ``x`` is. No tensor of the size of edges
    times features is made in forward or backward, and results do not depend on the number of threads.

    Args:
        graph: the edges, over :math:`N` nodes; their weights are not read.
        x: :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[E]``, in the order of ``graph.row`` and ``graph.col``, the dtype of ``x``. Gradients flow to ``x``; a second
        derivative raises, and :func:`hierpool.reference.edge_distances` has them. Transforms of ``torch.func`` and
        forward-mode AD run on that reference.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.
    """
    _checks.check_features(graph, x)
    backends.check_name(backend)
    differentiable = torch.is_grad_enabled() and x.requires_grad
    reverse = graph.reversed_entries() if differentiable else (None, None, None)
    args = (graph.in_graph_order(x), graph.rowptr, graph.col, *reverse, backend)
    distances: Tensor = _operator(args, differentiable)
    return distances
