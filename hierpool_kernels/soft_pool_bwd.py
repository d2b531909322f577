"""The backward of soft pooling from launches: gradients to logits, features and entries of A."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool_kernels import plan
from hierpool_kernels.adjacency import Csr, Dense
from hierpool_kernels.batch import Batch, language_type, readable
from hierpool_kernels.launch import launch
from hierpool_kernels.plan import cdiv
from hierpool_kernels.soft_pool_bwd_kernels import (
    _blocks_kernel,
    _dense_edges_kernel,
    _row_products_kernel,
    _soft_pool_rows_bwd_kernel,
    _softmax_bwd_kernel,
    _sparse_edges_kernel,
)
from hierpool_kernels.soft_pool_types import Saved, Upstream
from hierpool_kernels.spmm import launch_dense_degrees, launch_dense_product, launch_spmm
from hierpool_kernels.target import Target


class _Blocks(NamedTuple):
    """What `_blocks_kernel` makes."""

    core: Tensor | None
    of_m: Tensor
    of_s: Tensor | None
    weights: Tensor


def _make_blocks(
    grads: Upstream,
    saved: Saved,
    batch: Batch,
    r: int,
    symmetric: bool,
    mean: bool,
    keep_core: bool,
    target: Target,
) -> _Blocks:
    k, acc = saved.s.size(-1), saved.m.dtype
    empty = saved.m.new_empty
    of_s = saved.gram.size(1) > 0
    blocks = _Blocks(
        empty(batch.b, r, k, k) if keep_core or not symmetric else None,
        empty(batch.b, r, k, k),
        empty(batch.b, k, k) if of_s else None,
        empty(batch.b, 1 + 3 * r),
    )
    side = plan.blocks(k, target)
    launch(
        _blocks_kernel, (batch.b, cdiv(k, side), cdiv(k, side)),
        grads.adj, grads.gram, saved.gram, grads.scalars, grads.total_entropy, grads.link_norm, saved.link_norm,
        batch.largest() if mean else None, *blocks, batch.n, batch.b, r, k,
        BK=side, MEAN=mean, SYMMETRIC=symmetric, ACC=language_type(acc), num_warps=4,
    )  # fmt: skip
    return blocks


def _transposed_product(s: Tensor, m: Tensor, edges: Dense | Csr, batch: Batch, target: Target) -> Tensor:
    """M' = A^T S."""
    if isinstance(edges, Dense):
        return launch_dense_product(edges.a.mT, s, batch, m.dtype, target)
    assert edges.rowptr_t is not None
    assert edges.col_t is not None
    return launch_spmm(edges.rowptr_t, edges.col_t, edges.value_t, s, m.dtype, m.dtype, target)


def _degrees(edges: Dense | Csr, batch: Batch, acc: torch.dtype, target: Target) -> Tensor:
    """Row sums of A, ``[B, R, N]`` or ``[N]``."""
    if isinstance(edges, Dense):
        return launch_dense_degrees(edges.a, batch, acc, target)
    if edges.value is None:
        return edges.rowptr.diff().to(acc)
    return launch_spmm(edges.rowptr, edges.col, edges.value, None, acc, acc, target)


