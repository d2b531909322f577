"""A batch of graphs of any sizes as one block-diagonal sparse matrix in compressed rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from hierpool._tracing import is_traced
from hierpool.contract import BuildOptions, ranges_of, sum_by_index
from hierpool.graph import build, checks, convert
from hierpool.graph.facts import normally
from hierpool.graph.rows import CompressedRows
from hierpool.graph.values import Given, Own, Values, joined, moved


class RaggedGraph(CompressedRows):
    r"""A batch of graphs: the block-diagonal adjacency matrix :math:`A` of all their nodes, in compressed rows (CSR).

    Rows are sources, ``edge_index[0]``, so that ``A[i, j]`` is the weight of the edge from ``i`` to ``j``, and a
    dense adjacency keeps its meaning. Duplicate edges are summed. Self-loops, isolated nodes and graphs without nodes
    or edges are kept. Construct a graph with the class methods, which check their arguments.

    A graph owns its structure: the arrays that it is made of may be changed or reused afterwards. It follows its
    weights: a change in place of the tensor that was given as weights, as by an optimizer, changes ``value`` and all
    that depends on it. The weights of a SciPy or dense matrix are copies, and so are those of :meth:`to` and
    :meth:`collate` that need no gradient. Changes that PyTorch does not count, as through ``Tensor.data`` or NumPy, are
    not followed.

    Attributes:
        rowptr: first entry of each row, ``[N + 1]``; int32 if it holds all node and entry indices, else int64.
        col: column of each entry, ``[E]``, ascending within a row; the dtype of ``rowptr``.
        value: weight of each entry, floating ``[E]``; ``None`` if all are 1. If the weights need a gradient it is
            differentiable in them, and it is their tensor if the edges were sorted without duplicates.
        edge_attr: :math:`R` features of each entry, such as one for each type of edges, floating ``[E, R]``, or
            ``None``. They follow changes of the tensor that was given as weights do. Message passing and losses do not
            read them.
        ptr: first node of each graph, int64 ``[B + 1]``: the nodes of graph ``b`` are ``ptr[b]`` to ``ptr[b + 1] - 1``.
        order: int64 ``[N]`` if the batch was not sorted by graph, else ``None``: node ``i`` of the matrix is the
            caller's node ``order[i]``. Operators take and return node tensors in the caller's order.
        num_nodes: nodes of all graphs, :math:`N`.
        num_edges: stored entries, :math:`E`.
        num_graphs: graphs, :math:`B`.
        is_symmetric: whether :math:`A = A^T`, values included: what was stated, or what a test of the present values
            gives. Without values it is tested at construction. ``False`` also if it is unknown: of weights that were
            not stated to be symmetric under ``torch.compile``, and on a GPU if they have changed or need a gradient, as
            a test would synchronise.
    """

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        *,
        edge_weight: Tensor | None = None,
        edge_attr: Tensor | None = None,
        batch: Tensor | None = None,
        ptr: Tensor | None = None,
        num_graphs: int | None = None,
        symmetric: bool | None = None,
        is_coalesced: bool = False,
        validate: bool = False,
    ) -> RaggedGraph:
        """A batch of graphs in the format of PyTorch Geometric.

        On a GPU the edges are sorted once, and the host waits for the device once, and once more for each of
        ``num_nodes`` and, with ``batch``, ``num_graphs`` that is not given.

        Under ``torch.compile`` every edge keeps an entry: the first of several equal edges holds their sum, the others
        hold zero. Then ``batch`` must be sorted, ``num_graphs`` given with it, and ``symmetric=None`` means ``False``.

        Args:
            edge_index: ends of each edge, int64 or int32 ``[2, E]``, in any order. An undirected edge is listed in
                both directions.
            num_nodes: number of nodes; ``None``: that of ``batch`` or ``ptr``, else one more than the largest index
                in ``edge_index``.
            edge_weight: ``[E]``, floating, or bool or integers, which become float32. ``value`` is differentiable in
                it and follows its changes in place.
            edge_attr: features of each edge, ``[E, R]``, of these dtypes; those of duplicate edges are summed.
            batch: graph of each node, ``[num_nodes]``, sorted or not.
            ptr: first node of each graph, ``[B + 1]``, instead of ``batch``.
            num_graphs: number of graphs, PyG's ``batch_size``; ``None``: one more than the largest in ``batch``.
            symmetric: whether the matrix equals its transpose, values included. ``None`` tests it exactly; ``True``
                and ``False`` are trusted, also after changes of the weights.
            is_coalesced: whether edges are sorted by row and column without duplicates. ``True`` is checked on the
                CPU; elsewhere it is trusted and avoids a sort and a synchronisation.
            validate: check index values on a GPU as well, which synchronises. On the CPU they are always checked.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree, or an edge joins two graphs; the message names the argument.
        """
        edges, weight = checks.check_edges(edge_index, num_nodes, edge_weight, batch, ptr, num_graphs)
        checks.check_flag("symmetric", symmetric, True, False, None)
        checks.check_flag("is_coalesced", is_coalesced, True, False)
        checks.check_flag("validate", validate, True, False)
        attr: Any = edge_attr
        if attr is not None:
            attr = checks.check_edge_attr("edge_attr", attr, edges.row.numel(), "edge_index", edges.row)
        if is_traced():
            rowptr, col, value, ptr, attr = build.build_traced(edges, weight, attr, is_coalesced)
            return cls(rowptr, col, value, ptr, None, symmetric is True)._with_attr(attr)
        kept = weight is not None or attr is not None
        options = BuildOptions(True, kept, symmetric, is_coalesced, validate)
        rowptr, col, value, ptr, order, entry, tested = build.build(edges, options)
        if attr is not None:
            attr = Given("edge_attr", checks.strided("edge_attr", edge_attr), entry, col.numel())
        if weight is None:
            return cls(rowptr, col, value, ptr, order, symmetric)._with_symmetry(tested)._with_attr(attr)
        given = Given("edge_weight", checks.strided("edge_weight", edge_weight), entry, col.numel())
        graph = cls(rowptr, col, given, ptr, order, symmetric)._with_attr(attr)
        return graph._with_facts(normally(given.connected, weight, value), tested)

    @classmethod
    def from_csr(
        cls,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | None = None,
        ptr: Tensor | None = None,
        *,
        edge_attr: Tensor | None = None,
        symmetric: bool | None = None,
        is_coalesced: bool = False,
        validate: bool = False,
    ) -> RaggedGraph:
        """A square matrix in compressed rows, which are copied.

        Args:
            rowptr: first entry of each row, int64 or int32 ``[N + 1]``.
            col: column of each entry, ``[E]``, the dtype of ``rowptr``.
            value: weight of each entry, ``[E]``, as ``edge_weight`` of :meth:`from_edge_index`; ``None``: 1.
            ptr: first node of each graph, ``[B + 1]``; ``None``: one graph.
            edge_attr, symmetric: as in :meth:`from_edge_index`.
            is_coalesced: whether columns ascend strictly within each row; ``True`` is checked on the CPU only.
            validate: check index values on a GPU as well.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree; the message names the argument.
        """
        checks.check_flag("symmetric", symmetric, True, False, None)
        rowptr, col, ptr = checks.check_rows(rowptr, col, value, ptr)
        trusted = is_coalesced and (is_traced() or (col.device.type != "cpu" and not validate))
        tested = None
        if not trusted:
            floating = value is None or (value.dtype in checks.FLOATS and not value.requires_grad)
            canonical, tested = build.inspect(rowptr, col, ptr, value, symmetric is None and floating)
            if not canonical and is_coalesced:
                raise ValueError(
                    "col was given with is_coalesced=True, but does not ascend strictly in every row"
                )
            if not canonical:
                edges = torch.stack([ranges_of(rowptr, col.numel()), col])
                n = rowptr.numel() - 1
                given: dict[str, Any] = {"edge_weight": value, "edge_attr": edge_attr}
                return cls.from_edge_index(edges, n, **given, ptr=ptr, symmetric=symmetric)
        rowptr, col = normally(convert.own_rows, rowptr, col)
        graph = cls(rowptr, col, _given("value", value, col), ptr, None, symmetric)._with_symmetry(tested)
        return graph if edge_attr is None else graph.with_edge_attr(edge_attr)

    @classmethod
    def from_sparse(
        cls, matrix: Any, *, ptr: Tensor | None = None, symmetric: bool | None = None
    ) -> RaggedGraph:
        """A square sparse matrix of ``torch.sparse`` (COO, CSR or CSC) or SciPy (any format).

        Args:
            matrix: ``[N, N]``. Gradients flow to a matrix of torch, whose values are followed; one of SciPy is copied.
            ptr: first node of each graph, ``[B + 1]``; ``None``: one graph.
            symmetric: as in :meth:`from_edge_index`.

        Raises:
            TypeError: ``matrix`` is not a sparse matrix.
            ValueError: it is not square, an edge joins two graphs, or ``ptr`` does not fit.
        """
        return cls.from_csr(*normally(convert.sparse_rows, matrix), ptr, symmetric=symmetric)

    @classmethod
    def from_dense(
        cls,
        adj: Tensor,
        mask: Tensor | None = None,
        *,
        num_nodes: Tensor | None = None,
        symmetric: bool | None = None,
    ) -> RaggedGraph:
        """A padded batch of dense matrices. The valid nodes are concatenated: node tensors are ``x[mask]``.

        Args:
            adj: ``[B, N, N]`` or ``[N, N]``; floating, or bool or integers, which become float32. Gradients flow to
                the non-zero entries, which are copied. With bool, ``value`` is ``None``. ``[B, R, N, N]``, as of
                :math:`R` types of edges: ``edge_attr``, of entries where one of these is not 0; ``value`` is ``None``.
            mask: valid nodes, ``[B, N]`` or ``[N]``, any dtype, non-zero means valid; it may have holes.
            num_nodes: number of valid nodes, the first of each graph, ``[B]``, instead of ``mask``.
            symmetric: as in :meth:`from_edge_index`.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree; the message names the argument.
        """
        checks.check_flag("symmetric", symmetric, True, False, None)
        rowptr, col, value, ptr, attr = normally(convert.dense_rows, adj, mask, num_nodes)
        return cls(rowptr, col, value, ptr, None, symmetric)._with_symmetry()._with_attr(attr)

    @classmethod
    def from_pyg(
        cls,
        data: Any,
        *,
        edge_attr: Literal["weight", "features"] | None = None,
        symmetric: bool | None = None,
        validate: bool = False,
    ) -> RaggedGraph:
        """A ``Data``, ``Batch`` or ``EdgeIndex`` of PyTorch Geometric, or an object with the same attributes.

        Args:
            data: has ``edge_index``, and may have ``num_nodes``, ``edge_weight``, ``ptr`` or ``batch``; or an
                ``EdgeIndex``, whose ``sparse_size()`` gives the number of nodes.
            edge_attr: what ``data.edge_attr`` is. ``"weight"``: weights, ``[E]``. ``"features"``: features, ``[E]`` or
                ``[E, R]``. ``None``: if it is floating, ``[E]``, and there is no ``edge_weight``, it is weights;
                otherwise it is not used, with a warning if it is ``[E]``.
            symmetric: as in :meth:`from_edge_index`.
            validate: check index values on a GPU as well.

        Raises:
            TypeError: ``data`` has no ``edge_index``, or ``edge_attr`` is given and it has none.
            ValueError: as :meth:`from_edge_index`, or there are two tensors of weights.
        """
        edge_index, arguments = convert.pyg_arguments(data, edge_attr)
        return cls.from_edge_index(edge_index, **arguments, symmetric=symmetric, validate=validate)

    @classmethod
    def collate(cls, graphs: Sequence[RaggedGraph]) -> RaggedGraph:
        """Concatenate batches of graphs into one, in their order; for use in a ``collate_fn``.

        Raises:
            TypeError: an element is not a ``RaggedGraph``.
            ValueError: the sequence is empty, or devices, dtypes of values or features, or numbers of these differ.
        """
        checks.check_elements("graphs", graphs, RaggedGraph)
        if len(graphs) == 1:
            return graphs[0]
        stated = True if all(graph._stated for graph in graphs) else None
        rowptr, col, dtype, ptr, order = normally(convert.concatenate, graphs)
        attr = joined(graphs, convert.dtype_of_features(graphs), "edge_attr")
        graph = cls(rowptr, col, joined(graphs, dtype), ptr, order, stated)._with_attr(attr)
        return graph._with_symmetry(all(graph.is_symmetric for graph in graphs))

    @property
    def device(self) -> torch.device:
        """The device of all its tensors."""
        return self.rowptr.device

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of ``value``; ``None`` without values."""
        value = self.value
        return None if value is None else value.dtype

    @property
    def row(self) -> Tensor:
        """Row of each entry, ``[E]``, the dtype of ``col``."""
        return build.ranges(self.rowptr, self.num_edges)

    @property
    def batch(self) -> Tensor:
        """Graph of each node, int64 ``[N]``, in the caller's order of nodes."""
        return self.in_callers_order(self.graph_of_node())

    @property
    def degree(self) -> Tensor:
        """Row sums :math:`d = A 1`, ``[N]``, in the caller's order of nodes; float32 without values."""
        value = self.value
        if value is None:
            return self.in_callers_order(self.rowptr.diff().to(torch.float32))
        return self.in_callers_order(sum_by_index(value, self.row, self.num_nodes))

    def graph_of_node(self) -> Tensor:
        """Graph of each node, int64 ``[N]``, in the order of the matrix."""
        return build.ranges(self.ptr, self.num_nodes)

    def in_callers_order(self, nodes: Tensor) -> Tensor:
        """Reorder the rows of ``nodes``, ``[N, ...]``, from the order of the matrix to the caller's."""
        if self.order is None:
            return nodes
        return torch.empty_like(nodes).index_copy(0, self.order, nodes)

    def in_graph_order(self, nodes: Tensor) -> Tensor:
        """Reorder the rows of ``nodes``, ``[N, ...]``, from the caller's order to that of the matrix."""
        return nodes if self.order is None else nodes[self.order]

    def with_value(self, value: Tensor | None, *, symmetric: bool | None = None) -> RaggedGraph:
        """The same graph with other weights, for example learned ones.

        Args:
            value: weight of each entry, ``[E]``, in the order of ``row`` and ``col``; ``None``: 1.
            symmetric: as in :meth:`from_edge_index`.
        """
        checks.check_flag("symmetric", symmetric, True, False, None)
        if value is not None:
            checks.check_weight("value", value, self.num_edges, "the graph", self.rowptr)
        values = _given("value", value, self.col)
        graph = RaggedGraph(self.rowptr, self.col, values, self.ptr, self.order, symmetric)
        graph._transpose = self._transpose
        return graph._with_symmetry()._with_attr(self._attr, self._attr_facts)

    def with_edge_attr(self, edge_attr: Tensor | None) -> RaggedGraph:
        """The same graph with other features of its entries.

        Args:
            edge_attr: features of each entry, ``[E, R]``, in the order of ``row`` and ``col``; ``None``: none.
        """
        if edge_attr is not None:
            checks.check_edge_attr("edge_attr", edge_attr, self.num_edges, "the graph", self.rowptr)
        graph = RaggedGraph(self.rowptr, self.col, self._values, self.ptr, self.order, self._stated)
        graph._transpose, graph._facts, graph._trusts_counts = (
            self._transpose,
            self._facts,
            self._trusts_counts,
        )
        return graph._with_attr(_given("edge_attr", edge_attr, self.col))

    def to_edge_index(self) -> tuple[Tensor, Tensor | None]:
        """``edge_index``, int64 ``[2, E]`` of the caller's node indices in the order of entries, and ``value``."""
        ends = torch.stack([self.row, self.col]).to(torch.int64)
        return ends if self.order is None else self.order[ends], self.value

    def to_dense(self, max_num_nodes: int | None = None) -> Tensor:
        """The padded batch, ``[B, M, M]``, with the nodes of each graph in the caller's order; float32 without values.

        Args:
            max_num_nodes: :math:`M`; ``None``: nodes of the largest graph, which synchronises.

        Raises:
            ValueError: a graph has more nodes than ``max_num_nodes``.
        """
        return convert.dense_batch(self, max_num_nodes)

    def _moved(
        self, move: Callable[[Tensor], Tensor], values: Values | None, attr: Values | None
    ) -> RaggedGraph:
        """The graph with other values and features, and ``move`` applied to all other tensors."""
        rowptr, col, ptr = map(move, (self.rowptr, self.col, self.ptr))
        order = None if self.order is None else move(self.order)
        graph = RaggedGraph(rowptr, col, values, ptr, order, self._stated)
        if self._transpose is not None:
            first, second, third = map(move, self._transpose)
            graph._transpose = first, second, third
        return graph._with_symmetry(self.is_symmetric)._with_attr(attr)

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = False,
    ) -> RaggedGraph:
        """Move the graph to a device, or convert its values and features to a dtype; itself if nothing changes.

        Raises:
            TypeError: ``dtype`` is not float64, float32, bfloat16 or float16.
        """
        if dtype is not None and dtype not in checks.FLOATS:
            raise TypeError(f"dtype must be float64, float32, bfloat16 or float16, got {dtype}")

        def move(t: Tensor) -> Tensor:
            return t.to(device, non_blocking=non_blocking)

        values, others = moved(self, "value", device, dtype, non_blocking)
        attr, other_attr = moved(self, "edge_attr", device, dtype, non_blocking)
        if not others and not other_attr and move(self.rowptr) is self.rowptr:
            return self
        return normally(self._moved, move, values, attr)

    def pin_memory(self) -> RaggedGraph:
        """Copy the graph to page-locked memory, from which transfers to a GPU are asynchronous."""
        pinned = [None if t is None else Own(t.pin_memory()) for t in (self.value, self.edge_attr)]
        return self._moved(Tensor.pin_memory, *pinned)

    def __repr__(self) -> str:
        dtype = "" if self.value is None else f", dtype={self.value.dtype}"
        device = "" if self.device.type == "cpu" else f", device={str(self.device)!r}"
        attr = "" if self.edge_attr is None else f", edge_attr={list(self.edge_attr.shape)}"
        return (
            f"{type(self).__name__}(num_graphs={self.num_graphs}, num_nodes={self.num_nodes}, "
            f"num_edges={self.num_edges}, is_symmetric={self.is_symmetric}{dtype}{attr}{device})"
        )


torch.serialization.add_safe_globals([RaggedGraph])  # for torch.load


def _given(name: str, value: Any, col: Tensor) -> Given | None:
    return None if value is None else Given(name, checks.strided(name, value), None, col.numel())
