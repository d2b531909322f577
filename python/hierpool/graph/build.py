"""Sorting edges into compressed rows, transposing, testing for symmetry: by a backend, or as operators for tracing.

Eager calls go to a backend, and sizes may depend on values: duplicate edges are merged, unsorted batches are sorted.
Under a compiler sizes cannot depend on values: ``hierpool::csr_build`` keeps one entry for every edge.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced, is_transformed
from hierpool.contract import (
    Blocks,
    BuildOptions,
    Built,
    Edges,
    Problem,
    index_dtype,
    ranges_of,
    sum_by_index,
)
from hierpool.graph import checks
from hierpool.graph.facts import normally

_LIB = torch.library.Library("hierpool", "FRAGMENT")
_LIB.define(
    "csr_build(Tensor row, Tensor col, Tensor? batch, Tensor? ptr, SymInt num_nodes, SymInt num_graphs)"
    " -> (Tensor rowptr, Tensor col, Tensor ptr, Tensor entry_of_edge)"
)
_LIB.define(
    "csr_transpose(Tensor rowptr, Tensor col, SymInt? columns=None)"
    " -> (Tensor rowptr, Tensor col, Tensor source)"
)


def _backend(device: torch.device) -> ModuleType:
    module = backends.module("graph_build", device.type)
    assert module is not None
    return module


def build(edges: Edges, options: BuildOptions) -> Built:
    """Sort edges into rows.

    Raises:
        ValueError: a value is out of range, an edge joins two graphs, or the edges are not coalesced as stated.
    """
    built = normally(_backend(edges.row.device).build, edges, options)
    if isinstance(built, Problem):
        raise checks.edge_error(built, edges)
    return built


def build_traced(
    edges: Edges, weight: Tensor | None, attr: Tensor | None, is_coalesced: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Row pointers, columns, values, graph pointers and features with one entry for every edge."""
    row, col, _, batch, ptr, num_nodes, num_graphs = edges
    csr_build = _exported_build if torch.compiler.is_exporting() else torch.ops.hierpool.csr_build
    rowptr, col, ptr, entry = csr_build(row, col, batch, ptr, num_nodes, num_graphs)
    if not is_coalesced:
        if weight is None:
            weight = torch.ones(entry.numel(), dtype=torch.float32, device=entry.device)
        weight = sum_by_index(weight, entry, entry.numel())
        attr = None if attr is None else sum_by_index(attr, entry, entry.numel())
    return rowptr, col, weight, ptr, attr


def traced_rows(ends: Tensor, ptr: Tensor, num_nodes: int, num_graphs: int) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and the entry of each edge ``ends [2, E]``, with one entry for every edge."""
    csr_build = _exported_build if torch.compiler.is_exporting() else torch.ops.hierpool.csr_build
    rowptr, col, _, entry = csr_build(ends[0], ends[1], None, ptr, num_nodes, num_graphs)
    return rowptr, col, entry


def transpose(rowptr: Tensor, col: Tensor, columns: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers and columns of the transpose, and for each of its entries the entry it comes from.

    ``columns``: of the matrix; ``None``: as many as there are rows.
    """
    columns = rowptr.numel() - 1 if columns is None else columns
    return normally(_backend(rowptr.device).transpose, rowptr, col, columns)


