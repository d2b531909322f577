"""Matrices in compressed rows by plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import problems
from hierpool.graph.csr import Built, Edges, Options, index_dtype, rows, sum_by_slot


def build(edges: Edges, options: Options) -> Built:
    """Sort edges into rows."""
    row, col, weight, batch, _, n, num_graphs = edges
    check = options.validate or row.device.type == "cpu"
    if check:
        _check_range(n, **{"edge_index[0]": row, "edge_index[1]": col})
    ptr, order = _graphs(batch, edges.ptr, n, num_graphs, check, row.device)
    if order is not None:
        rank = torch.empty_like(order)
        rank[order] = torch.arange(n, device=order.device)
        row, col = rank[row], rank[col]
    if check:
        _check_blocks(row, col, ptr, order)
    dtype = index_dtype(n, row.numel())
    value, slot = weight, None
    if options.coalesced and order is None:
        if check and not _ascends(row, col):
            raise problems.not_coalesced()
    else:
        edges_in_row_order = torch.argsort(row.to(torch.int64) * n + col, stable=True)
        row, col, slot = _merge(row, col, edges_in_row_order, options.compact)
        value = _values(weight, slot, col.numel(), merged=col.numel() < slot.numel())
        slot = slot.to(dtype) if options.want_slot else None
    rowptr = torch.searchsorted(row.to(torch.int64), torch.arange(n + 1, device=row.device)).to(dtype)
    col = col.to(dtype, copy=True)
    symmetric = options.symmetric
    if symmetric is None:
        symmetric = is_symmetric(rowptr, col, value)
    return Built(rowptr, col, value, ptr, order, slot, symmetric)


def _check_range(n: int, **ends: Tensor) -> None:
    """The ends of edges by their names, each ``[E]``; the first edge with a wrong one is named."""
    wrong = torch.stack([(end < 0) | (end >= n) for end in ends.values()], 1)  # [E, ends]
    if bool(wrong.any()):
        e, which = divmod(int(wrong.flatten().int().argmax()), len(ends))
        name = list(ends)[which]
        raise problems.out_of_range(name, e, ends[name][e], n)


def _check_blocks(row: Tensor, col: Tensor, ptr: Tensor, order: Tensor | None) -> None:
    if ptr.numel() <= 2:
        return
    first, second = (torch.searchsorted(ptr, end.to(torch.int64), right=True) for end in (row, col))
    wrong = first != second
    if bool(wrong.any()):
        e = int(wrong.int().argmax())
        raise problems.crossing(int(row[e]), int(col[e]), ptr, order)


def _graphs(
    batch: Tensor | None,
    ptr: Tensor | None,
    n: int,
    num_graphs: int | None,
    check: bool,
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """The first node of each graph, and the order of nodes if ``batch`` is not sorted."""
    if ptr is not None:
        if check and (int(ptr[0]) != 0 or int(ptr[-1]) != n or bool((ptr.diff() < 0).any())):
            raise problems.pointers("ptr", ptr, "nodes", n)
        return ptr, None
    if batch is None:
        return torch.tensor([0, n], device=device), None
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1 if n else 0
    if check:
        wrong = (batch < 0) | (batch >= num_graphs)
        if bool(wrong.any()):
            i = int(wrong.int().argmax())
            raise problems.batch_out_of_range(i, batch[i], num_graphs)
    ordered, order = batch, None
    if bool((batch.diff() < 0).any()):
        ordered, order = torch.sort(batch, stable=True)
    return torch.searchsorted(ordered, torch.arange(num_graphs + 1, device=device)), order


def _ascends(rows: Tensor, cols: Tensor) -> bool:
    later = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (cols[1:] > cols[:-1]))
    return bool(later.all())


def _merge(row: Tensor, col: Tensor, perm: Tensor, compact: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns in the order of ``perm``, without duplicates if ``compact``, and the entry of each edge."""
    row, col = row[perm], col[perm]
    first = torch.ones_like(row, dtype=torch.bool)
    first[1:] = (row[1:] != row[:-1]) | (col[1:] != col[:-1])
    entry = first.cumsum(0) - 1
    if compact:
        row, col = row[first], col[first]
    else:
        entry = first.nonzero().flatten()[entry]
    return row, col, torch.empty_like(perm).index_copy(0, perm, entry)


def _values(weight: Tensor | None, slot: Tensor, entries: int, merged: bool) -> Tensor | None:
    if weight is None:
        if not merged:
            return None
        weight = torch.ones(slot.numel(), device=slot.device)
    return sum_by_slot(weight, slot, entries)


def transpose(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the transpose, and the entry that each of its entries comes from."""
    source = torch.argsort(col, stable=True)
    nodes = torch.arange(rowptr.numel(), dtype=col.dtype, device=col.device)
    rowptr_t = torch.searchsorted(col[source], nodes).to(rowptr.dtype)
    return rowptr_t, rows(rowptr, col.numel())[source], source.to(col.dtype)


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix equals its transpose, bit for bit."""
    rowptr_t, col_t, source = transpose(rowptr, col)
    if not (torch.equal(rowptr, rowptr_t) and torch.equal(col, col_t)):
        return False
    if value is None:
        return True
    bits = value.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()])
    return torch.equal(bits, bits[source])


def is_canonical(rowptr: Tensor, col: Tensor, ptr: Tensor) -> bool:
    """Whether the columns of every row ascend and differ."""
    n = rowptr.numel() - 1
    if int(rowptr[0]) != 0 or int(rowptr[-1]) != col.numel() or bool((rowptr.diff() < 0).any()):
        raise problems.pointers("rowptr", rowptr, "entries", col.numel())
    _check_range(n, col=col)
    _graphs(None, ptr, n, None, True, col.device)
    row = rows(rowptr, col.numel())
    _check_blocks(row, col, ptr, None)
    return _ascends(row, col)
