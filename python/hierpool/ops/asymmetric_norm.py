"""``hierpool::asymmetric_norm``: the balance term of the asymmetric Cheeger cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import seen
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator, transformed
from hierpool.ops.fallback import asymmetric_norm as fallback
from hierpool.reference.soft_pool_dense import accumulation_dtype

_S, _PTR, _NUM_NODES = 0, 1, 3
# A padded batch has s [B, N, K]; a ragged one s [N, K] and ptr.
_STRUCTURE = "Tensor? ptr, Tensor? mask, Tensor? num_nodes"


class _AsymmetricNorm(Operator):
    """Saved for the backward: q, the row that its gradient goes to, and the derivative with respect to q."""

    name = "asymmetric_norm"
    schema = (
        f"(Tensor s, {_STRUCTURE}, str backend) -> (Tensor norm, Tensor quantile, Tensor row, Tensor slope)"
    )
    backward_schema = (
        f"(Tensor dnorm, Tensor s, Tensor quantile, Tensor row, Tensor slope, {_STRUCTURE}, str backend)"
        " -> Tensor"
    )

    def forward(self, *args: Any) -> tuple[Tensor, ...]:
        if args[_NUM_NODES] is not None:
            _checks.check_values(args[_S].size(1), args[_NUM_NODES], None)
        outputs: tuple[Tensor, ...] = self.filler(args).forward(*args[:-1])
        return outputs

    def backward(self, *args: Any) -> Tensor:
        ds: Tensor = self.filler(args).backward(*args[:-1])
        return ds

    def forward_fake(self, *args: Any) -> tuple[Tensor, ...]:
        s, ptr = args[_S], args[_PTR]
        b, k, acc = s.size(0) if ptr is None else ptr.size(0) - 1, s.size(-1), accumulation_dtype(s)
        return (
            s.new_empty((b,), dtype=acc),
            s.new_empty((b, k)),
            s.new_empty((b, k), dtype=torch.int64),
            s.new_empty((b, k), dtype=acc),
        )

    def backward_fake(self, *args: Any) -> Tensor:
        s: Tensor = args[1]
        return s.new_empty(s.shape)

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs[_S], *output[1:], *inputs[_PTR:-1])
        ctx.backend = inputs[-1]

    def setup_context(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        self.keep(ctx, inputs, output)
        ctx.mark_non_differentiable(*output[1:])

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        ds = None if grads[0] is None else backward(grads[0], *ctx.saved_tensors, ctx.backend)
        return ds, *(None,) * 4

    def plain(self, *args: Any) -> tuple[Tensor, ...]:
        return fallback.forward(*args)

    def norm(self, args: tuple[Any, ...], differentiable: bool) -> Tensor:
        """The first output."""
        if differentiable and not seen() and not transformed():
            return self._norm.apply(*args)[0]
        norm: Tensor = self(args, differentiable)[0]
        return norm

    def register(self) -> _AsymmetricNorm:
        super().register()
        self._norm: Any = self.make_function((0,))
        return self


_operator = _AsymmetricNorm().register()


def asymmetric_norm(
    s: Tensor,
    graph: RaggedGraph | None = None,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Asymmetric distance of every column of an assignment :math:`S` from its quantile, for each graph.

    .. math::
        \sum_{i, k} \mathrm{asym}(s_{ik} - q_k), \quad \mathrm{asym}(t) = \begin{cases} \rho\, t & t \ge 0 \\
        -t & t < 0 \end{cases}, \quad \rho = K - 1

    over the valid nodes of a graph, of which there are :math:`n`; :math:`q_k` is the
    :math:`\lfloor n / K \rfloor`-th largest entry of column :math:`k`, counted from 0, or the smallest one if there
    are not so many. Clusters of :math:`n / K` nodes each, with nothing between them, have the norm :math:`n (K - 1)`,
    of which the balance term of the asymmetric Cheeger cut takes the share.

    Quantiles are entries of :math:`S`, found exactly. No tensor of the size of ``s`` but its gradient is made, and
    results do not depend on the number of threads.

    Args:
        s: the assignment :math:`S` itself, no logits, ``[B, N, K]``; float64, float32, bfloat16 or float16. With a
            ragged graph ``[N, K]`` for all its nodes, in the caller's order.
        graph: the :class:`hierpool.RaggedGraph` whose nodes these are; its edges are not looked at.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid; may have holes. What ``s``
            holds in other rows is not used.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``[B]``: float64 if ``s`` is, else float32; 0 of a graph without nodes. The gradient to :math:`s_{ik}` is
        :math:`\rho` where :math:`s_{ik} \ge q_k` and -1 elsewhere, times that of the norm; the one through
        :math:`q_k`, less the sum of these over the column, goes to one row, the first whose entry is :math:`q_k`.
        NaN counts as the largest number: a graph that has one among its entries has the norm NaN, and so are the
        gradients to these entries and to the row of :math:`q_k`, or to a whole column where :math:`q_k` is NaN.
        A second derivative raises; :func:`hierpool.reference.asymmetric_norm` has them. Transforms of ``torch.func``
        and forward-mode AD run on that reference.

    Raises:
        TypeError: an argument has the wrong type, dtype or layout.
        ValueError: shapes, devices or values disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.

    Source: Hansen and Bianchi, Total Variation Graph Neural Networks, ICML 2023 (arXiv:2211.06218).
    """
    _checks.check_assignment(s, graph, mask, num_nodes)
    backends.check_name(backend)
    needs_grad = torch.is_grad_enabled() and s.requires_grad
    if graph is not None:
        return _operator.norm((graph.in_graph_order(s), graph.ptr, None, None, backend), needs_grad)
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    return _operator.norm((s, None, mask, num_nodes, backend), needs_grad)
