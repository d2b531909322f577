"""Matrices in compressed rows by the C++ kernels."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor

from hierpool.graph import problems
from hierpool.graph.csr import Built, Edges, Options, index_dtype

# What the kernels found, in the bits of one number: CsrProblem::Kind in the lowest eight.
_PROBLEM, _AS_GIVEN, _HAS_VALUE, _SYMMETRIC = 0xFF, 1 << 8, 1 << 9, 1 << 10


def build(edges: Edges, options: Options) -> Built:
    """Sort edges into rows."""
    row, col, weight, batch, ptr, num_nodes, num_graphs = edges
    row, col = row.contiguous(), col.contiguous()
    dtype = index_dtype(num_nodes, row.numel())
    summed, rounded = weight, False
    if weight is not None:
        rounded = weight.element_size() == 2  # sums are taken in float32, and are what they are rounded to
        summed = (weight.to(torch.float32) if rounded else weight).contiguous()
    rowptr, columns, value, slot, first, order, flags, i, j = torch.ops.hierpool_native.csr_build.default(
        row,
        col,
        summed,
        None if batch is None else batch.contiguous(),
        None if ptr is None else ptr.contiguous(),
        num_nodes,
        -1 if num_graphs is None else num_graphs,
        options.compact,
        options.want_slot,
        options.symmetric is None and not rounded,
        dtype is torch.int64,
    )
    if flags & _PROBLEM:
        _raise(flags & _PROBLEM, i, j, edges, first, order if order.numel() else None)
    if flags & _AS_GIVEN:
        value = weight
    elif options.coalesced and not order.numel():
        raise problems.not_coalesced()
    elif not flags & _HAS_VALUE:
        value = None
    elif weight is not None:
        value = value.to(weight.dtype)
    symmetric = options.symmetric
    if symmetric is None:
        symmetric = is_symmetric(rowptr, columns, value) if rounded else bool(flags & _SYMMETRIC)
    return Built(
        rowptr,
        columns,
        value,
        first,
        order if order.numel() else None,
        slot if options.want_slot and not flags & _AS_GIVEN else None,
        symmetric,
    )


def _raise(kind: int, i: int, j: int, edges: Edges, ptr: Tensor, order: Tensor | None) -> NoReturn:
    """Say what :class:`CsrProblem` says."""
    if kind in (1, 2):
        end = kind - 1
        raise problems.out_of_range(f"edge_index[{end}]", i, (edges.row, edges.col)[end][i], edges.num_nodes)
    if kind == 3:
        raise problems.crossing(i, j, ptr, order)
    if kind == 4:
        assert edges.batch is not None
        raise problems.batch_out_of_range(i, edges.batch[i], j)
    assert edges.ptr is not None
    raise problems.pointers("ptr", edges.ptr, "nodes", edges.num_nodes)


def transpose(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the transpose, and the entry that each of its entries comes from."""
    return torch.ops.hierpool_native.csr_transpose.default(rowptr.contiguous(), col.contiguous())


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix equals its transpose, exactly."""
    value = None if value is None else value.contiguous()
    return torch.ops.hierpool_native.csr_is_symmetric.default(rowptr.contiguous(), col.contiguous(), value)


def is_canonical(rowptr: Tensor, col: Tensor, ptr: Tensor) -> bool:
    """Whether the columns of every row ascend and differ."""
    rowptr, col, ptr = rowptr.contiguous(), col.contiguous(), ptr.contiguous()
    flags, i, j = torch.ops.hierpool_native.csr_inspect.default(rowptr, col, ptr)
    kind = flags & _PROBLEM
    if kind == 2:
        raise problems.out_of_range("col", i, col[i], rowptr.numel() - 1)
    if kind == 3:
        raise problems.crossing(i, j, ptr, None)
    if kind == 5:
        raise problems.pointers("ptr", ptr, "nodes", rowptr.numel() - 1)
    if kind == 6:
        raise problems.pointers("rowptr", rowptr, "entries", col.numel())
    return bool(flags & _AS_GIVEN)
