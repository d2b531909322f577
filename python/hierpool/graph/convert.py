"""Conversions between compressed rows and sparse matrices, dense matrices, PyTorch Geometric and lists of graphs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from hierpool._tracing import is_traced
from hierpool.contract import index_dtype
from hierpool.graph import checks
from hierpool.graph.values import ones_or_values

if TYPE_CHECKING:
    from hierpool.graph.assignment import Assignment
    from hierpool.graph.ragged import RaggedGraph

_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)


def sparse_rows(matrix: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Row pointers, columns and values of a sparse matrix of torch or SciPy; a CSR matrix is not copied."""
    if not isinstance(matrix, Tensor):
        return _scipy_rows(matrix)
    if matrix.layout not in _SPARSE:
        raise TypeError(f"matrix must be sparse (COO, CSR or CSC), got layout {matrix.layout}")
    if matrix.dim() != 2 or matrix.size(0) != matrix.size(1) or matrix.dense_dim() != 0:
        raise ValueError(f"matrix must have shape [N, N] and scalar entries, got {tuple(matrix.shape)}")
    checks.check_real("matrix", matrix)
    if matrix.layout is torch.sparse_csr:
        return matrix.crow_indices(), matrix.col_indices(), matrix.values()
    matrix = matrix.to_sparse_coo().coalesce()
    row, col = matrix.indices()
    nodes = torch.arange(matrix.size(0) + 1, device=row.device)
    return torch.searchsorted(row, nodes), col, matrix.values()


def _scipy_rows(matrix: Any) -> tuple[Tensor, Tensor, Tensor]:
    if not hasattr(matrix, "tocsr"):
        raise TypeError(f"matrix must be a sparse matrix of torch or SciPy, got {type(matrix).__name__}")
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix must have shape [N, N], got {tuple(matrix.shape)}")
    dtype = matrix.dtype
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise TypeError(f"matrix must have a real dtype of at most 64 bits, got {dtype}")
    if not dtype.isnative:  # SciPy itself converts no foreign byte order to rows
        matrix = matrix.astype(dtype.newbyteorder("="))
    rows = matrix.tocsr()
    indptr, indices, data = rows.indptr, rows.indices, rows.data
    if indptr.dtype.kind != "i" or indices.dtype.kind != "i":
        raise TypeError(f"matrix must have integer indices, got {indptr.dtype} and {indices.dtype}")
    stored = int(indptr[-1])  # SciPy's arrays may be longer
    if len(indptr) != matrix.shape[0] + 1 or len(indices) < stored or len(data) < stored:
        raise ValueError(
            f"matrix must have {matrix.shape[0] + 1} row pointers, and an index and a value for each of its {stored}"
            f" entries, got {len(indptr)}, {len(indices)} and {len(data)}"
        )
    return _from_numpy(indptr), _from_numpy(indices[:stored]), _from_numpy(data[:stored])


def _from_numpy(array: Any) -> Tensor:
    """An array of any byte order, strides and access; copied only if torch cannot share its memory."""
    copied = not array.flags.writeable or not array.flags.c_contiguous
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=copied))


def own_rows(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor]:
    """Copies of row pointers and columns, int32 if it holds all node and entry indices."""
    if is_traced():
        return rowptr, col
    dtype = index_dtype(rowptr.numel() - 1, col.numel())
    rowptr, col = (t.to(dtype, copy=True, memory_format=torch.contiguous_format) for t in (rowptr, col))
    return rowptr, col


