"""``hierpool::edge_distances``: the distance between the rows at the two ends of each edge."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import Csr
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    backend: str


class Call(NamedTuple):
    """The arguments."""

    x: Tensor  # [N, F]
    adj: Csr  # without values
    source: Tensor | None  # [E]: the entry of A for each entry of the transpose; the backward reads it
    options: Options


class Out(NamedTuple):
    """The result."""

    distance: Tensor  # [E]


class Upstream(NamedTuple):
    """Its gradient."""

    distance: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any


class EdgeDistances(Operator):
    """The operator of edge distances."""

    def shapes(self, call: Call) -> Out:
        return Out(call.x.new_empty(call.adj.col.shape))

    def composite(self, call: Call) -> Out:
        return Out(reference.edge_distances(call.adj.rowptr, call.adj.col, call.x))


OPERATOR = EdgeDistances()


def edge_distances(graph: RaggedGraph, x: Tensor, *, backend: str = "auto") -> Tensor:
    r"""The distance :math:`\lVert x_i - x_j \rVert_1` between the ends of every edge of a batch of graphs.

    If :math:`g_{ij}` is the gradient of edge :math:`(i, j)`, the gradient of :math:`x_i` is
    :math:`\sum_j (g_{ij} + g_{ji}) \, \mathrm{sign}(x_i - x_j)` with :math:`\mathrm{sign}(0) = 0`. Sums are taken in
    float32, or in float64 if ``x`` is float64. Neither forward nor backward allocates a tensor of ``E x F`` elements.
    Results do not depend on the number of threads.

    Args:
        graph: a batch of graphs with :math:`N` nodes and :math:`E` edges; edge weights are not used.
        x: :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[E]`` in the order of ``graph.row`` and ``graph.col``, in the dtype of ``x``. Gradients flow to ``x``. Second
        derivatives, transforms of ``torch.func`` and forward-mode AD run on :func:`hierpool.reference.edge_distances`.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape or device is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.
    """
    _checks.check_features(graph, x)
    backends.check_name(backend)
    differentiable = torch.is_grad_enabled() and x.requires_grad
    rowptr_t, col_t, source = graph.reversed_entries() if differentiable else (None, None, None)
    adj = Csr(None, graph.rowptr, graph.col, rowptr_t, col_t)
    (distance,) = OPERATOR(Call(graph.in_graph_order(x), adj, source, Options(backend)))
    return distance
