"""The update step of GraphSAGE layers in plain PyTorch, with explicit gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hierpool.contract import reshaped

if TYPE_CHECKING:
    from hierpool.ops.sage_update import Call, Leaves, Saved, Upstream

SHORTEST = 1e-12


def unit_rows(h: Tensor, relu: bool) -> tuple[Tensor, Tensor]:
    """Divide the rows of ``h [R, n]`` in place by their lengths, but at least by 1e-12.

    Returns:
        A copy of the rows, after ReLU if ``relu``, and the divisors, ``[R, 1]``.
    """
    dtype = torch.promote_types(h.dtype, torch.float32)  # 1e-12 is 0 in float16
    length = torch.linalg.vector_norm(h, dim=1, keepdim=True, dtype=dtype).clamp_(min=SHORTEST)
    h.copy_(h / length)
    return h.relu() if relu else h.clone(), length


def unit_rows_backward(dout: Tensor, y: Tensor, length: Tensor, relu: bool, dh: Tensor) -> None:
    """Write the gradient of the undivided rows to ``dh``."""
    if relu:
        dout = torch.ops.aten.threshold_backward(dout, y, 0)
    along = torch.where(length > SHORTEST, (dout * y).sum(1, keepdim=True, dtype=length.dtype), 0)
    dh.copy_((dout - y * along) / length)


def forward(call: Call, divide: Callable[..., tuple[Tensor, Tensor]] = unit_rows) -> tuple[object, ...]:
    """See :class:`hierpool.ops.sage_update.Out`."""
    aggregated, x, relation, root, bias, (widths, normalize, relu, _) = call
    shape = aggregated.shape[:-1]
    h = aggregated.flatten(0, -2)
    if relation is None:
        y = h.clone() if bias is None else h + bias
    elif bias is None:
        y = h @ relation.t()
    else:
        y = torch.addmm(bias, h, relation.t())
    if root is not None:
        assert x is not None
        y.addmm_(x.flatten(0, -2), root.t())
    if not normalize:
        out = y.relu() if relu else y
        return reshaped(out, *shape, out.size(1)), y if relu else None, ()
    outs, lengths = zip(*(divide(part, relu) for part in y.split(widths, 1)), strict=True)
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 1)
    return reshaped(out, *shape, out.size(1)), y, lengths


def backward(
    call: Call,
    saved: Saved,
    upstream: Upstream,
    needs: Leaves,
    divide: Callable[..., None] = unit_rows_backward,
) -> tuple[Tensor | None, ...]:
    """Gradients of features, weights and bias."""
    aggregated, x, relation, root, _, (widths, normalize, relu, _) = call
    dy = upstream.y.flatten(0, -2)
    if normalize:
        assert saved.rows is not None
        grads, dy = dy.split(widths, 1), torch.empty_like(saved.rows)
        parts = zip(grads, saved.rows.split(widths, 1), saved.lengths, dy.split(widths, 1), strict=True)
        for grad, rows, length, into in parts:
            divide(grad, rows, length, relu, into)
    elif relu:
        assert saved.rows is not None
        dy = torch.ops.aten.threshold_backward(dy, saved.rows, 0)
    dh = dx = drelation = droot = None
    if needs.aggregated:
        dh = (dy if relation is None else dy @ relation).view(aggregated.shape)
    if needs.relation:
        drelation = _transposed_product(dy, aggregated.flatten(0, -2))
    if x is not None and root is not None:
        dx = (dy @ root).view(x.shape) if needs.x else None
        droot = _transposed_product(dy, x.flatten(0, -2)) if needs.root else None
    return dh, dx, drelation, droot, dy.sum(0) if needs.bias else None


def _transposed_product(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`A^T B`, or its transpose transposed if that has rows of whole vectors, which takes BLAS half the time."""
    if b.size(1) % 16 and not a.size(1) % 16:
        return (b.t() @ a).t()
    return a.t() @ b
