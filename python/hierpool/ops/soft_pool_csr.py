"""``hierpool::soft_pool_csr``: the operator on ragged batches, whose adjacency is one sparse block-diagonal matrix."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hierpool.graph import RaggedGraph
from hierpool.ops import _checks
from hierpool.ops._soft_pool import SoftPoolOperator, options
from hierpool.ops.fallback import soft_pool_csr as fallback
from hierpool.reference.soft_pool_csr import CsrForward
from hierpool.reference.soft_pool_dense import accumulation_dtype


class SoftPoolCsr(SoftPoolOperator):
    """``edges`` are the entries of A, or None if all are 1; ``structure`` is where they are, the first node of each
    graph, and the transpose, which the backward needs unless A is symmetric. M is saved."""

    def __init__(self) -> None:
        super().__init__(
            "soft_pool_csr",
            "Tensor? value, Tensor rowptr, Tensor col, Tensor ptr, Tensor? rowptr_t, Tensor? col_t, Tensor? value_t",
            "bool",
            "Tensor m",
        )

    def forward_fake(self, *args: Any) -> tuple[Tensor, ...]:
        logits, x, value, ptr = args[0], args[1], args[2], args[5]
        want_gram, save = args[12], args[16]
        (n, k), b = logits.shape, ptr.numel() - 1
        acc = accumulation_dtype(logits, x, *(() if value is None else (value,)))
        empty = logits.new_empty
        gram_size = k if want_gram else 0
        return CsrForward(
            s=empty(n, k),
            x=x.new_empty(b, k, x.size(1)),
            adj=empty((b, k, k), dtype=acc),
            gram=empty((b, gram_size, gram_size), dtype=acc),
            vectors=empty((b, 2, k), dtype=acc),
            scalars=empty((b, 6), dtype=acc),
            total_entropy=empty((), dtype=acc),
            link_norm=empty((), dtype=acc),
            m=empty((n if save else 0, k), dtype=acc),
        )

    def plain(self, *args: Any) -> tuple[Tensor, ...]:
        return fallback.forward(*args)


soft_pool_csr = SoftPoolCsr()
soft_pool_csr.register()


def arguments(
    x: Tensor,
    graph: RaggedGraph,
    s: Tensor,
    assignment: str = "softmax",
    temperature: float | Tensor = 1.0,
    link_loss: str | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    backend: str = "auto",
    mean: bool = False,
    leaves: tuple[Tensor, ...] = (),
) -> tuple[Any, ...]:
    """Those of :func:`hierpool.soft_pool`, checked, as the operator takes them: rows in the order of the matrix.

    ``leaves`` are further tensors that somebody may ask the gradient of.
    """
    _checks.check_ragged(x, graph, s)
    value, symmetric = graph.value, graph.is_symmetric
    rest = options(
        s, (s, x, value, *leaves), assignment, temperature, symmetric, link_loss, entropy, gram, mean, backend
    )
    save = rest[-2]
    transpose = graph.transposed() if save and not symmetric else (None, None, None)
    logits, features = graph.in_graph_order(s), graph.in_graph_order(x)
    return (logits, features, value, graph.rowptr, graph.col, graph.ptr, *transpose, *rest)
