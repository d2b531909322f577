"""Matrices in compressed rows in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.contract import (
    Blocks,
    BuildOptions,
    Built,
    Edges,
    Fault,
    Problem,
    entries_of,
    index_dtype,
    ranges_of,
    sum_by_index,
)


def build(edges: Edges, options: BuildOptions) -> Built | Problem:
    """Sort edges into rows."""
    row, col, weight, _, _, n, num_graphs = edges
    check = options.validate or row.device.type == "cpu"
    if check and (problem := _out_of_range(row, col, n) or _bad_graphs(edges, num_graphs)):
        return problem
    ptr, order = _graphs(edges, num_graphs)
    if order is not None:
        place = torch.empty_like(order)
        place[order] = torch.arange(n, device=order.device)
        row, col = place[row], place[col]
    if check and (problem := _crossing(row, col, ptr, order)):
        return problem
    dtype = index_dtype(n, row.numel())
    value, entry = weight, None
    if options.coalesced and order is None:
        if check and not _ascends(row, col):
            return Problem(Fault.NOT_COALESCED)
    else:
        row, col, entry = _sort(row, col, n, options.merge)
        value = _values(weight, entry, col.numel())
        entry = entry.to(dtype) if options.want_entry_of_edge else None
    rowptr = torch.searchsorted(row.to(torch.int64), torch.arange(n + 1, device=row.device)).to(dtype)
    col = col.to(dtype, copy=True)
    symmetric = options.symmetric
    if symmetric is None:
        symmetric = is_symmetric(rowptr, col, value)
    return Built(rowptr, col, value, ptr, order, entry, symmetric)


def _first(wrong: Tensor) -> int | None:
    """Position of the first ``True``."""
    return int(wrong.int().argmax()) if bool(wrong.any()) else None


def _out_of_range(row: Tensor, col: Tensor, n: int) -> Problem | None:
    ends = torch.stack([row, col], 1)
    i = _first(((ends < 0) | (ends >= n)).flatten())
    return None if i is None else Problem((Fault.ROW_RANGE, Fault.COL_RANGE)[i % 2], i // 2)


def _bad_graphs(edges: Edges, num_graphs: int) -> Problem | None:
    if edges.ptr is not None:
        return None if _is_pointer(edges.ptr, edges.num_nodes) else Problem(Fault.PTR)
    i = None if edges.batch is None else _first((edges.batch < 0) | (edges.batch >= num_graphs))
    return None if i is None else Problem(Fault.BATCH_RANGE, i, num_graphs)


def _is_pointer(pointer: Tensor, last: int) -> bool:
    return int(pointer[0]) == 0 and int(pointer[-1]) == last and not bool((pointer.diff() < 0).any())


def _graphs(edges: Edges, num_graphs: int) -> tuple[Tensor, Tensor | None]:
    """The first node of each graph, and the order of nodes if ``batch`` is not sorted."""
    if edges.ptr is not None:
        return edges.ptr, None
    if edges.batch is None:
        return torch.tensor([0, edges.num_nodes], device=edges.row.device), None
    batch, order = edges.batch, None
    if bool((batch.diff() < 0).any()):
        batch, order = torch.sort(batch, stable=True)
    return torch.searchsorted(batch, torch.arange(num_graphs + 1, device=batch.device)), order


def _crossing(row: Tensor, col: Tensor, ptr: Tensor, order: Tensor | None) -> Problem | None:
    if ptr.numel() <= 2:
        return None
    first, second = (torch.searchsorted(ptr, end.to(torch.int64), right=True) for end in (row, col))
    e = _first(first != second)
    if e is None:
        return None
    i, j = (int(end[e] if order is None else order[end[e]]) for end in (row, col))
    return Problem(Fault.CROSSING, i, j)


def _ascends(row: Tensor, col: Tensor) -> bool:
    later = (row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & (col[1:] > col[:-1]))
    return bool(later.all())


def _sort(row: Tensor, col: Tensor, n: int, merge: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns in ascending order, without duplicates if ``merge``, and the entry of each edge."""
    order = torch.argsort(row.to(torch.int64) * n + col, stable=True)
    row, col = row[order], col[order]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = (row[1:] != row[:-1]) | (col[1:] != col[:-1])
    entry = first.cumsum(0) - 1
    if merge:
        row, col = row[first], col[first]
    else:
        entry = first.nonzero().flatten()[entry]
    return row, col, torch.empty_like(order).index_copy(0, order, entry)


def _values(weight: Tensor | None, entry_of_edge: Tensor, num_entries: int) -> Tensor | None:
    if weight is None:
        if num_entries == entry_of_edge.numel():
            return None
        weight = torch.ones(entry_of_edge.numel(), device=entry_of_edge.device)
    return sum_by_index(weight, entry_of_edge, num_entries)


def transpose(rowptr: Tensor, col: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers and columns of the transpose, and the original entry of each of its entries."""
    source = torch.argsort(col, stable=True)
    nodes = torch.arange(columns + 1, dtype=col.dtype, device=col.device)
    rowptr_t = torch.searchsorted(col[source], nodes).to(rowptr.dtype)
    return rowptr_t, ranges_of(rowptr, col.numel())[source], source.to(col.dtype)


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix is bitwise equal to its transpose."""
    rowptr_t, col_t, source = transpose(rowptr, col, rowptr.numel() - 1)
    if not (torch.equal(rowptr, rowptr_t) and torch.equal(col, col_t)):
        return False
    if value is None:
        return True
    bits = value.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()])
    return torch.equal(bits, bits[source])


def is_canonical(rowptr: Tensor, col: Tensor, ptr: Tensor) -> bool | Problem:
    """Whether the columns of every row are strictly ascending."""
    n = rowptr.numel() - 1
    if not _is_pointer(rowptr, col.numel()):
        return Problem(Fault.ROWPTR)
    i = _first((col < 0) | (col >= n))
    if i is not None:
        return Problem(Fault.COL_RANGE, i)
    if not _is_pointer(ptr, n):
        return Problem(Fault.PTR)
    row = ranges_of(rowptr, col.numel())
    return _crossing(row, col, ptr, None) or _ascends(row, col)


def blocks(
    rowptr: Tensor, col: Tensor, ptr: Tensor, col_ptr: Tensor, index: Tensor, want_entry: bool
) -> Blocks:
    """The blocks ``index`` of a matrix whose blocks begin with the rows ``ptr`` and the columns ``col_ptr``."""
    own, row = entries_of(ptr, index)  # the block of each row among those of index, and the row
    of_row, entry = entries_of(rowptr, row)
    first_row, first_col = (torch.cat([ptr.new_zeros(1), p.diff()[index].cumsum(0)]) for p in (ptr, col_ptr))
    moved = (first_col[:-1] - col_ptr[index])[own[of_row]]
    first = torch.cat([ptr.new_zeros(1), rowptr.diff()[row].cumsum(0)])
    columns = (col[entry] + moved).to(col.dtype)
    kept = entry if want_entry else None
    return Blocks(first.to(rowptr.dtype), columns, first_row, first_col, row, kept)
