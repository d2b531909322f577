"""The cross-entropy link loss from launches: its value, and its gradients to S and A."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool_kernels import plan
from hierpool_kernels.adjacency import Csr, Dense
from hierpool_kernels.batch import Batch, accumulation_dtype, language_type, readable
from hierpool_kernels.launch import launch
from hierpool_kernels.link_bce_kernels import (
    _link_bce_dense_edges_kernel,
    _link_bce_finish_kernel,
    _link_bce_rows_bwd_kernel,
    _link_bce_sparse_edges_kernel,
    _link_bce_sums_kernel,
)
from hierpool_kernels.plan import cdiv
from hierpool_kernels.target import Target


def _divisor(batch: Batch, like: Tensor, normalize: str | None) -> Tensor:
    """What the sum over all pairs is divided by, 1 in place of 0: float64 on the device, which alone may know it."""
    if normalize is None:
        return like.new_ones((), dtype=torch.float64)
    largest = batch.largest()
    if normalize == "numel" and largest is not None:
        return (largest.double().square() * batch.b).clamp(min=1)
    if normalize == "numel" or (largest is None and batch.sizes is None):
        return like.new_full((), max(batch.b * batch.n**2, 1), dtype=torch.float64)
    if batch.ptr is not None:
        counts = batch.ptr.diff()
    elif batch.mask is not None:
        counts = batch.mask.sum(1)
    else:
        assert batch.sizes is not None
        counts = batch.sizes
    return counts.double().square().sum().clamp(min=1)


def _product_precision(s: Tensor, target: Target) -> str:
    """How p is taken. Near 1 the loss has the digits of 1 - p, of which TF32 leaves nothing."""
    how = plan.precision(s.dtype, s.dtype, target)
    return "tf32x3" if how == "tf32" else how


def _cut(s: Tensor, edges: Dense | Csr, batch: Batch, how: str, target: Target) -> plan.Link:
    rows = batch.n if batch.ptr is not None else batch.b * batch.n
    return plan.link_bce(rows, batch.n, s.size(-1), how, isinstance(edges, Dense), target)


def launch_link_bce_fwd(
    s: Tensor, edges: Dense | Csr, batch: Batch, eps: float, normalize: str | None, symmetric: bool, target: Target
) -> Tensor:  # fmt: skip
    """The loss, 0-d, from two launches: sums of slots, and their sum."""
    s = readable(s)
    k, acc = s.size(-1), accumulation_dtype(s, edges.entries)
    how = _product_precision(s, target)
    cut = _cut(s, edges, batch, how, target)
    tiles, slots = cut.sums, batch.slots(cut.sums.bn)
    part = s.new_empty(slots, cut.splits, dtype=torch.float64)
    launch(
        _link_bce_sums_kernel, (slots, cut.splits),
        s, batch.graph_stride(s), s.stride(-2), *edges.arguments(3), part, *batch.rows, k,
        BN=tiles.bn, BJ=tiles.bj, BC=tiles.bk, ONE_TILE=cut.one_tile, SYMMETRIC=symmetric,
        TRIANGLE=symmetric or isinstance(edges, Dense), EPS=eps, ACC=language_type(acc), PRECISION=how,
        **tiles.options(how, target),
    )  # fmt: skip
    loss = s.new_empty((), dtype=acc)
    divisor = _divisor(batch, s, normalize)
    launch(_link_bce_finish_kernel, (1,), part, divisor, loss, part.numel(), BS=1024, num_warps=4)
    return loss


def launch_link_bce_bwd(
    dloss: Tensor, s: Tensor, edges: Dense | Csr, batch: Batch, eps: float, normalize: str | None, symmetric: bool,
    needs: tuple[bool, bool], target: Target,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients to S and to the entries of A; of size 0 where they are not needed."""
    s = readable(s)
    divisor = _divisor(batch, s, normalize)
    like = s if edges.entries is None else edges.entries
    ds, dedges = s.new_empty(0), like.new_empty(0)
    if needs[0]:
        ds = _gradient_of_s(dloss, divisor, s, edges, batch, eps, symmetric, target)
    if needs[1]:
        dedges = _gradient_of_a(dloss, divisor, s, edges, batch, eps, target)
    return ds, dedges


def _gradient_of_s(
    dloss: Tensor, divisor: Tensor, s: Tensor, edges: Dense | Csr, batch: Batch, eps: float, symmetric: bool,
    target: Target,
) -> Tensor:  # fmt: skip
    k, acc = s.size(-1), accumulation_dtype(s, edges.entries)
    how = _product_precision(s, target)
    cut = _cut(s, edges, batch, how, target)
    tiles = cut.rows
    transposed = edges[3:] if isinstance(edges, Csr) else (None, None, None)
    out = batch.nodes(s, k)
    launch(
        _link_bce_rows_bwd_kernel, (batch.slots(tiles.bn), cdiv(k, tiles.bk)),
        dloss, divisor, s, batch.graph_stride(s), s.stride(-2), *edges.arguments(3), *transposed,
        out, batch.graph_stride(out), *batch.rows, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, BC=cut.sums.bk, ONE_TILE=cut.one_tile, SYMMETRIC=symmetric,
        EPS=eps, ACC=language_type(acc), PRECISION=how, PRECISION_OUT=plan.gradient_precision(s.dtype, target),
        **tiles.options(how, target),
    )  # fmt: skip
    return out


def _gradient_of_a(
    dloss: Tensor, divisor: Tensor, s: Tensor, edges: Dense | Csr, batch: Batch, eps: float, target: Target
) -> Tensor:
    k, n, acc = s.size(-1), batch.n, language_type(accumulation_dtype(s, edges.entries))
    if isinstance(edges, Dense):
        how = _product_precision(s, target)
        tiles = _cut(s, edges, batch, how, target).edges
        out = edges.a.new_empty(edges.a.shape)
        launch(
            _link_bce_dense_edges_kernel, (batch.b * cdiv(n, tiles.bn), cdiv(n, tiles.bj)),
            dloss, divisor, s, batch.graph_stride(s), s.stride(-2), out, batch.sizes, batch.mask, n, k,
            BN=tiles.bn, BJ=tiles.bj, BC=tiles.bk, EPS=eps, ACC=acc, PRECISION=how, **tiles.options(how, target),
        )  # fmt: skip
        return out
    entries = edges.col.numel()
    out = (s if edges.value is None else edges.value).new_empty(entries)
    be, bk = plan.entries(k, target)
    launch(
        _link_bce_sparse_edges_kernel, (cdiv(entries, be),),
        dloss, divisor, s, s.stride(-2), edges.rowptr, edges.col, out, n, entries, k,
        BE=be, BK=bk, EPS=eps, ACC=acc, num_warps=4,
    )  # fmt: skip
    return out