def dense_rows(
    adj: Any, mask: Any, num_nodes: Any
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Row pointers, columns, values, graph pointers and features of the valid nodes of ``adj``."""
    adj = checks.strided("adj", adj)
    checks.check_real("adj", adj)
    if adj.dim() not in (2, 3, 4) or adj.size(-1) != adj.size(-2):
        raise ValueError(f"adj must have shape [B, N, N], [N, N] or [B, R, N, N], got {tuple(adj.shape)}")
    single, has_features = adj.dim() == 2, adj.dim() == 4
    adj = adj.unsqueeze(0) if single else adj
    b, n = adj.size(0), adj.size(-1)
    valid = _valid(adj, mask, num_nodes, single)
    stored = adj.detach() != 0
    stored = stored.any(1) if has_features else stored
    if valid is not None:
        stored = stored & valid[:, :, None] & valid[:, None, :]
    graph, i, j = stored.nonzero(as_tuple=True)
    if valid is None:
        row, col, nodes = graph * n + i, graph * n + j, b * n
        ptr = torch.arange(b + 1, device=adj.device) * n
    else:
        index = (valid.flatten().cumsum(0) - 1).view(b, n)  # of each valid node in the batch
        row, col = index[graph, i], index[graph, j]
        ptr = torch.cat([valid.new_zeros(1, dtype=torch.int64), valid.sum(1).cumsum(0)])
        nodes = int(ptr[-1])
    dtype = index_dtype(nodes, col.numel())
    rowptr = torch.searchsorted(row, torch.arange(nodes + 1, device=adj.device)).to(dtype)
    if has_features:
        return rowptr, col.to(dtype), None, ptr, checks.as_floating("adj", adj[graph, :, i, j])  # [E, R]
    value = None if adj.dtype == torch.bool else checks.as_floating("adj", adj[graph, i, j])
    return rowptr, col.to(dtype), value, ptr, None


def _valid(adj: Tensor, mask: Any, num_nodes: Any, single: bool) -> Tensor | None:
    """Valid nodes, bool ``[B, N]``; ``None`` if all are valid."""
    b, n = adj.size(0), adj.size(-1)
    if mask is not None and num_nodes is not None:
        raise ValueError("mask and num_nodes cannot both be given")
    if mask is not None:
        mask = checks.strided("mask", mask)
        checks.check_real("mask", mask)
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


def dense_batch(graph: RaggedGraph, max_num_nodes: int | None) -> Tensor:
    """:meth:`RaggedGraph.to_dense`."""
    sizes = graph.ptr.diff()
    if max_num_nodes is None:
        m = int(sizes.max()) if graph.num_graphs else 0
    else:
        m = checks.check_size("max_num_nodes", max_num_nodes)
        if is_traced():
            torch._assert_async((sizes <= m).all(), "a graph has more than max_num_nodes nodes")
        elif graph.num_graphs and m < (largest := int(sizes.max())):
            raise ValueError(f"max_num_nodes is {m}, but the largest graph has {largest} nodes")
    row, col, graph_of = graph.row.to(torch.int64), graph.col.to(torch.int64), graph.graph_of_node()
    first = graph.ptr[:-1][graph_of]  # [N]
    place = (graph_of[row] * m + row - first[row]) * m + col - first[row]
    value = ones_or_values(graph, torch.float32)
    return value.new_zeros(graph.num_graphs * m * m).index_add(0, place, value).view(graph.num_graphs, m, m)


def pyg_arguments(data: Any, edge_attr: Any) -> tuple[Tensor, dict[str, Any]]:
    """Arguments of :meth:`RaggedGraph.from_edge_index` from those of :meth:`RaggedGraph.from_pyg`."""
    if edge_attr not in ("weight", "features", None):
        raise ValueError(f"edge_attr must be 'weight', 'features' or None, got {edge_attr!r}")
    if isinstance(data, Tensor):
        if edge_attr is not None:
            raise ValueError("edge_attr must be None with an EdgeIndex, which has no edge_attr")
        # PyG's EdgeIndex may store the shape of the matrix.
        sizes: tuple[int | None, ...] = getattr(data, "sparse_size", tuple)()
        known = {size for size in sizes if size is not None}
        if len(known) > 1:
            raise ValueError(f"edge_index must be of a square matrix, got sparse_size {tuple(sizes)}")
        return data, {"num_nodes": next(iter(known), None)}
    edge_index = getattr(data, "edge_index", None)
    if edge_index is None:
        raise TypeError(
            f"data must be a PyG Data, Batch or EdgeIndex with edge_index, got {type(data).__name__} without it"
        )
    ptr = getattr(data, "ptr", None)
    batch = getattr(data, "batch", None) if ptr is None else None
    nodes = getattr(data, "num_nodes", None)
    weight, features = _pyg_values(data, edge_index, edge_attr)
    given = {"edge_weight": weight, "edge_attr": features, "batch": batch, "ptr": ptr}
    return edge_index, {"num_nodes": nodes, **given}


def _pyg_values(data: Any, edge_index: Tensor, use: str | None) -> tuple[Tensor | None, Tensor | None]:
    """Weights and features: ``edge_weight``, and ``edge_attr`` as what it is used for."""
    weight, attr = getattr(data, "edge_weight", None), getattr(data, "edge_attr", None)
    if use is not None and attr is None:
        raise TypeError(f"data must have edge_attr with edge_attr={use!r}")
    if use == "features":
        return weight, attr[:, None] if isinstance(attr, Tensor) and attr.dim() == 1 else attr
    if use is None:
        plain = attr if weight is None and isinstance(attr, Tensor) and attr.dim() == 1 else None
        if plain is not None and plain.is_floating_point():
            return plain, None
        if plain is not None:
            warnings.warn(
                "data.edge_attr has one integer for each edge and is not used; pass edge_attr='weight' to"
                " RaggedGraph.from_pyg if these are weights, or 'features'",
                stacklevel=4,
            )
        return weight, None
    if weight is not None:
        raise ValueError("data must not have edge_weight with edge_attr='weight', which would be ignored")
    checks.check_weight("edge_attr", attr, edge_index.size(1), "edge_index", edge_index)
    return attr, None


def features_of_pyg(data: Any) -> Literal["features"] | None:
    """How :meth:`RaggedGraph.from_pyg` is to take ``data.edge_attr`` where features are carried along."""
    attr = getattr(data, "edge_attr", None)
    return "features" if isinstance(attr, Tensor) and attr.dim() == 2 else None


def dtype_of_features(graphs: Sequence[RaggedGraph]) -> torch.dtype | None:
    """The dtype of the features of entries of several graphs; ``None`` if there are none."""
    given = {None if attr is None else (attr.size(1), attr.dtype) for attr in (g.edge_attr for g in graphs)}
    if len(given) > 1:
        kinds = sorted("none" if one is None else f"{one[0]} of {one[1]}" for one in given)
        raise ValueError(f"graphs must have equally many edge features of one dtype, got {', '.join(kinds)}")
    (kind,) = given
    return None if kind is None else kind[1]


def concatenate(
    graphs: Sequence[RaggedGraph],
) -> tuple[Tensor, Tensor, torch.dtype | None, Tensor, Tensor | None]:
    """Row pointers, columns, dtype of values, graph pointers and order of several graphs as one batch."""
    first = graphs[0]
    for graph in graphs:
        checks.check_device("graphs", graph.rowptr, "the first graph", first.rowptr)
    dtypes = {graph.dtype for graph in graphs} - {None}
    if len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"graphs must have values of one dtype, got {names}")
    nodes, entries = [graph.num_nodes for graph in graphs], [graph.num_edges for graph in graphs]
    index = index_dtype(sum(nodes), sum(entries))

    rowptr = shifted([graph.rowptr[1:] for graph in graphs], entries, index)
    col = shifted([graph.col for graph in graphs], nodes, index)
    ptr = shifted([graph.ptr[1:] for graph in graphs], nodes, torch.int64)
    order = joined_order([graph.order for graph in graphs], nodes, first.device)
    rowptr, ptr = (torch.cat([t.new_zeros(1), t]) for t in (rowptr, ptr))
    return rowptr, col, next(iter(dtypes), None), ptr, order


def concatenate_assignments(assignments: Sequence[Assignment]) -> tuple[Any, ...]:
    """The arrays and sizes of several assignments as one, which is made of them in this order."""
    first = assignments[0]
    for one in assignments:
        checks.check_device("assignments", one.rowptr, "the first one", first.rowptr)
    dtypes = {one.weight.dtype for one in assignments if one.weight is not None}
    if len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise ValueError(f"assignments must have weights of one dtype, got {names}")
    nodes, total = [a.num_nodes for a in assignments], [a.num_clusters for a in assignments]
    entries = [a.num_entries for a in assignments]
    dtype = index_dtype(max(sum(nodes), sum(total)), sum(entries))

    def pointers(parts: Sequence[Tensor], by: Sequence[int], to: torch.dtype) -> Tensor:
        return torch.cat([parts[0][:1].to(to), shifted([part[1:] for part in parts], by, to)])

    weight = None
    if dtypes:
        (kind,) = dtypes
        weights = [
            torch.ones(a.num_entries, dtype=kind, device=a.device) if a.weight is None else a.weight
            for a in assignments
        ]
        weight = torch.cat(weights)
    return (
        pointers([a.rowptr for a in assignments], entries, dtype),
        shifted([a.cluster for a in assignments], total, dtype),
        weight,
        pointers([a.ptr for a in assignments], nodes, torch.int64),
        pointers([a.cluster_ptr for a in assignments], total, torch.int64),
        joined_order([a.order for a in assignments], nodes, first.device),
        sum(total),
        all(a.is_hard for a in assignments),
        all(a.is_injective for a in assignments),
    )


def shifted(parts: Sequence[Tensor], by: Sequence[int], to: torch.dtype) -> Tensor:
    """Concatenated parts, each increased by the sum of ``by`` over those before it."""
    whole = torch.cat(list(parts))
    offsets = torch.tensor([0, *accumulate(by[:-1])], dtype=to, device=whole.device)
    sizes = torch.tensor([part.numel() for part in parts], device=whole.device)
    return whole.to(to) + offsets.repeat_interleave(sizes, output_size=whole.numel())


def joined_order(
    orders: Sequence[Tensor | None], nodes: Sequence[int], device: torch.device
) -> Tensor | None:
    """The orders of the nodes of several batches, one after the other; ``None`` if all are sorted."""
    if all(order is None for order in orders):
        return None
    own = [
        torch.arange(n, device=device) if order is None else order
        for order, n in zip(orders, nodes, strict=True)
    ]
    return shifted(own, nodes, torch.int64)
