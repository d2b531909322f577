"""Matrices in compressed rows by plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph.csr import Built, Edges, Options, index_dtype, rows, sum_by_slot


def build(edges: Edges, options: Options) -> Built:
    """Sort edges into rows."""
    row, col, weight, batch, _, n, num_graphs = edges
    check = options.validate or row.device.type == "cpu"
    if check:
        _check_range(row, col, n)
    ptr, order = _graphs(batch, edges.ptr, n, num_graphs, check, row.device)
    if order is not None:
        rank = torch.empty_like(order)
        rank[order] = torch.arange(n, device=order.device)
        row, col = rank[row], rank[col]
    if check:
        _check_blocks(row, col, ptr, order)
    dtype = index_dtype(n, row.numel())
    ordered, cols, perm = row, col, None
    if not options.coalesced:
        perm = torch.argsort(row.to(torch.int64) * n + col, stable=True)
        ordered, cols = row[perm], col[perm]
    elif check and not _ascends(ordered, cols):
        raise ValueError(
            "edge_index was given with is_coalesced=True, but is not sorted by row and column without duplicates"
        )
    ordered, cols, slot = _merge(ordered, cols, perm, options.compact)
    rowptr = torch.searchsorted(ordered.to(torch.int64), torch.arange(n + 1, device=row.device)).to(dtype)
    value = _values(weight, slot, cols.numel(), merged=cols.numel() < row.numel() or not options.compact)
    columns = cols.to(dtype, copy=True)
    symmetric = options.symmetric
    if symmetric is None:
        symmetric = is_symmetric(rowptr, columns, value)
    wanted = slot.to(dtype) if options.want_slot else None
    return Built(rowptr, columns, value, ptr, order, wanted, symmetric)


def _check_range(row: Tensor, col: Tensor, n: int) -> None:
    for name, index in (("edge_index[0]", row), ("edge_index[1]", col)):
        wrong = (index < 0) | (index >= n)
        if bool(wrong.any()):
            e = int(wrong.int().argmax())
            raise ValueError(f"{name}[{e}] is {int(index[e])}, but there are {n} nodes, numbered from 0")


def _check_blocks(row: Tensor, col: Tensor, ptr: Tensor, order: Tensor | None) -> None:
    if ptr.numel() <= 2 or not row.numel():
        return
    first, second = (torch.searchsorted(ptr, end.to(torch.int64), right=True) for end in (row, col))
    if bool((first != second).any()):
        e = int((first != second).int().argmax())
        i, j = (int(end[e] if order is None else order[end[e]]) for end in (row, col))
        raise ValueError(
            f"edge {e} joins node {i} of graph {int(first[e]) - 1} to node {j} of graph {int(second[e]) - 1};"
            " the edges of a batch stay within its graphs"
        )


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
            raise ValueError(f"ptr must ascend from 0 to the number of nodes, {n}, got {_some(ptr)}")
        return ptr, None
    if batch is None:
        return torch.tensor([0, n], device=device), None
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1 if n else 0
    if check and n:
        low, high = (int(v) for v in torch.aminmax(batch))
        if low < 0 or high >= num_graphs:
            raise ValueError(
                f"batch must lie between 0 and num_graphs - 1 = {num_graphs - 1}, got values from {low} to {high}"
            )
    ordered, order = batch, None
    if bool((batch.diff() < 0).any()):
        ordered, order = torch.sort(batch, stable=True)
    return torch.searchsorted(ordered, torch.arange(num_graphs + 1, device=device)), order


def _some(t: Tensor) -> str:
    values = t[:8].tolist()
    return f"{values}"[:-1] + (", ...]" if t.numel() > 8 else "]")


def _ascends(rows: Tensor, cols: Tensor) -> bool:
    later = (rows[1:] > rows[:-1]) | ((rows[1:] == rows[:-1]) & (cols[1:] > cols[:-1]))
    return bool(later.all())


def _merge(rows: Tensor, cols: Tensor, perm: Tensor | None, compact: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns without duplicates, or with them, and the entry of each edge."""
    place = torch.arange(rows.numel(), device=rows.device)
    if perm is None:
        return rows, cols, place
    first = torch.ones_like(rows, dtype=torch.bool)
    first[1:] = (rows[1:] != rows[:-1]) | (cols[1:] != cols[:-1])
    if compact:
        entry = first.cumsum(0) - 1
        rows, cols = rows[first], cols[first]
    else:
        entry = torch.where(first, place, 0)
        entry = entry.cummax(0).values if entry.numel() else entry
    slot = torch.empty_like(perm)
    slot[perm] = entry
    return rows, cols, slot


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
    """Whether the matrix equals its transpose, exactly."""
    rowptr_t, col_t, source = transpose(rowptr, col)
    return (
        torch.equal(rowptr, rowptr_t)
        and torch.equal(col, col_t)
        and (value is None or torch.equal(value, value[source]))
    )


def is_canonical(rowptr: Tensor, col: Tensor, ptr: Tensor) -> bool:
    """Whether the columns of every row ascend and differ."""
    n = rowptr.numel() - 1
    if int(rowptr[0]) != 0 or int(rowptr[-1]) != col.numel() or bool((rowptr.diff() < 0).any()):
        raise ValueError(
            f"rowptr must ascend from 0 to the number of entries, {col.numel()}, got {_some(rowptr)}"
        )
    wrong = (col < 0) | (col >= n)
    if bool(wrong.any()):
        e = int(wrong.int().argmax())
        raise ValueError(f"col[{e}] is {int(col[e])}, but there are {n} nodes, numbered from 0")
    _graphs(None, ptr, n, None, True, col.device)
    row = rows(rowptr, col.numel())
    _check_blocks(row, col, ptr, None)
    return _ascends(row, col)
