"""``hierpool::total_variation``: how much rows of S differ over the edges of a batch of graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator
from hierpool.ops.fallback import total_variation as fallback
from hierpool.reference.soft_pool_dense import accumulation_dtype

# A padded batch has adj [B, N, N]; a ragged one rowptr, col and ptr, its entries (or None: all 1) as adj, and the
# transpose, which is absent where A equals it, or nobody needs it.
_ARGUMENTS = (
    "Tensor s, Tensor? adj, Tensor? rowptr, Tensor? col, Tensor? ptr, Tensor? mask, Tensor? num_nodes,"
    " Tensor? rowptr_t, Tensor? col_t, Tensor? value_t"
)


class TotalVariation(NamedTuple):
    """What :func:`total_variation` returns.

    Attributes:
        variation: of each graph, ``[B]``.
        entries: the number of entries of each graph that are not 0, ``[B]``, the dtype of ``variation``.
    """

    variation: Tensor
    entries: Tensor


class _TotalVariation(Operator):
    name = "total_variation"
    schema = f"({_ARGUMENTS}, str backend) -> (Tensor variation, Tensor entries)"
    backward_schema = (
        f"(Tensor dvariation, {_ARGUMENTS}, bool need_s, bool need_adj, str backend) -> (Tensor, Tensor)"
    )

    def forward(self, *args: Any) -> tuple[Tensor, Tensor]:
        s, num_nodes = args[0], args[6]
        if num_nodes is not None:
            _checks.check_values(s.size(1), num_nodes, None)
        output: tuple[Tensor, Tensor] = self.filler(args).forward(*args[:-1])
        return output

    def backward(self, *args: Any) -> tuple[Tensor, Tensor]:
        grads: tuple[Tensor, Tensor] = self.filler(args).backward(*args[:-3], args[-3:-1])
        return grads

    def forward_fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        s, adj, ptr = args[0], args[1], args[4]
        acc = accumulation_dtype(s, s if adj is None else adj)
        graphs = s.size(0) if ptr is None else ptr.numel() - 1
        return s.new_empty(graphs, dtype=acc), s.new_empty(graphs, dtype=acc)

    def backward_fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        s, adj = args[1:3]
        need_s, need_adj = args[-3:-1]
        ds = s.new_empty(s.shape if need_s else (0,))
        if adj is None:
            return ds, s.new_empty(args[4].shape if need_adj else (0,))
        return ds, adj.new_empty(adj.shape if need_adj else (0,))

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:-1])
        ctx.backend = inputs[-1]
        ctx.mark_non_differentiable(output[1])

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        need_s, need_adj = ctx.needs_input_grad[:2]
        others = (None,) * (len(ctx.needs_input_grad) - 2)
        if grads[0] is None:
            return None, None, *others
        ds, dadj = backward(grads[0], *ctx.saved_tensors, need_s, need_adj, ctx.backend)
        return ds if need_s else None, dadj if need_adj else None, *others

    def plain(self, *args: Any) -> tuple[Tensor, Tensor]:
        return fallback.forward(*args)


_operator = _TotalVariation().register()


def total_variation(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    backend: str = "auto",
) -> TotalVariation:
    r"""How much an assignment changes along the edges of each graph: the graph total variation of :math:`S`.

    .. math::
        \mathrm{variation}_b = \sum_{i, j} A_{ij} \, \lVert s_i - s_j \rVert_1, \quad
        \mathrm{entries}_b = |\{(i, j): A_{ij} \ne 0\}|

    over the valid nodes of graph :math:`b`; an edge that is stored in both directions counts twice. With ``L1`` norms
    the derivative is :math:`\sum_j (A_{ij} + A_{ji}) \, \mathrm{sign}(s_i - s_j)`, where :math:`\mathrm{sign}(0) = 0`.
    No temporary of ``N x N`` or of edges times clusters is made in forward or backward: time is :math:`O(E K)`, beside
    that of reading a dense :math:`A`, memory that of ``s``.

    Args:
        s: :math:`S`, ``[B, N, K]``; float64, float32, bfloat16 or float16. With a ragged graph ``[N, K]`` for all its
            nodes, in the caller's order.
        adj: adjacency :math:`A`, a :class:`hierpool.RaggedGraph` or ``[B, N, N]``; weights of any sign, directed or
            not; a floating dtype, or bool, int8 or uint8 with values used as they are. A tensor is read where it lies,
            without a copy, if its last dimension is contiguous.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects
            rows of ``s`` and rows and columns of ``adj``.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        ``(variation, entries)``, both ``[B]``: float64 if ``s`` or ``adj`` is, else float32. Gradients of the variation
        flow to ``s``, and to all valid pairs of ``adj``, zeros included, or the values of the ragged graph; ``entries``
        has none. Results do not depend on the number of threads. A second derivative raises;
        :func:`hierpool.reference.total_variation` has them, and transforms of ``torch.func`` and forward-mode AD run on
        it.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: shapes, devices or values disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.

    Source: the loss of Hansen and Bianchi, "Total Variation Graph Neural Networks", ICML 2023 (arXiv:2211.06218).
    """
    if isinstance(adj, RaggedGraph):
        _checks.check_link_ragged(s, adj, mask=mask, num_nodes=num_nodes)
    else:
        _checks.check_link(s, adj, mask, num_nodes)
    backends.check_name(backend)
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    entries = adj.value if isinstance(adj, RaggedGraph) else adj
    learned = entries is not None and entries.requires_grad
    differentiable = torch.is_grad_enabled() and (s.requires_grad or learned)
    rows = s
    structure: tuple[Tensor | None, ...] = (None, None, None)
    transpose: tuple[Tensor | None, ...] = (None, None, None)
    if isinstance(adj, RaggedGraph):
        rows, structure = adj.in_graph_order(s), (adj.rowptr, adj.col, adj.ptr)
        if differentiable and s.requires_grad and not adj.is_symmetric:
            transpose = adj.transposed()
    args = (rows, entries, *structure, mask, num_nodes, *transpose, backend)
    return TotalVariation(*_operator(args, differentiable))
