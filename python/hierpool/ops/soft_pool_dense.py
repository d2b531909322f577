"""``hierpool::soft_pool_dense``: the operator on padded dense batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.ops import _checks
from hierpool.ops._soft_pool import SoftPoolOperator, options
from hierpool.ops.fallback import soft_pool_dense as fallback
from hierpool.reference.soft_pool_dense import DenseForward, accumulation_dtype, valid_rows


class SoftPoolDense(SoftPoolOperator):
    """``edges`` is A, ``structure`` mask and num_nodes; M and whether A is symmetric are saved."""

    def __init__(self) -> None:
        super().__init__(
            "soft_pool_dense",
            "Tensor adj, Tensor? mask, Tensor? num_nodes",
            "bool?",
            "Tensor m, Tensor is_symmetric",
        )

    def check_values(self, *args: Any) -> None:
        logits, num_nodes, temperature = args[0], args[4], args[5]
        _checks.check_values(logits.size(1), num_nodes, temperature)

    def forward_fake(self, *args: Any) -> tuple[Tensor, ...]:
        logits, x, adj = args[:3]
        want_gram, save = args[8], args[12]
        b, n, k = logits.shape
        acc = accumulation_dtype(logits, x, adj)
        channels = adj.shape[1:-2]  # (R,), or () without a dimension of edge types
        r = channels[0] if channels else 1
        empty = logits.new_empty
        gram_size, kept = k if want_gram else 0, n if save else 0
        return DenseForward(
            s=empty(b, n, k),
            x=x.new_empty(b, k, x.size(2)),
            adj=empty((b, *channels, k, k), dtype=acc),
            gram=empty((b, gram_size, gram_size), dtype=acc),
            vectors=empty((b, 1 + r, k), dtype=acc),
            scalars=empty((b, 2 + 4 * r), dtype=acc),
            total_entropy=empty((), dtype=acc),
            link_norm=empty(channels, dtype=acc),
            m=empty((b, r, kept, k), dtype=acc),
            symmetric=empty((b, r if save else 0), dtype=torch.bool),
        )

    def defined_forward(self, *args: Any) -> tuple[Tensor, ...]:
        """Backends leave the rows of M that belong to padding alone."""
        output = self.forward(*args)
        valid = valid_rows(args[0], args[3], args[4])
        if valid is not None and args[12]:
            output[8].masked_fill_(~valid[:, None, :, None], 0)
        return output

    def plain(self, *args: Any) -> tuple[Tensor, ...]:
        return fallback.forward(*args)


soft_pool_dense = SoftPoolDense()
soft_pool_dense.register()


def arguments(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    assignment: str = "softmax",
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    link_loss: str | None = "frobenius",
    entropy: bool = True,
    gram: bool | None = None,
    backend: str = "auto",
    mean: bool = False,
    leaves: tuple[Tensor, ...] = (),
) -> tuple[Any, ...]:
    """Those of :func:`hierpool.soft_pool`, checked, as the operator takes them.

    ``leaves`` are further tensors that somebody may ask the gradient of.
    """
    _checks.check_dense(x, adj, s, mask, num_nodes)
    rest = options(
        s, (s, x, adj, *leaves), assignment, temperature, symmetric, link_loss, entropy, gram, mean, backend
    )
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask != 0
    if num_nodes is not None:
        num_nodes = num_nodes.to(torch.int64)
    return (s, x, adj, mask, num_nodes, *rest)
