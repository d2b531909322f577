"""``hierpool::link_bce``: the binary cross-entropy between an adjacency and its soft assignment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from hierpool import backends
from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._operator import Gradients, Operator
from hierpool.ops.fallback import link_bce as fallback
from hierpool.reference.soft_pool_dense import accumulation_dtype

# A padded batch has adj [B, N, N]; a ragged one rowptr, col and ptr, and its entries (or None: all 1) as adj.
_ARGUMENTS = (
    "Tensor s, Tensor? adj, Tensor? rowptr, Tensor? col, Tensor? ptr, Tensor? mask, Tensor? num_nodes, float eps,"
    " str? normalize, bool symmetric"
)
_TENSORS = 7  # among them, the first


class _LinkBce(Operator):
    name = "link_bce"
    schema = f"({_ARGUMENTS}, str backend) -> Tensor"
    backward_schema = (
        f"(Tensor dloss, {_ARGUMENTS}, bool need_s, bool need_adj, str backend) -> (Tensor, Tensor)"
    )

    def forward(self, *args: Any) -> Tensor:
        s, num_nodes = args[0], args[6]
        if num_nodes is not None:
            _checks.check_values(s.size(1), num_nodes, None)
        loss: Tensor = self.filler(args).forward(*args[:-1])
        return loss

    def backward(self, *args: Any) -> tuple[Tensor, Tensor]:
        *arguments, need_s, need_adj, _ = args
        grads: tuple[Tensor, Tensor] = self.filler(args).backward(*arguments, (need_s, need_adj))
        return grads

    def forward_fake(self, *args: Any) -> Tensor:
        s, adj = args[:2]
        empty: Tensor = s.new_empty((), dtype=accumulation_dtype(s, s if adj is None else adj))
        return empty

    def backward_fake(self, *args: Any) -> tuple[Tensor, Tensor]:
        s, adj = args[1:3]
        need_s, need_adj = args[-3:-1]
        ds = s.new_empty(s.shape if need_s else (0,))
        return ds, (s if adj is None else adj).new_empty(adj.shape if need_adj else (0,))

    def keep(self, ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:_TENSORS])
        ctx.options, ctx.backend = inputs[_TENSORS:-1], inputs[-1]

    def gradients(self, ctx: Any, grads: Gradients, backward: Callable[..., Any]) -> Gradients:
        need_s, need_adj = ctx.needs_input_grad[:2]
        ds, dadj = backward(*grads, *ctx.saved_tensors, *ctx.options, need_s, need_adj, ctx.backend)
        others = len(ctx.needs_input_grad) - 2
        return ds if need_s else None, dadj if need_adj else None, *(None,) * others

    def plain(self, *args: Any) -> Tensor:
        return fallback.forward(*args)


_operator = _LinkBce().register()


def link_bce(
    s: Tensor,
    adj: Tensor | RaggedGraph,
    *,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    eps: float = 1e-7,
    normalize: Literal["valid", "numel"] | None = "valid",
    symmetric: bool | None = None,
    backend: str = "auto",
) -> Tensor:
    r"""Link loss of the original DiffPool code: the cross-entropy of :math:`A` under :math:`S S^T`.

    .. math::
        \frac{1}{c} \sum_b \sum_{i, j} -A_{ij} \log(q_{ij} + \epsilon) - (1 - A_{ij}) \log(1 - q_{ij} + \epsilon),
        \quad q_{ij} = \min(s_i \cdot s_j, 1)

    over the valid nodes of every graph. No ``N x N`` temporary is made in forward or backward: time is
    :math:`O(\sum_b n_b^2 K)`, memory that of ``s``. The derivative of :math:`\min(p, 1)` at 1 is 1/2, as that of
    ``torch.min`` in the original code.

    Args:
        s: the assignment :math:`S` itself, no logits (``record.s`` of :func:`hierpool.soft_pool`), ``[B, N, K]``;
            float64, float32, bfloat16 or float16; not negative. With a ragged graph ``[N, K]`` for all its nodes.
        adj: adjacency :math:`A`, a :class:`hierpool.RaggedGraph` or ``[B, N, N]``; weighted or not, directed or not,
            entries outside [0, 1] included; a floating dtype, or bool, int8 or uint8 with values used as they are. A
            tensor is read where it lies, without a copy, if its last dimension is contiguous. Pairs that a ragged
            graph does not store have the entry 0.
        mask: valid nodes of a padded batch, ``[B, N]``, any dtype, non-zero means valid; may have holes. It selects
            rows of ``s`` and rows and columns of ``adj``.
        num_nodes: number of valid nodes of a padded batch, ``[B]``: the first ``num_nodes[b]`` of graph ``b`` are
            valid. Exclusive with ``mask``.
        eps: :math:`\epsilon`, at least the smallest normal number of float32, 1.2e-38.
        normalize: the divisor :math:`c`. ``"valid"``: the pairs of valid nodes, :math:`\sum_b n_b^2`, as the
            original code. ``"numel"``: the entries of the padded adjacency, :math:`B N^2` (of a ragged graph, with
            the nodes of its largest one). ``None``: 1.
        symmetric: ``True`` promises that every :math:`A` equals its transpose, of which half is read then. A
            ragged graph knows: ``None`` with it.
        backend: ``"auto"``, ``"native"``, ``"triton"`` or ``"reference"``; see :func:`hierpool.explain`.

    Returns:
        0-d tensor, in nats: float64 if ``s`` or ``adj`` is, else float32; 0 without a pair, NaN where
        :math:`s_i \cdot s_j + \epsilon` is not positive. Gradients flow to ``s`` and to ``adj`` or the values of the
        ragged graph; results do not depend on the number of threads. A second derivative raises;
        :func:`hierpool.reference.link_bce` has them. Transforms of ``torch.func`` and forward-mode AD run on that
        reference.

    Raises:
        TypeError: an argument is not a tensor, or its dtype or layout is not supported.
        ValueError: shapes, devices or values disagree; the message names the argument.
        RuntimeError: a named backend cannot run here; the message says why.

    Source: ``SoftPoolingGcnEncoder.loss`` of the code of Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    if isinstance(adj, RaggedGraph):
        _checks.check_link_ragged(s, adj, mask=mask, num_nodes=num_nodes, symmetric=symmetric)
    else:
        _checks.check_link(s, adj, mask, num_nodes)
    backends.check_name(backend)
    _checks.check_choice("normalize", normalize, (None, "numel", "valid"))
    _checks.check_flag("symmetric", symmetric)
    if not isinstance(eps, (float, torch.SymFloat)):
        raise TypeError(f"eps must be a float, got {type(eps).__name__}")
    if not torch.finfo(torch.float32).tiny <= eps < float("inf"):
        raise ValueError(f"eps must be at least 1.2e-38, that of float32, and finite, got {eps}")
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    options = (mask, num_nodes, eps, normalize)
    if not isinstance(adj, RaggedGraph):
        return _run((s, adj, None, None, None, *options, symmetric is True, backend))
    sparse = (adj.in_graph_order(s), adj.value, adj.rowptr, adj.col, adj.ptr)
    return _run((*sparse, *options, adj.is_symmetric, backend))


def _run(args: tuple[Any, ...]) -> Tensor:
    needs_grad = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in args[:2])
    loss: Tensor = _operator(args, needs_grad)
    return loss
