"""Other forms of graphs, from and to the arrays of compressed rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierpool._tracing import seen
from hierpool.graph import checks
from hierpool.graph.csr import index_dtype

if TYPE_CHECKING:
    from hierpool.graph.ragged import RaggedGraph

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def torch_rows(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and values of a sparse matrix of torch, which are its own if it is in that format."""
    if matrix.layout not in _SPARSE:
        raise TypeError(f"matrix must be sparse (COO, CSR or CSC), got layout {matrix.layout}")
    if matrix.dim() != 2 or matrix.size(0) != matrix.size(1) or matrix.dense_dim() != 0:
        raise ValueError(f"matrix must have shape [N, N] and scalar entries, got {tuple(matrix.shape)}")
    if matrix.layout is torch.sparse_csr:
        return matrix.crow_indices(), matrix.col_indices(), matrix.values()
    matrix = matrix.to_sparse_coo().coalesce()
    row, col = matrix.indices()
    nodes = torch.arange(matrix.size(0) + 1, device=row.device)
    return torch.searchsorted(row, nodes), col, matrix.values()


def scipy_rows(matrix: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and values of a SciPy matrix, which share memory with its own if it is in that format."""
    if not hasattr(matrix, "tocsr"):
        raise TypeError(f"matrix must be a sparse matrix of torch or SciPy, got {type(matrix).__name__}")
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must have shape [N, N], got {tuple(matrix.shape)}")
    rows = matrix.tocsr()
    value = torch.from_numpy(rows.data)
    return torch.from_numpy(rows.indptr), torch.from_numpy(rows.indices), value


def dense_rows(adj: Any, mask: Any, num_nodes: Any) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Row pointers, columns, values and first nodes of the valid part of ``adj``."""
    adj = checks.strided("adj", adj)
    if adj.dim() not in (2, 3) or adj.size(-1) != adj.size(-2):
        raise ValueError(f"adj must have shape [B, N, N] or [N, N], got {tuple(adj.shape)}")
    single = adj.dim() == 2
    adj = adj.unsqueeze(0) if single else adj
    b, n, _ = adj.shape
    valid = _valid(adj, mask, num_nodes, single)
    stored = adj.detach() != 0
    if valid is not None:
        stored = stored & valid[:, :, None] & valid[:, None, :]
    graph, i, j = stored.nonzero(as_tuple=True)
    if valid is None:
        row, col, nodes = graph * n + i, graph * n + j, b * n
        ptr = torch.arange(b + 1, device=adj.device) * n
    else:
        number = (valid.flatten().cumsum(0) - 1).view(b, n)  # of each valid node
        row, col = number[graph, i], number[graph, j]
        ptr = torch.cat([valid.new_zeros(1, dtype=torch.int64), valid.sum(1).cumsum(0)])
        nodes = int(ptr[-1])
    dtype = index_dtype(nodes, col.numel())
    rowptr = torch.searchsorted(row, torch.arange(nodes + 1, device=adj.device)).to(dtype)
    value = None if adj.dtype == torch.bool else checks.as_floating("adj", adj[graph, i, j])
    return rowptr, col.to(dtype), value, ptr


def _valid(adj: Tensor, mask: Any, num_nodes: Any, single: bool) -> Tensor | None:
    """Valid nodes, bool ``[B, N]``, or ``None`` if all of them are."""
    b, n, _ = adj.shape
    if mask is not None and num_nodes is not None:
        raise ValueError("mask and num_nodes say the same thing twice; give one of them")
    if mask is not None:
        mask = checks.strided("mask", mask)
        mask = mask.unsqueeze(0) if single and mask.dim() == 1 else mask
        if mask.shape != (b, n):
            raise ValueError(f"mask must have shape [B, N] = [{b}, {n}], got {tuple(mask.shape)}")
        checks.check_device("mask", mask, "adj", adj)
        return mask != 0
    if num_nodes is not None:
        num_nodes = checks.check_index("num_nodes", num_nodes, f"[B] = [{b}]")
        if num_nodes.numel() != b:
            raise ValueError(f"num_nodes must have shape [B] = [{b}], got {tuple(num_nodes.shape)}")
        checks.check_device("num_nodes", num_nodes, "adj", adj)
        if b and not 0 <= int(num_nodes.min()) <= int(num_nodes.max()) <= n:
            raise ValueError(f"num_nodes must lie between 0 and N = {n}, got {num_nodes.tolist()}")
        return torch.arange(n, device=adj.device) < num_nodes[:, None]
    return None


def padded(graph: RaggedGraph, max_num_nodes: int | None) -> Tensor:
    """:meth:`RaggedGraph.to_dense`."""
    sizes = graph.ptr.diff()
    if max_num_nodes is None:
        m = int(sizes.max()) if graph.num_graphs else 0
    else:
        m = checks.check_size("max_num_nodes", max_num_nodes)
        if seen():
            torch._assert_async((sizes <= m).all(), "max_num_nodes is less than the nodes of a graph")
        elif graph.num_graphs and m < (largest := int(sizes.max())):
            raise ValueError(f"max_num_nodes is {m}, but the largest graph has {largest} nodes")
    row, col, graph_of = graph.row.to(torch.int64), graph.col.to(torch.int64), graph.graph_of_node()
    first = graph.ptr[:-1][graph_of]  # [N]
    place = (graph_of[row] * m + row - first[row]) * m + col - first[row]
    value = graph.value
    if value is None:
        value = torch.ones(graph.num_edges, device=graph.device)
    return value.new_zeros(graph.num_graphs * m * m).index_add(0, place, value).view(graph.num_graphs, m, m)


def edge_index_nodes(edge_index: Tensor) -> int | None:
    """The number of nodes that PyG's ``EdgeIndex`` knows of, if any."""
    sizes = getattr(edge_index, "sparse_size", None)
    known = [size for size in sizes() if size is not None] if sizes is not None else []
    if len(set(known)) > 1:
        raise ValueError(f"edge_index must be of a square matrix, got sparse_size {tuple(known)}")
    return known[0] if known else None


def concatenate(graphs: Sequence[RaggedGraph]) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Row pointers, columns, values, first nodes and order of several graphs as one batch."""
    first = graphs[0]
    for graph in graphs:
        checks.check_device("graphs", graph.rowptr, "the first of them", first.rowptr)
    dtypes = {graph.value.dtype for graph in graphs if graph.value is not None}
    if len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"graphs must have values of one dtype, got {names}")
    nodes, entries = [graph.num_nodes for graph in graphs], [graph.num_edges for graph in graphs]
    dtype = index_dtype(sum(nodes), sum(entries))

    def moved(parts: Sequence[Tensor], by: Sequence[int], to: torch.dtype) -> Tensor:
        """The parts after one another, each increased by the sum of ``by`` over the graphs before it."""
        before = torch.tensor([0, *accumulate(by[:-1])], dtype=to, device=first.device)
        sizes = torch.tensor([part.numel() for part in parts], device=first.device)
        whole = torch.cat(list(parts))
        return whole.to(to) + before.repeat_interleave(sizes, output_size=whole.numel())

    rowptr = moved([graph.rowptr[1:] for graph in graphs], entries, dtype)
    col = moved([graph.col for graph in graphs], nodes, dtype)
    ptr = moved([graph.ptr[1:] for graph in graphs], nodes, torch.int64)
    order, value = [], []
    shuffled = any(graph.order is not None for graph in graphs)
    for graph in graphs:
        if shuffled:
            own = torch.arange(graph.num_nodes, device=graph.device) if graph.order is None else graph.order
            order.append(own)
        if dtypes:
            ones = torch.ones(graph.num_edges, dtype=next(iter(dtypes)), device=graph.device)
            value.append(ones if graph.value is None else graph.value)
    return (
        torch.cat([rowptr.new_zeros(1), rowptr]),
        col,
        torch.cat(value) if value else None,
        torch.cat([ptr.new_zeros(1), ptr]),
        moved(order, nodes, torch.int64) if order else None,
    )
