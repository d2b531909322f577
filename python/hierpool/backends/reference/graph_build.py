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

ranges = ranges_of

HOST = ("cpu",)  # devices whose values are always checked, as reading them waits for nothing


def build(edges: Edges, options: BuildOptions) -> Built | Problem:
    """Sort edges into rows, once. What the host has to know is read once, unless values are checked."""
    row, col, weight, _, _, n, num_graphs = edges
    check = options.validate or row.device.type in HOST
    if check and (problem := _out_of_range(row, col, n) or _bad_graphs(edges, num_graphs)):
        return problem
    ptr, order, known = _graphs(edges, num_graphs)
    if options.coalesced and (built := _as_given(edges, ptr, known, options, check)) is not None:
        return built
    if order is not None:
        place = torch.empty_like(order)
        place[order] = torch.arange(n, device=order.device)
        row, col = place[row], place[col]
    if check and (problem := _crossing(row, col, ptr, order)):
        return problem
    keys, place = torch.sort(_keys(row, col, n), stable=True)
    first = torch.ones_like(keys, dtype=torch.bool)  # of several equal edges
    first[1:] = keys[1:] != keys[:-1]
    count, run = keys.numel(), first.cumsum(0) - 1
    if not options.merge:
        run = torch.where(first, torch.arange(count, device=run.device), 0).cummax(0)[0]
    entry = torch.empty_like(place).index_copy(0, place, run)
    summed = weight is not None or (options.merge and options.symmetric is None)
    value = _sums(weight, entry, count) if summed else None
    if options.symmetric is None:
        known["symmetric"] = _equals_transpose(keys, n, None if value is None else value[run])
    if options.merge and count:
        known["entries"] = run[-1] + 1
    found = _read(known)
    entries = found.get("entries", count)
    if entries < count:
        keys = keys[torch.searchsorted(run, torch.arange(entries, device=run.device))]
        value = (_sums(weight, entry, count) if value is None else value)[:entries].clone()
    elif weight is None:
        value = None
    dtype = index_dtype(n, count)
    rowptr = torch.searchsorted(keys, _keys(torch.arange(n + 1, device=keys.device), 0, n)).to(dtype)
    return Built(
        rowptr,
        (keys % max(n, 1)).to(dtype),
        value,
        ptr,
        None if found.get("sorted", True) else order,
        entry.to(dtype) if options.want_entry_of_edge else None,
        bool(found.get("symmetric", options.symmetric)),
    )


def _as_given(
    edges: Edges, ptr: Tensor, known: dict[str, Tensor], options: BuildOptions, check: bool
) -> Built | Problem | None:
    """Rows of edges that are stated to be sorted; ``None`` if the batch is not sorted by graph."""
    row, col, weight, _, _, n, _ = edges
    if options.symmetric is None:
        known = known | {"symmetric": _equals_transpose(_keys(row, col, n), n, weight)}
    found = _read(known)
    if not found.get("sorted", True):
        return None
    if check and (problem := _crossing(row, col, ptr, None)):
        return problem
    if check and not _ascends(row, col):
        return Problem(Fault.NOT_COALESCED)
    dtype = index_dtype(n, row.numel())
    rowptr = torch.searchsorted(row.to(torch.int64), torch.arange(n + 1, device=row.device)).to(dtype)
    symmetric = bool(found.get("symmetric", options.symmetric))
    return Built(rowptr, col.to(dtype, copy=True), weight, ptr, None, None, symmetric)


def _read(known: dict[str, Tensor]) -> dict[str, int]:
    """Numbers on a device, which waits for it once."""
    return (
        dict(zip(known, torch.stack([t.to(torch.int64) for t in known.values()]).tolist(), strict=True))
        if known
        else {}
    )


def _keys(row: Tensor, col: Tensor | int, n: int) -> Tensor:
    """A number for each pair, in the order of rows and columns."""
    return row.to(torch.int64) * n + col


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


def _graphs(edges: Edges, num_graphs: int) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """The first node of each graph, and of a ``batch`` the order of nodes by graph and whether it is theirs."""
    if edges.ptr is not None:
        return edges.ptr, None, {}
    if edges.batch is None:
        return torch.arange(2, device=edges.row.device) * edges.num_nodes, None, {}
    batch, order = torch.sort(edges.batch, stable=True)
    ptr = torch.searchsorted(batch, torch.arange(num_graphs + 1, device=batch.device))
    return ptr, order, {"sorted": (edges.batch.diff() >= 0).all()}


