"""``hierpool::spmm``: the product of a batch of graphs with node features."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import Csr
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks, _sharded_product
from hierpool.ops._operator import NothingSaved, Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    transpose: bool
    backend: str


class Call(NamedTuple):
    """The arguments. A matrix that is not square has its transpose."""

    x: Tensor  # [N, F]
    adj: Csr
    options: Options


class Out(NamedTuple):
    """The result."""

    y: Tensor  # [rows, F]


class Upstream(NamedTuple):
    """Its gradient."""

    y: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    value: Any


class Spmm(Operator):
    """The operator of sparse products."""

    def shapes(self, call: Call) -> Out:
        return Out(call.x.new_empty(_rows(call), call.x.size(1)))

    def composite(self, call: Call) -> Out:
        x, adj, options = call
        return Out(reference.spmm(adj.rowptr, adj.col, adj.value, x, options.transpose, _rows(call)))

    def backward(
        self, backend: ModuleType, call: Call, saved: NothingSaved, upstream: Upstream, needs: Leaves
    ) -> tuple[Any, ...]:
        """A product with the transpose, and products of rows at the entries (``sampled_product`` of the backend)."""
        x, adj, options = call
        dx = dvalue = None
        if needs.x:
            (dx,) = backend.forward(Call(upstream.y, adj, options._replace(transpose=not options.transpose)))
        if needs.value and adj.value is not None:
            left, right = (x, upstream.y) if options.transpose else (upstream.y, x)
            dvalue = backend.sampled_product(adj, left, right)
        return dx, dvalue


OPERATOR = Spmm()


def _rows(call: Call) -> int:
    """The number of rows of the product."""
    return call.adj.factor(call.options.transpose)[0].numel() - 1


def spmm(
    graph: RaggedGraph | ShardedGraph, x: Tensor, *, transpose: bool = False, backend: str = "auto"
) -> Tensor:
    r"""The product :math:`A X` of the adjacency of a batch of graphs with node features.

    Row i of the result is the sum over the edges that leave node i. The messages of PyTorch Geometric, from source to
    target, are computed with ``transpose=True``. Sums are taken in float32, or in float64 if an input is float64.
    Neither forward nor backward allocates a tensor of ``E x F`` elements. Results do not depend on the number of
    threads.

    Args:
        graph: :math:`A`, with :math:`N` nodes. For a :class:`hierpool.distributed.ShardedGraph`, ``x`` and the result
            have the rows of the nodes of the process, and there are no second derivatives.
        x: :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16.
        transpose: multiply by :math:`A^T`.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[N, F]`` in the dtype of ``x``. Gradients flow to ``x`` and ``graph.value``. Second derivatives, transforms of
        ``torch.func`` and forward-mode AD run on :func:`hierpool.reference.spmm`.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape or device is invalid; the message names the argument.
        RuntimeError: the named backend cannot run; the message gives the reason.
    """
    if isinstance(graph, ShardedGraph):
        return _sharded_product.sharded_spmm(graph, x, transpose, backend)
    _checks.check_features(graph, x)
    if not isinstance(transpose, bool):
        raise TypeError(f"transpose must be True or False, got {transpose!r}")
    backends.check_name(backend)
    needs_transpose = transpose or (torch.is_grad_enabled() and x.requires_grad)
    arrays = graph.transposed() if needs_transpose and not graph.is_symmetric else (None, None, None)
    adj = Csr(graph.value, graph.rowptr, graph.col, *arrays)
    (y,) = OPERATOR(Call(graph.in_graph_order(x), adj, Options(transpose, backend)))
    return graph.in_callers_order(y)
