"""S^T A S of a soft assignment S as a graph: its structure by a backend, its weights by an operator.

Eager calls go to the backend. Compilers see ``hierpool::graph_product``, whose number of entries depends on values.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends
from hierpool._tracing import is_traced
from hierpool.contract import Csr, Loops, index_dtype, sum_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.facts import normally
from hierpool.ops import _checks, triple_product
from hierpool.ops._contraction import not_triton

MAX_ENTRIES = 2**28
"""Entries that a product may have if nothing else is asked for: 2 GiB of columns and weights."""

_LIB = torch.library.Library("hierpool", "FRAGMENT")
_LIB.define(
    "graph_product(Tensor rowptr, Tensor col, Tensor s_rowptr, Tensor cluster, Tensor first, Tensor node, int loops,"
    " SymInt most, str backend, str name) -> (Tensor rowptr, Tensor col)"
)


class Product(NamedTuple):
    """A product, and its self-loops if they are separate."""

    graph: RaggedGraph
    loops: Tensor | None = None  # [K], their weights
    loop_attr: Tensor | None = None  # [K, R], and their features


class _Structure(NamedTuple):
    """The matrices of a product. Indices have one dtype."""

    adj: Csr  # A
    s: Csr  # S and its transpose, of which value_t are the entries of S
    places: Csr  # of the product
    loops: Loops
    backend: str


def multiplied(
    graph: RaggedGraph,
    assignment: Assignment,
    weight: Tensor,
    loops: Loops = Loops.KEEP,
    most: int = MAX_ENTRIES,
    backend: str = "auto",
) -> Product:
    """:math:`S^T A S`, with every column of features as the values of a matrix A of its own.

    Args:
        graph: A.
        assignment: the structure of S.
        weight: of the entries of S, ``[M]``.
        loops: what becomes of entries on the diagonal.
        most: entries that the product may have.
        backend: of the steps that have it.
    """
    turned: tuple[Any, ...] = ()
    learned, symmetric = _checks.needs_gradient(weight), graph.is_symmetric
    if not symmetric and learned:
        turned = graph.transposed()
    adj = Csr(graph.value, graph.rowptr, graph.col, *turned)
    structure = _structure(adj, assignment, loops, most, backend, "S^T A S")
    value, apart = _values(structure, weight, symmetric)
    product = Product(_graph_of(structure, assignment, value, symmetric, most), apart)
    attr = graph.edge_attr
    if attr is None:
        return product
    symmetric = graph.has_symmetric_attr()
    if not symmetric and learned:
        rowptr_t, col_t, source = graph.reversed_entries()
        turned = rowptr_t, col_t, attr.detach().index_select(0, source)
    values, parts = [], []
    for r in range(attr.size(1)):
        of_transpose = (*turned[:2], turned[2][:, r]) if turned and not symmetric else ()
        adj = _in_dtype(Csr(attr[:, r], graph.rowptr, graph.col, *of_transpose), structure.adj.col.dtype)
        found, separate = _values(structure._replace(adj=adj), weight, symmetric)
        values.append(found)
        parts.append(separate)
    columns = torch.stack(values, 1) if values else attr.new_zeros(value.numel(), 0)
    loop_attr = None
    if apart is not None:
        loop_attr = torch.stack(parts, 1) if parts else attr.new_zeros(apart.numel(), 0)  # type: ignore[arg-type]
    return Product(product.graph._with_attr(columns), apart, loop_attr)


def gram_of(
    assignment: Assignment,
    weight: Tensor,
    most: int = MAX_ENTRIES,
    backend: str = "auto",
    loops: Loops = Loops.KEEP,
) -> RaggedGraph:
    """:math:`S^T S`, with or without the entries on the diagonal; see :func:`multiplied`."""
    dtype, device = assignment.cluster.dtype, assignment.device
    if assignment.is_hard and loops is Loops.KEEP:
        k = assignment.num_clusters
        value = sum_by_index(weight.square(), assignment.cluster, k)
        number = torch.arange(k + 1, dtype=dtype, device=device)
        return RaggedGraph(number, number[:-1], value, assignment.cluster_ptr, None, True)
    number = torch.arange(assignment.num_nodes + 1, dtype=dtype, device=device)
    identity = Csr(None, number, number[:-1])
    structure = _structure(identity, assignment, loops, most, backend, "S^T S")
    return _graph_of(structure, assignment, _values(structure, weight, True)[0], True, most)


def _structure(
    adj: Csr, assignment: Assignment, loops: Loops, most: int, backend: str, name: str
) -> _Structure:
    if torch.compiler.is_exporting():
        raise RuntimeError(
            f"{name} of an assignment with several clusters for a node cannot be exported, as its size depends on"
            " values"
        )
    backend = not_triton(backend)
    s = Csr(None, assignment.rowptr, assignment.cluster, *assignment.transposed())
    dtype = torch.promote_types(adj.col.dtype, s.col.dtype)
    if is_traced():  # the dtype cannot depend on values
        dtype = torch.promote_types(dtype, index_dtype(0, most))
    adj, s = _in_dtype(adj, dtype), _in_dtype(s, dtype)
    arguments: list[Any] = [adj.rowptr, adj.col, s.rowptr, s.col, s.rowptr_t, s.col_t]
    arguments += [int(loops), most, backend, name]
    run = torch.ops.hierpool.graph_product if is_traced() else _places
    rowptr, col = run(*arguments)
    places = Csr(None, rowptr, col)
    adj, s = (_in_dtype(one, col.dtype) for one in (adj, s))
    return _Structure(adj, s, places, loops, backend)


def _places(
    rowptr: Tensor,
    col: Tensor,
    s_rowptr: Tensor,
    cluster: Tensor,
    first: Tensor,
    node: Tensor,
    loops: int,
    most: int,
    backend: str,
    name: str,
) -> tuple[Tensor, Tensor]:
    """Row pointers and columns of the product.

    Raises:
        ValueError: there would be more than ``most`` entries.
    """
    adj, s = Csr(None, rowptr, col), Csr(None, s_rowptr, cluster, first, node)
    module: Any = backends.module("graph_product", col.device.type, backend)
    places = normally(module.product, adj, s, Loops(loops), most)
    if isinstance(places, int):
        raise ValueError(
            f"max_entries must be at least {places}, the entries of {name} for this assignment of"
            f" {rowptr.numel() - 1} nodes and {cluster.numel()} entries to {first.numel() - 1}"
            f" clusters, got {most}; give each node fewer clusters, or the clusters of its neighbours"
        )
    return places.rowptr, places.col


def _places_fake(rowptr: Tensor, col: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    first = rest[2]
    entries = torch.library.get_ctx().new_dynamic_size()
    return first.new_empty(first.numel()), col.new_empty(entries)


for _key in ("CPU", "CUDA"):
    _LIB.impl("graph_product", _places, _key)
torch.library.register_fake("hierpool::graph_product", _places_fake, lib=_LIB)


def _values(structure: _Structure, weight: Tensor, symmetric: bool) -> tuple[Tensor, Tensor | None]:
    """The values of the entries of the product, and of self-loops that are separate."""
    adj, s, places, loops, backend = structure
    options = triple_product.Options(loops, symmetric, backend)
    structure_of_s: list[Any] = [s.rowptr, s.col, s.rowptr_t, s.col_t, s.value_t]
    call = triple_product.Call(weight, adj, *structure_of_s, places.rowptr, places.col, options)  # type: ignore[call-arg]
    (value,) = triple_product.OPERATOR(call)
    if loops is not Loops.SEPARATE:
        return value, None
    entries = places.col.numel()
    return value[:entries], value[entries:].clone()


def _graph_of(
    structure: _Structure, assignment: Assignment, value: Tensor, symmetric: bool, most: int
) -> RaggedGraph:
    rowptr, col = structure.places.rowptr, structure.places.col
    index = index_dtype(assignment.num_clusters, most if is_traced() else col.numel())
    arrays = rowptr.to(index), col.to(index), value, assignment.cluster_ptr, None
    return RaggedGraph(*arrays, True if symmetric else None)._with_symmetry()


def _in_dtype(matrix: Csr, dtype: torch.dtype) -> Csr:
    """The matrix with its indices, and what ``value_t`` holds if it is no weight, in a dtype."""
    return Csr(*(t if t is None or t.is_floating_point() else t.to(dtype) for t in matrix))  # type: ignore[arg-type]
