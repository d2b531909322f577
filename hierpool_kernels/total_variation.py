"""The total variation over edges from launches, and what it consists of: distances at entries, and signed sums."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool_kernels import plan
from hierpool_kernels.adjacency import Csr, Dense
from hierpool_kernels.batch import Batch, accumulation_dtype, language_type, readable
from hierpool_kernels.launch import launch
from hierpool_kernels.plan import cdiv
from hierpool_kernels.spmm import launch_long_rows
from hierpool_kernels.target import Target
from hierpool_kernels.total_variation_kernels import (
    _dense_distances_kernel,
    _dense_signs_kernel,
    _dense_variation_kernel,
    _edge_distances_kernel,
    _signed_sums_kernel,
    _sparse_variation_kernel,
    _variation_finish_kernel,
)


def launch_total_variation_fwd(
    s: Tensor, edges: Dense | Csr, batch: Batch, target: Target
) -> tuple[Tensor, Tensor]:
    """The variation and the number of entries of each graph, from two launches: sums of slots, and their sums."""
    s = readable(s)
    k, acc = s.size(-1), accumulation_dtype(s, edges.entries)
    if isinstance(edges, Dense):
        tiles = plan.variation(k, target).sums
        step, ptr = tiles.bn, None
        part = s.new_empty(batch.slots(step), 2, dtype=torch.float64)
        launch(
            _dense_variation_kernel, (part.size(0),),
            s, batch.graph_stride(s), s.stride(-2), edges.a, *edges.a.stride(), part,
            batch.sizes, batch.mask, batch.n, batch.b, k,
            BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=language_type(acc), **tiles.options(target),
        )  # fmt: skip
    else:
        assert batch.ptr is not None
        entries = edges.col.numel()
        step, be, bk = plan.entry_slots(entries, k, target)
        ptr = edges.rowptr[batch.ptr].to(torch.int64)
        part = s.new_empty(Batch.ragged(ptr, entries).slots(step), 2, dtype=torch.float64)
        launch(
            _sparse_variation_kernel, (part.size(0),),
            s, s.stride(-2), edges.rowptr, edges.col, edges.value, ptr, part, batch.n, batch.b, k,
            STEP=step, BE=be, BK=bk, ACC=language_type(acc), num_warps=4,
        )  # fmt: skip
    variation, count = (s.new_empty(batch.b, dtype=acc) for _ in range(2))
    launch(
        _variation_finish_kernel, (batch.b,), part, variation, count, ptr, batch.n, STEP=step, BS=128, num_warps=4
    )  # fmt: skip
    return variation, count


def launch_total_variation_bwd(
    dvariation: Tensor, s: Tensor, edges: Dense | Csr, batch: Batch, needs: tuple[bool, bool], target: Target
) -> tuple[Tensor, Tensor]:
    """Gradients to S and to the entries of A; of size 0 where they are not needed. A sparse A has its transpose,
    unless that is A."""
    s, dvariation = readable(s), dvariation.contiguous()
    like = s if edges.entries is None else edges.entries
    ds, dedges = s.new_empty(0), like.new_empty(0)
    if needs[0] and isinstance(edges, Dense):
        ds = _dense_gradient_of_s(dvariation, s, edges, batch, target)
    elif needs[0]:
        assert isinstance(edges, Csr)
        acc = accumulation_dtype(s, edges.value)
        ds = launch_signed_sums(edges, s, acc, target, dvariation, batch)
    if needs[1] and isinstance(edges, Dense):
        dedges = _dense_gradient_of_a(dvariation, s, edges, batch, target)
    elif needs[1]:
        assert isinstance(edges, Csr)
        acc = accumulation_dtype(s, edges.value)
        dedges = launch_edge_distances(edges.rowptr, edges.col, s, acc, like.dtype, target, dvariation, batch)
    return ds, dedges


def _dense_gradient_of_s(dvariation: Tensor, s: Tensor, edges: Dense, batch: Batch, target: Target) -> Tensor:
    k, acc = s.size(-1), language_type(accumulation_dtype(s, edges.a))
    tiles = plan.variation(k, target).signs
    out = batch.nodes(s, k)
    launch(
        _dense_signs_kernel, (batch.slots(tiles.bn), cdiv(k, tiles.bk)),
        dvariation, s, batch.graph_stride(s), s.stride(-2), edges.a, *edges.a.stride(), out, batch.graph_stride(out),
        batch.sizes, batch.mask, batch.n, batch.b, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=acc, **tiles.options(target),
    )  # fmt: skip
    return out


def _dense_gradient_of_a(dvariation: Tensor, s: Tensor, edges: Dense, batch: Batch, target: Target) -> Tensor:
    k, n, acc = s.size(-1), batch.n, language_type(accumulation_dtype(s, edges.a))
    tiles = plan.variation(k, target).sums
    out = edges.a.new_empty(edges.a.shape)
    launch(
        _dense_distances_kernel, (batch.b * cdiv(n, tiles.bn), cdiv(n, tiles.bj)),
        dvariation, s, batch.graph_stride(s), s.stride(-2), out, batch.sizes, batch.mask, n, k,
        BN=tiles.bn, BJ=tiles.bj, BK=tiles.bk, ACC=acc, **tiles.options(target),
    )  # fmt: skip
    return out


def _of_graphs(scale: Tensor | None, batch: Batch | None) -> tuple[Tensor | None, Tensor | None, int]:
    """The arguments of a kernel that say what is multiplied by which scale ``[B]``, if there is one."""
    return (None, None, 0) if batch is None else (scale, batch.ptr, batch.b)


def launch_signed_sums(
    edges: Csr, x: Tensor, acc: torch.dtype, target: Target, scale: Tensor | None = None, batch: Batch | None = None
) -> Tensor:  # fmt: skip
    """sum_j (a_ij + a_ji) sign(x_i - x_j) ``[N, K]`` in the dtype of ``x``, times the ``scale`` ``[B]`` of each graph
    of a batch; sums are taken in ``acc``. The transpose is absent where A equals it."""
    x = readable(x)
    n, k = x.shape
    walk = plan.signed_sums(edges.col.numel(), k, target)
    matrices = [edges[:3], edges[3:]]
    arguments: list[Tensor | None] = []
    for rowptr, col, value in matrices:
        carry: tuple[Tensor | None, Tensor | None] = (None, None)
        if rowptr is not None and col is not None:
            carry = launch_long_rows(rowptr, col, value, x, acc, walk, signs=True)
        arguments += [rowptr, col, value, *carry]
    scale, ptr, b = _of_graphs(scale, batch)
    out = x.new_empty(x.shape)
    launch(
        _signed_sums_kernel, (cdiv(n, walk.bn), cdiv(k, walk.bk)),
        *arguments, x, x.stride(0), scale, ptr, out, n, b, k,
        BN=walk.bn, BK=walk.bk, LONGEST=walk.longest, AHEAD=walk.ahead, ACC=language_type(acc), num_warps=walk.warps,
        **plan.registers(walk.warps, target),
    )  # fmt: skip
    return out


def launch_edge_distances(
    rowptr: Tensor, col: Tensor, x: Tensor, acc: torch.dtype, dtype: torch.dtype, target: Target,
    scale: Tensor | None = None, batch: Batch | None = None,
) -> Tensor:  # fmt: skip
    """|x_i - x_j|_1 for every entry (i, j), ``[E]``, times the ``scale`` ``[B]`` of each graph of a batch."""
    x = readable(x)
    n, k, entries = rowptr.numel() - 1, x.size(-1), col.numel()
    out = x.new_empty(entries, dtype=dtype)
    be, bk = plan.entries(k, target)
    scale, ptr, b = _of_graphs(scale, batch)
    launch(
        _edge_distances_kernel, (cdiv(entries, be),),
        x, x.stride(0), rowptr, col, scale, ptr, out, n, b, entries, k,
        BE=be, BK=bk, ACC=language_type(acc), num_warps=4, **plan.registers(4, target),
    )  # fmt: skip
    return out
