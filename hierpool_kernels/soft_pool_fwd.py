"""The forward of soft pooling from launches: all outputs of the operator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool_kernels import plan
from hierpool_kernels.adjacency import Csr, Dense, factor
from hierpool_kernels.batch import Batch, accumulation_dtype, language_type, readable
from hierpool_kernels.launch import launch
from hierpool_kernels.plan import cdiv
from hierpool_kernels.soft_pool_fwd_kernels import (
    SUMS,
    _assign_kernel,
    _finish_kernel,
    _products_kernel,
    _scalars_kernel,
    _soft_pool_rows_kernel,
)
from hierpool_kernels.soft_pool_types import Outputs, Wanted
from hierpool_kernels.spmm import launch_long_rows
from hierpool_kernels.target import Target


def launch_assign(
    logits: Tensor, batch: Batch, temperature: Tensor | None, given: bool, acc: torch.dtype, target: Target
) -> Tensor:
    """S, ``[B, N, K]`` or ``[N, K]``."""
    k = logits.size(-1)
    s = batch.nodes(logits, k)
    tiles = plan.assign(k, target)
    # Rows of a ragged batch need not know their graphs.
    b = 1 if batch.ptr is not None else batch.b
    launch(
        _assign_kernel, (b * cdiv(batch.n, tiles.bn),),
        logits, batch.graph_stride(logits), logits.stride(-2), s, batch.graph_stride(s), k, temperature,
        batch.sizes, batch.mask, batch.n, b, k,
        BN=tiles.bn, BK=tiles.bk, ONE_TILE=tiles.one_tile, GIVEN=given, ACC=language_type(acc), num_warps=tiles.warps,
    )  # fmt: skip
    return s


class _Partial(NamedTuple):
    """Sums of slots, and how long the slots of ``adj`` are."""

    adj: Tensor
    adj_step: int
    vectors: Tensor
    sums: Tensor
    tiles: int  # of K, of which each has its sums
    step: int


def _walk(
    s: Tensor, edges: Dense | Csr, m: Tensor | None, batch: Batch, entropy: bool, acc: torch.dtype,
    rows: plan.Rows, walk: plan.Sparse | None, how: str, target: Target,
) -> _Partial:  # fmt: skip
    """M, and the sums of slots that its rows are needed for."""
    k, r = s.size(-1), edges.types
    slots, tiles = batch.slots(rows.step), rows.tiles
    k_tiles = cdiv(k, tiles.bk)
    empty = s.new_empty
    partial = _Partial(
        empty(slots if rows.on_chip else 0, r, k, k, dtype=acc), rows.step,
        empty(slots, 1 + r, k, dtype=acc), empty(slots, r, k_tiles, SUMS.value, dtype=torch.float64), k_tiles,
        rows.step,
    )  # fmt: skip
    carry: tuple[Tensor | None, Tensor | None] = (None, None)
    if isinstance(edges, Csr):
        assert walk is not None
        carry = launch_long_rows(edges.rowptr, edges.col, edges.value, s, acc, walk)
    m_strides = (0, 0) if m is None or batch.ptr is not None else (m.stride(0), m.stride(1))
    launch(
        _soft_pool_rows_kernel, (slots, k_tiles, r),
        s, batch.graph_stride(s), k, *edges.arguments(4), *carry, m, *m_strides,
        partial.adj, partial.vectors, partial.sums, *batch.rows, r, k,
        STEP=rows.step, BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, LONGEST=walk.longest if walk else 0,
        AHEAD=walk.ahead if walk else 1, ON_CHIP=rows.on_chip, ENTROPY=entropy, ACC=language_type(acc), PRECISION=how,
        PRODUCT=plan.precision(s.dtype, acc, target), **tiles.options(how, target),
    )  # fmt: skip
    return partial


def _launch_products(
    s: Tensor, y: Tensor, part: Tensor, batch: Batch, step: int, acc: torch.dtype, target: Target
) -> None:
    """S^T Y of each slot into ``part [slots, .., K, C]``."""
    k, c = s.size(-1), y.size(-1)
    how = plan.precision(s.dtype, y.dtype, target)
    tiles = plan.products(k, c, how, target)
    launch(
        _products_kernel, (batch.slots(step), cdiv(k, tiles.bk), cdiv(c, tiles.bj)),
        s, batch.graph_stride(s), k, y, batch.graph_stride(y), y.stride(-2), part, part.stride(0), *batch.rows, k, c,
        STEP=step, BN=tiles.bn, BK=tiles.bk, BC=tiles.bj, ACC=language_type(acc), PRECISION=how,
        **tiles.options(how, target),
    )  # fmt: skip


def launch_soft_pool_fwd(
    logits: Tensor, x: Tensor, edges: Dense | Csr, batch: Batch, temperature: Tensor | None, given: bool,
    symmetric: bool, wanted: Wanted, target: Target,
) -> Outputs:  # fmt: skip
    """All outputs of the operator.

    Six launches: the assignment, the walk over A, a product for each of X and S (and M, if K is more than a tile),
    the record from the sums of slots, its scalars; one more for a sparse A that may have long rows.
    """
    logits, x = readable(logits), readable(x)
    _check_sizes(logits.size(-1), x.size(-1), edges.types)
    acc = accumulation_dtype(logits, x, edges.entries)
    k, f, r, b, n = logits.size(-1), x.size(-1), edges.types, batch.b, batch.n
    s = launch_assign(logits, batch, temperature, given, acc, target)
    walk, how = None, "ieee"
    if isinstance(edges, Dense):
        how = plan.precision(factor(edges.a, s), s.dtype, target)
        rows = plan.dense_rows(b, n, r, k, how, target)
    else:
        rows, walk = plan.sparse_rows(b, n, edges.col.numel(), k, target)
    kept = wanted.save or not rows.on_chip
    types = () if batch.ptr is not None else (r,)
    m = logits.new_empty(*(() if batch.ptr is not None else (b, r)), n, k, dtype=acc) if kept else None
    partial = _walk(s, edges, m, batch, wanted.entropy, acc, rows, walk, how, target)

    step = plan.products_step(b, n, k, min(f, k) or k, batch.ptr is not None, target)
    slots = batch.slots(step)
    empty = logits.new_empty
    part_x = empty(slots, k, f, dtype=acc)
    gram_size = k if wanted.gram else 0
    part_gram = empty(slots, gram_size, gram_size, dtype=acc)
    if f:
        _launch_products(s, x, part_x, batch, step, acc, target)
    if wanted.gram:
        _launch_products(s, s, part_gram, batch, step, acc, target)
    if not rows.on_chip:
        assert m is not None
        partial = partial._replace(adj=empty(slots, r, k, k, dtype=acc), adj_step=step)
        for i_r in range(r):
            of_type = m if batch.ptr is not None else m[:, i_r]
            _launch_products(s, of_type, partial.adj[:, i_r], batch, step, acc, target)
    out = Outputs(
        s, x.new_empty(b, k, f), empty(b, *types, k, k, dtype=acc), empty(b, gram_size, gram_size, dtype=acc),
        empty(b, 1 + r, k, dtype=acc), empty(b, 2 + 4 * r, dtype=acc), empty((), dtype=acc), empty(types, dtype=acc),
        m if wanted.save and m is not None else _no_rows(batch, r, k, logits, acc),
    )  # fmt: skip
    _finish(out, partial, part_x, part_gram, batch, r, step, symmetric, wanted, acc, target)
    return out


def _no_rows(batch: Batch, r: int, k: int, like: Tensor, acc: torch.dtype) -> Tensor:
    return like.new_empty(*(() if batch.ptr is not None else (batch.b, r)), 0, k, dtype=acc)


def _check_sizes(k: int, f: int, r: int) -> None:
    """The K x K and K x F elements of a graph are counted in 32 bits."""
    largest = max(r * k * k, (1 + r) * k, k * f)
    if largest >= 1 << 31:
        raise ValueError(
            f"s, x and adj must have fewer than 2^31 pooled elements R K K and K F of a graph, got K = {k}, F = {f},"
            f" R = {r}"
        )


def _finish(
    out: Outputs, partial: _Partial, part_x: Tensor, part_gram: Tensor, batch: Batch, r: int, step: int,
    symmetric: bool, wanted: Wanted, acc: torch.dtype, target: Target,
) -> None:  # fmt: skip
    """The record from the sums of slots."""
    (b, k, f), gram_size = out.x.shape, out.gram.size(1)
    cut = plan.finish(k * max(r * k, f), target)
    tiles = [cdiv(size, cut.bq) for size in (r * k * k, gram_size * gram_size, k * f, (1 + r) * k)]
    sums = out.scalars.new_empty(b, r, SUMS.value, dtype=torch.float64)
    squares = out.scalars.new_empty(b, tiles[1], dtype=torch.float64)
    acc_type = language_type(acc)
    launch(
        _finish_kernel, (b * (sum(tiles) + 1),),
        partial.adj, part_gram, part_x, partial.vectors, partial.sums,
        out.adj, out.gram, out.x, out.vectors, sums, squares,
        batch.ptr, batch.sizes, batch.n, b, r, k, f, partial.tiles, *tiles,
        STEP_ROWS=partial.step, STEP_PRODUCTS=step, STEP_ADJ=partial.adj_step, BS=cut.bs, BQ=cut.bq,
        SYMMETRIC=symmetric, ACC=acc_type, num_warps=4, **plan.registers(4, target),
    )  # fmt: skip
    launch(
        _scalars_kernel, (r,),
        sums, squares, out.scalars, out.total_entropy, out.link_norm, batch.largest() if wanted.mean else None,
        batch.n, b, r, tiles[1],
        BB=cut.bb, LINK=wanted.link, ENTROPY=wanted.entropy, MEAN=wanted.mean, ACC=acc_type, num_warps=4,
    )  # fmt: skip