def _crossing(row: Tensor, col: Tensor, ptr: Tensor, order: Tensor | None) -> Problem | None:
    if ptr.numel() <= 2:
        return None
    first, second = (torch.searchsorted(ptr, end.to(torch.int64), right=True) for end in (row, col))
    e = _first(first != second)
    if e is None:
        return None
    i, j = (int(end[e] if order is None else order[end[e]]) for end in (row, col))
    return Problem(Fault.CROSSING, i, j)


def _later(row: Tensor, col: Tensor) -> Tensor:
    """Whether each pair is later than the one before it."""
    return (row[1:] > row[:-1]) | ((row[1:] == row[:-1]) & (col[1:] > col[:-1]))


def _ascends(row: Tensor, col: Tensor) -> bool:
    return bool(_later(row, col).all())


def _sums(weight: Tensor | None, entry_of_edge: Tensor, num_entries: int) -> Tensor:
    """Sums of the weights of each entry, or of ones."""
    if weight is None:
        weight = torch.ones(entry_of_edge.numel(), dtype=torch.float32, device=entry_of_edge.device)
    return sum_by_index(weight, entry_of_edge, num_entries)


def transpose(rowptr: Tensor, col: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers and columns of the transpose, and the original entry of each of its entries."""
    source = torch.argsort(col, stable=True)
    nodes = torch.arange(columns + 1, dtype=col.dtype, device=col.device)
    rowptr_t = torch.searchsorted(col[source], nodes).to(rowptr.dtype)
    return rowptr_t, ranges_of(rowptr, col.numel())[source], source.to(col.dtype)


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix is bitwise equal to its transpose."""
    n = rowptr.numel() - 1
    return bool(_equals_transpose(_keys(ranges_of(rowptr, col.numel()), col, n), n, value))


def _equals_transpose(keys: Tensor, n: int, value: Tensor | None) -> Tensor:
    """Whether pairs, numbered by ascending ``keys``, and values are those of the transpose, bool 0-d. Of several equal
    pairs all have the same value."""
    if not keys.numel():
        return keys.new_ones((), dtype=torch.bool)
    row = keys // n
    turned = _keys(keys - row * n, row, n)
    at = torch.searchsorted(keys, turned).clamp_(max=keys.numel() - 1)
    same = keys[at] == turned
    if value is not None:
        bits = value.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()])
        same &= bits == bits[at]
    return same.all()


def inspect(
    rowptr: Tensor, col: Tensor, ptr: Tensor, value: Tensor | None, symmetry: bool
) -> tuple[bool, bool | None] | Problem:
    """Whether the columns of every row are strictly ascending; and, if ``symmetry``, whether the matrix is then bitwise
    equal to its transpose. Read once, unless something is wrong."""
    n, places = rowptr.numel() - 1, torch.arange(col.numel(), dtype=rowptr.dtype, device=col.device)
    row = torch.searchsorted(rowptr, places, right=True) - 1
    graph, other = (torch.searchsorted(ptr, end.to(torch.int64), right=True) for end in (row, col))
    valid = ((col >= 0) & (col < n) & (graph == other)).all()
    for pointer, last in ((rowptr, col.numel()), (ptr, n)):
        valid &= (pointer[0] == 0) & (pointer[-1] == last) & (pointer.diff() >= 0).all()
    known = {"valid": valid, "ascends": _later(row, col).all()}
    if symmetry:
        known["symmetric"] = _equals_transpose(_keys(row, col, n), n, value)
    found = _read(known)
    if found["valid"]:
        return bool(found["ascends"]), bool(found["symmetric"]) if symmetry else None
    if not _is_pointer(rowptr, col.numel()):
        return Problem(Fault.ROWPTR)
    i = _first((col < 0) | (col >= n))
    if i is not None:
        return Problem(Fault.COL_RANGE, i)
    if not _is_pointer(ptr, n):
        return Problem(Fault.PTR)
    problem = _crossing(row, col, ptr, None)
    assert problem is not None
    return problem


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
