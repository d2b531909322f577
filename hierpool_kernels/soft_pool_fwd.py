"""The forward of soft pooling: one walk over A, products with S, and the record from partial sums."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.adjacency import Csr, Dense, factor_dtype
from hierpool_kernels.core.row_sums import SUMS
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import accumulation_dtype, contiguous_rows, workspace
from hierpool_kernels.soft_pool import Options, Outputs
from hierpool_kernels.soft_pool_partial import Partial, divided
from hierpool_kernels.soft_pool_products import launch_products
from hierpool_kernels.soft_pool_reduce import launch_reduce, launch_scalars
from hierpool_kernels.soft_pool_small import launch_small_fwd, small_tiles
from hierpool_kernels.soft_pool_softmax import launch_softmax_fwd
from hierpool_kernels.soft_pool_walk import launch_walk


def _outputs(
    s: Tensor, x: Tensor, m: Tensor | None, rows: Rows, r: int, options: Options, acc: torch.dtype
) -> Outputs:
    """Uninitialized, but for S."""
    k, b, empty = s.size(-1), rows.b, s.new_empty
    ragged, gram_size = rows.ptr is not None, k if options.gram else 0
    types = (r,) if options.types and not ragged else ()
    if m is None or not options.save:
        m = empty((*(() if ragged else (b, r)), 0, k), dtype=acc)
    return Outputs(
        s, x.new_empty(b, k, x.size(-1)), empty(b, *types, k, k, dtype=acc), empty(b, gram_size, gram_size, dtype=acc),
        empty(b, 1 + r, k, dtype=acc), empty(b, 2 + 4 * r, dtype=acc), empty((), dtype=acc), empty(types, dtype=acc), m,
    )  # fmt: skip


def launch_soft_pool_fwd(
    logits: Tensor, x: Tensor, edges: Dense | Csr, rows: Rows, temperature: Tensor | None, given: bool,
    symmetric: bool, options: Options, target: Target,
) -> Outputs:  # fmt: skip
    """All outputs of the operator.

    Two launches for small graphs. For others six: softmax, walk over A, products of S with X and with S (and with M, if
    K is more than a tile), sums over chunks, scalars; one more for a sparse A that may have long rows. One allocation
    beside those of the outputs.
    """
    logits, x = contiguous_rows(logits), contiguous_rows(x)
    k, f, r, b, n = logits.size(-1), x.size(-1), edges.types, rows.b, rows.n
    _check_sizes(k, f, r)
    acc = accumulation_dtype(logits, x, edges.values)
    if (tiles := small_tiles(edges, rows, logits, x, target)) is not None:
        s = rows.empty(logits, k)
        m = s.new_empty((n, k) if rows.ptr is not None else (b, r, n, k), dtype=acc) if options.save else None
        out = _outputs(s, x, m, rows, r, options, acc)
        sums, squares = workspace(s, torch.float64, b * SUMS.value, b)
        launch_small_fwd(
            logits,
            x,
            edges,
            rows,
            temperature,
            given,
            symmetric,
            options.entropy,
            out,
            sums,
            squares,
            tiles,
            target,
        )
        launch_scalars(out, sums, squares, 1, rows, options, acc, target)
        return out
    ragged, entries, factor = rows.ptr is not None, 0, logits.dtype
    if isinstance(edges, Dense):
        factor = factor_dtype(edges.a, logits)
    else:
        entries = edges.col.numel()
    planned = divided(k, f, r, b, n, ragged, entries, factor, logits.dtype, options.gram, symmetric, target)
    turned = plan.turned(logits.dtype, edges.vector, planned.precision, target)
    s, s_turned = launch_softmax_fwd(logits, rows, temperature, given, acc, target, turned)
    chunk, on_chip = planned.chunk, planned.walk.on_chip
    partial = Partial(*workspace(s, acc, *planned.sizes, doubles=planned.doubles))
    m = None
    if options.save or not on_chip:
        m = s.new_empty((n, k) if ragged else (b, r, n, k), dtype=acc)
    launch_walk(s, s_turned, edges, m, rows, options.entropy, acc, planned, partial, target)
    if f:
        launch_products(s, s_turned, x, partial.x, k * f, rows, chunk, False, False, acc, target)
    if options.gram:
        launch_products(s, s_turned, None, partial.gram, k * k, rows, chunk, True, True, acc, target)
    if not on_chip:
        assert m is not None
        for i_r in range(r):
            part, y = partial.adj[i_r * k * k :], m if ragged else m[:, i_r]
            launch_products(s, s_turned, y, part, r * k * k, rows, chunk, True, symmetric, acc, target)
    out = _outputs(s, x, m, rows, r, options, acc)
    launch_reduce(out, partial, planned, rows, symmetric, options, acc, target)
    return out


def _check_sizes(k: int, f: int, r: int) -> None:
    """The K x K and K x F elements of a graph have 32-bit offsets."""
    largest = max(r * k * k, (1 + r) * k, k * f)
    if largest >= 1 << 31:
        raise ValueError(
            f"s, x and adj must have fewer than 2^31 pooled elements R K K and K F of a graph, got K = {k}, F = {f},"
            f" R = {r}"
        )
