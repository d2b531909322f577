"""``hierpool::spmm``: the product of a batch of graphs with node features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator
from hierpool.ops.fallback import spmm as fallback

_VALUE, _X = 0, 1


class Spmm(Operator):
    """The transpose is absent where A equals it, or nobody needs it."""

    name = "spmm"
    schema = (
        "(Tensor? value, Tensor x, Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t, Tensor? value_t,"
        " bool transpose, str backend) -> Tensor"
    )
    backward_schema = (
        "(Tensor grad, Tensor? value, Tensor x, Tensor rowptr, Tensor col, Tensor? rowptr_t, Tensor? col_t,"
        " Tensor? value_t, bool transpose, bool need_value, bool need_x, str backend) -> (Tensor, Tensor)"
    )

    def forward(self, *args: Any) -> Tensor:
        return self.filler(args).forward(*args[:-1])

    def backward(self, *args: Any) -> tuple[Tensor, Tensor]:
        return self.filler(args).backward(*args[:-3], args[-3:-1])

    def forward_fake(self, *args: Any) -> Tensor:
        return args[_X].new_empty(args[_X].shape)

    def backward_fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        value, x, need_value, need_x = args[1], args[2], args[-3], args[-2]
        like = x if value is None else value
        return (
            like.new_empty(value.shape if need_value and value is not None else (0,)),
            x.new_empty(x.shape if need_x else (0,)),
        )

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:-2])
        ctx.transpose, ctx.backend = inputs[-2:]

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        need_value, need_x = ctx.needs_input_grad[:2]
        dvalue, dx = backward(grads[0], *ctx.saved_tensors, ctx.transpose, need_value, need_x, ctx.backend)
        return dvalue if need_value else None, dx if need_x else None, *(None,) * 7

    def plain(self, *args: Any) -> Tensor:
        return fallback.forward(*args)


_spmm = Spmm().register()


def spmm(graph: RaggedGraph, x: Tensor, *, transpose: bool = False, backend: str = "auto") -> Tensor:
    r"""The product :math:`A X` of a batch of graphs with node features: sums over the neighbours of each node.

    Row i of the result sums over the edges that leave node i; PyTorch Geometric's messages, from source to target,
    are ``transpose=True``. Sums are taken in float32, or float64 if an input is. No tensor of the size of edges times
    features is made in forward or backward, and results do not depend on the number of threads.

    Args:
        graph: :math:`A`, :math:`N` nodes.
        x: :math:`X`, ``[N, F]``, in the caller's order of nodes; float64, float32, bfloat16 or float16.
        transpose: multiply by :math:`A^T`.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[N, F]``, the dtype of ``x``. Gradients flow to ``x`` and ``graph.value``; a second derivative raises, and
        :func:`hierpool.reference.spmm` has them. Transforms of ``torch.func`` and forward-mode AD run on that
        reference.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: shapes or devices disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.
    """
    _checks.check_features(graph, x)
    if not isinstance(transpose, bool):
        raise TypeError(f"transpose must be True or False, got {transpose!r}")
    backends.check_name(backend)
    value = graph.value
    needs_x = x.requires_grad
    differentiable = torch.is_grad_enabled() and (needs_x or (value is not None and value.requires_grad))
    turned = not graph.is_symmetric and (transpose or (needs_x and differentiable))
    arrays = graph.transposed() if turned else (None, None, None)
    args = (value, graph.in_graph_order(x), graph.rowptr, graph.col, *arrays, transpose, backend)
    return graph.in_callers_order(_spmm(args, differentiable))
