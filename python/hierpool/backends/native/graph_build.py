"""Matrices in compressed rows by the C++ kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import Blocks, BuildOptions, Built, Edges, Fault, Problem, index_dtype

# The kernels return flags in one integer: CsrProblem::Kind in the lowest eight bits, then these.
_FAULT, _AS_GIVEN, _HAS_VALUE, _SYMMETRIC = 0xFF, 1 << 8, 1 << 9, 1 << 10


def build(edges: Edges, options: BuildOptions) -> Built | Problem:
    """Sort edges into rows."""
    row, col, weight, batch, ptr, num_nodes, num_graphs = edges
    row, col = row.contiguous(), col.contiguous()
    dtype = index_dtype(num_nodes, row.numel())
    summed, rounded = weight, False
    if weight is not None:
        rounded = (
            weight.element_size() == 2
        )  # summed in float32 and rounded; symmetry is checked on the rounded sums
        summed = (weight.to(torch.float32) if rounded else weight).contiguous()
    rowptr, columns, value, entry, first, order, flags, i, j = torch.ops.hierpool_native.csr_build.default(
        row,
        col,
        summed,
        None if batch is None else batch.contiguous(),
        None if ptr is None else ptr.contiguous(),
        num_nodes,
        num_graphs,
        options.merge,
        options.want_entry_of_edge,
        options.symmetric is None and not rounded,
        dtype is torch.int64,
    )
    sorted_batch = not order.numel()
    if flags & _FAULT:
        fault = Fault(flags & _FAULT)
        if fault == Fault.CROSSING and not sorted_batch:
            i, j = order[[i, j]].tolist()
        return Problem(fault, i, j)
    if flags & _AS_GIVEN:
        value = weight
    elif options.coalesced and sorted_batch:
        return Problem(Fault.NOT_COALESCED)
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
        None if sorted_batch else order,
        entry if options.want_entry_of_edge and not flags & _AS_GIVEN else None,
        symmetric,
    )


def transpose(rowptr: Tensor, col: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers and columns of the transpose, and the original entry of each of its entries."""
    return torch.ops.hierpool_native.csr_transpose.default(rowptr.contiguous(), col.contiguous(), columns)


def ranges(offsets: Tensor, count: int) -> Tensor:
    """See :func:`hierpool.contract.ranges_of`."""
    found: Tensor = torch.ops.hierpool_native.csr_ranges.default(offsets.contiguous(), count)
    return found


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix is bitwise equal to its transpose."""
    value = None if value is None else value.contiguous()
    return torch.ops.hierpool_native.csr_is_symmetric.default(rowptr.contiguous(), col.contiguous(), value)


def inspect(
    rowptr: Tensor, col: Tensor, ptr: Tensor, value: Tensor | None, symmetry: bool
) -> tuple[bool, bool | None] | Problem:
    """Whether the columns of every row are strictly ascending; symmetry is tested by a call of its own."""
    rowptr, col, ptr = rowptr.contiguous(), col.contiguous(), ptr.contiguous()
    flags, i, j = torch.ops.hierpool_native.csr_inspect.default(rowptr, col, ptr)
    if flags & _FAULT:
        return Problem(Fault(flags & _FAULT), i, j)
    return bool(flags & _AS_GIVEN), None


def blocks(
    rowptr: Tensor, col: Tensor, ptr: Tensor, col_ptr: Tensor, index: Tensor, want_entry: bool
) -> Blocks:
    """The blocks ``index`` of a matrix whose blocks begin with the rows ``ptr`` and the columns ``col_ptr``."""
    found = Blocks(
        *torch.ops.hierpool_native.csr_blocks.default(rowptr, col, ptr, col_ptr, index, want_entry)
    )
    return found if want_entry else found._replace(entry=None)