def launch_soft_pool_bwd(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, batch: Batch, temperature: Tensor | None,
    given: bool, symmetric: bool, mean: bool, needs: tuple[bool, bool, bool], target: Target,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients to logits, features and entries; of size 0 where they are not needed.

    Three launches: blocks, rows of the gradient to the logits, S dx; one more where K is more than a tile, one more
    each where A is not symmetric and where its row sums have a gradient, and two for the gradient to A.
    """
    grads = Upstream(*(None if t is None else t.contiguous() for t in grads))
    x = readable(x)
    s, m = saved.s, saved.m
    acc, r = m.dtype, edges.types
    blocks = _make_blocks(grads, saved, batch, r, symmetric, mean, needs[2], target)
    like = s if edges.entries is None else edges.entries
    dlogits, dx, dedges = s.new_empty(0), x.new_empty(0), like.new_empty(0)
    if needs[0]:
        dlogits = _logits_gradient(
            grads, saved, x, edges, batch, blocks, temperature, given, symmetric, target
        )
    if needs[1]:
        dx = x.new_empty(x.shape)
        if grads.x is None:
            dx.zero_()
        else:
            _launch_row_products(s, grads.x, dx, batch, acc, target)
    if needs[2]:
        dedges = _edges_gradient(grads, s, edges, batch, blocks, acc, target)
    return dlogits, dx, dedges


def _logits_gradient(
    grads: Upstream, saved: Saved, x: Tensor, edges: Dense | Csr, batch: Batch, blocks: _Blocks,
    temperature: Tensor | None, given: bool, symmetric: bool, target: Target,
) -> Tensor:  # fmt: skip
    s, m = saved.s, saved.m
    k, acc, r = s.size(-1), m.dtype, edges.types
    mt = None if symmetric else _transposed_product(s, m, edges, batch, target)
    degree = None
    if grads.vectors is not None or grads.scalars is not None:
        degree = _degrees(edges, batch, acc, target)
    how = plan.gradient_precision(s.dtype, target)
    tiles, one_tile = plan.rows_backward(k, how, target)
    out = batch.nodes(s, k)
    finished = one_tile or given
    ds = out if finished else batch.nodes(m, k)
    m_strides, degree_strides = (0, 0), (0, 0)
    if batch.ptr is None:
        m_strides = (m.stride(0), m.stride(1))
        degree_strides = (0, 0) if degree is None else (degree.stride(0), degree.stride(1))
    of_x = None
    if grads.x is not None and x.size(-1):
        of_x = grads.x
    launch(
        _soft_pool_rows_bwd_kernel, (batch.slots(tiles.bn), cdiv(k, tiles.bk)),
        s, batch.graph_stride(s), k, grads.s, batch.graph_stride(grads.s), k,
        x, batch.graph_stride(x), x.stride(-2), of_x, x.size(-1),
        m, mt, *m_strides, blocks.of_m, None if symmetric else blocks.core, blocks.of_s, grads.vectors,
        degree, *degree_strides, blocks.weights, temperature, ds, batch.graph_stride(ds), *batch.rows, r, k,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, ONE_TILE=one_tile, GIVEN=given, ACC=language_type(acc), PRECISION=how,
        PRECISION_X=plan.precision(x.dtype, x.dtype, target), **tiles.options(how, target),
    )  # fmt: skip
    if not finished:
        rows = plan.assign(k, target)
        launch(
            _softmax_bwd_kernel, (cdiv(s.numel() // k, rows.bn),), s, ds, temperature, out, s.numel() // k, k,
            BN=rows.bn, BK=rows.bk, ACC=language_type(acc), num_warps=rows.warps,
        )  # fmt: skip
    return out


def _launch_row_products(
    s: Tensor, block: Tensor, out: Tensor, batch: Batch, acc: torch.dtype, target: Target
) -> None:
    """S times ``block [B, (R,) K, C]`` into ``out [B, (R,) N, C]``."""
    k, c = block.shape[-2:]
    r = block.size(1) if block.dim() == 4 else 1
    how = plan.precision(s.dtype, block.dtype, target)
    tiles = plan.row_products(c, how, target)
    types = out.dim() == 4
    launch(
        _row_products_kernel, (batch.slots(tiles.bn), cdiv(c, tiles.bj), r),
        s, batch.graph_stride(s), k, block, block.stride(0), block.stride(1) if block.dim() == 4 else 0,
        out, batch.graph_stride(out), out.stride(1) if types else 0, *batch.rows, k, c,
        BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, ACC=language_type(acc), PRECISION=how, **tiles.options(how, target),
    )  # fmt: skip


def _edges_gradient(
    grads: Upstream,
    s: Tensor,
    edges: Dense | Csr,
    batch: Batch,
    blocks: _Blocks,
    acc: torch.dtype,
    target: Target,
) -> Tensor:
    """The gradient to A, from S core, rows of which are multiplied by rows of S."""
    k, r, b, n = s.size(-1), edges.types, batch.b, batch.n
    assert blocks.core is not None
    if isinstance(edges, Dense):
        a = edges.a
        t = blocks.core.new_empty(b, r, n, k)
        _launch_row_products(s, blocks.core, t, batch, acc, target)
        how = plan.precision(acc, s.dtype, target)
        tiles = plan.dense_edges(how, target)
        out = a.new_empty(a.shape)
        launch(
            _dense_edges_kernel, (b * cdiv(n, tiles.bn), cdiv(n, tiles.bj), r),
            s, batch.graph_stride(s), k, t, t.stride(0), t.stride(1), a, *a.stride(), grads.vectors, blocks.weights,
            out, batch.sizes, batch.mask, n, b, r, k,
            BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=language_type(acc), PRECISION=how, **tiles.options(how, target),
        )  # fmt: skip
        return out
    t = blocks.core.new_empty(n, k)
    _launch_row_products(s, blocks.core[:, 0], t, batch, acc, target)
    entries = edges.col.numel()
    like = s if edges.value is None else edges.value
    out = like.new_empty(entries)
    be, bk = plan.entries(k, target)
    launch(
        _sparse_edges_kernel, (cdiv(entries, be),),
        s, k, t, edges.rowptr, edges.col, edges.value, grads.vectors, blocks.weights, out, batch.ptr,
        n, b, entries, k,
        BE=be, BK=bk, OF_ROWS=grads.vectors is not None or grads.scalars is not None, ACC=language_type(acc),
        num_warps=4,
    )  # fmt: skip
    return out