def ranges(offsets: Tensor, count: int) -> Tensor:
    """:func:`hierpool.contract.ranges_of` by a backend, which takes less time for a few elements."""
    if is_traced() or is_transformed():
        return ranges_of(offsets, count)
    found: Tensor = _backend(offsets.device).ranges(offsets, count)
    return found


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix equals its transpose exactly, ``False`` under tracing.

    Columns must ascend strictly within each row.
    """
    if is_traced():
        return False
    return normally(
        _backend(rowptr.device).is_symmetric, rowptr, col, None if value is None else value.detach()
    )


def inspect(
    rowptr: Tensor, col: Tensor, ptr: Tensor, value: Tensor | None, symmetry: bool
) -> tuple[bool, bool | None]:
    """Whether the columns of every row ascend strictly. If they do, and ``symmetry``, also whether the matrix equals
    its transpose exactly, or ``None``, if the backend does not tell both at once.

    Raises:
        ValueError: the arrays are not a matrix in compressed rows with one block for every graph.
    """
    value = None if value is None else value.detach()
    found = _backend(rowptr.device).inspect(rowptr, col, ptr, value, symmetry)
    if isinstance(found, Problem):
        raise checks.rows_error(found, rowptr, col, ptr)
    return found


def blocks(
    rowptr: Tensor, col: Tensor, ptr: Tensor, col_ptr: Tensor, index: Tensor, want_entry: bool
) -> Blocks:
    """The blocks ``index`` of a matrix whose blocks begin with the rows ``ptr`` and the columns ``col_ptr``."""
    found: Blocks = normally(_backend(rowptr.device).blocks, rowptr, col, ptr, col_ptr, index, want_entry)
    if rowptr.dtype is torch.int32:
        return found
    dtype = index_dtype(max(found.row.numel(), rowptr.numel()), found.col.numel())
    return found._replace(rowptr=found.rowptr.to(dtype), col=found.col.to(dtype))


def _build_op(
    row: Tensor, col: Tensor, batch: Tensor | None, ptr: Tensor | None, num_nodes: int, num_graphs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edges = Edges(row, col, None, batch, ptr, num_nodes, num_graphs)
    built = build(edges, BuildOptions(merge=False, want_entry_of_edge=True, symmetric=False))
    if built.order is not None:
        raise ValueError("batch must be sorted under torch.compile, where sizes cannot depend on its values")
    entry = built.entry_of_edge
    if entry is None:
        entry = torch.arange(built.col.numel(), dtype=built.col.dtype, device=built.col.device)
    return built.rowptr, built.col, built.ptr.clone() if built.ptr is ptr else built.ptr, entry


def transpose_traced(
    rowptr: Tensor, col: Tensor, columns: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`transpose` under a compiler."""
    if not torch.compiler.is_exporting():
        return torch.ops.hierpool.csr_transpose(rowptr, col, columns)
    row = ranges_of(rowptr, col.numel())
    n = rowptr.numel() - 1
    _, source = torch.sort(_keys(col, row, n))
    columns = n if columns is None else columns
    return _offsets(col, columns).to(rowptr.dtype), row[source], source.to(col.dtype)


# Programs that torch.export makes run without this package.


def _keys(row: Tensor, col: Tensor, num_nodes: int) -> Tensor:
    """A number for each pair, in the order of rows and columns."""
    return row.to(torch.int64) * num_nodes + col


def _offsets(index: Tensor, count: int) -> Tensor:
    """First element of each of ``count`` groups if elements are sorted by ``index``, int64 ``[count + 1]``."""
    following = index.to(torch.int64) + 1
    sizes = torch.zeros(count + 1, dtype=torch.int64, device=index.device)
    return sizes.scatter_add(0, following, torch.ones_like(following)).cumsum(0)


def _exported_build(
    row: Tensor, col: Tensor, batch: Tensor | None, ptr: Tensor | None, num_nodes: int, num_graphs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``csr_build`` in operations of PyTorch, with int64 for ONNX. Of all values, the order of ``batch`` is checked."""
    keys, order = torch.sort(_keys(row, col, num_nodes))
    place = torch.arange(keys.numel(), device=row.device)
    run = torch.cat([keys[:1] * 0, (keys[1:] != keys[:-1]).to(torch.int64)]).cumsum(0)  # of equal edges
    first = torch.full_like(place, keys.numel()).scatter_reduce(0, run, place, "amin")
    entry = torch.zeros_like(place).scatter(0, order, first[run])
    if ptr is None and batch is None:
        ptr = torch.arange(2, device=row.device) * num_nodes
    elif ptr is None:
        assert batch is not None
        torch._assert_async((batch[1:] >= batch[:-1]).all(), "batch must be sorted in an exported program")
        ptr = _offsets(batch, num_graphs)
    return _offsets(row, num_nodes), col[order].to(torch.int64), ptr.clone(), entry


def _build_fake(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    row, _, _, _, num_nodes, num_graphs = args
    num_edges = row.numel()
    index = index_dtype(num_nodes, num_edges)
    rowptr, col, entry = (row.new_empty(n, dtype=index) for n in (num_nodes + 1, num_edges, num_edges))
    return rowptr, col, row.new_empty(num_graphs + 1, dtype=torch.int64), entry


def _transpose_fake(rowptr: Tensor, col: Tensor, columns: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    rows = rowptr.numel() if columns is None else columns + 1
    return rowptr.new_empty(rows), torch.empty_like(col), torch.empty_like(col)


for _key in ("CPU", "CUDA"):
    _LIB.impl("csr_build", _build_op, _key)
    _LIB.impl("csr_transpose", transpose, _key)
torch.library.register_fake("hierpool::csr_build", _build_fake, lib=_LIB)
torch.library.register_fake("hierpool::csr_transpose", _transpose_fake, lib=_LIB)
