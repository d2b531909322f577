"""A batch of graphs of any sizes as one block-diagonal sparse matrix in compressed rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hierpool._tracing import seen
from hierpool.graph import checks, csr, forms


class RaggedGraph:
    r"""A batch of graphs: the block-diagonal adjacency matrix :math:`A` of all their nodes, in compressed rows (CSR).

    Rows are sources, ``edge_index[0]``, so that ``A[i, j]`` is the weight of the edge from ``i`` to ``j``, and a
    dense adjacency keeps its meaning. Duplicate edges are summed, self-loops kept, isolated nodes and graphs without
    nodes or edges counted. Make one by the class methods, which check what they are given; a graph is not changed
    afterwards.

    Attributes:
        rowptr: first entry of each row, ``[N + 1]``; int32 if node and entry numbers fit in it, else int64.
        col: column of each entry, ``[E]``, ascending within a row; the dtype of ``rowptr``.
        value: weight of each entry, floating ``[E]``; ``None`` if all are 1.
        ptr: first node of each graph, int64 ``[B + 1]``: the nodes of graph ``b`` are ``ptr[b]`` to ``ptr[b + 1]``.
        order: int64 ``[N]`` if the batch was not sorted by graph, else ``None``: ``order[i]`` is the caller's number
            of node ``i`` of the matrix. Operators take node tensors in the caller's order and give them back in it.
        num_nodes: nodes of all graphs, :math:`N`.
        num_edges: stored entries, :math:`E`.
        num_graphs: graphs, :math:`B`.
        is_symmetric: whether :math:`A = A^T`, values included. ``False`` also where it could not be found out, as
            under ``torch.compile``.
    """

    def __init__(
        self,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | None,
        ptr: Tensor,
        order: Tensor | None = None,
        is_symmetric: bool = False,
    ) -> None:
        """Take arrays as they are described above, unchecked."""
        self.rowptr, self.col, self.value, self.ptr, self.order = rowptr, col, value, ptr, order
        self.is_symmetric = is_symmetric
        self.num_nodes: int = rowptr.numel() - 1
        self.num_edges: int = col.numel()
        self.num_graphs: int = ptr.numel() - 1
        self._transpose: tuple[Tensor, Tensor, Tensor] | None = None
        self._value_t: Tensor | None = None

    # ------------------------------------------------------------------------------------------------ constructors

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int | None = None,
        *,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        ptr: Tensor | None = None,
        num_graphs: int | None = None,
        symmetric: bool | None = None,
        is_coalesced: bool = False,
        validate: bool = False,
    ) -> RaggedGraph:
        """A batch of graphs in the format of PyTorch Geometric.

        Under ``torch.compile`` every edge keeps an entry (the first of several equal ones has their sum, the others
        zero), ``batch`` must be sorted, its number of graphs given, and ``symmetric=None`` means ``False``.

        Args:
            edge_index: ends of each edge, int64 or int32 ``[2, E]``, in any order; both directions of an undirected
                edge are listed.
            num_nodes: number of nodes; ``None``: what ``batch`` or ``ptr`` says, else one more than the largest
                number in ``edge_index``.
            edge_weight: ``[E]``, floating, or bool or integers, which become float32. ``value`` is differentiable
                in it, and may share its memory.
            batch: graph of each node, ``[num_nodes]``, sorted or not.
            ptr: first node of each graph, ``[B + 1]``, instead of ``batch``.
            num_graphs: number of graphs, PyG's ``batch_size``; ``None``: one more than the largest in ``batch``.
            symmetric: whether the matrix equals its transpose, values included; ``None`` finds out, exactly, and
                ``True`` or ``False`` is believed.
            is_coalesced: a promise that edges are sorted by row, then by column, and differ. It is checked on the
                CPU; elsewhere it saves sorting and a wait for the device.
            validate: check index values on a GPU, too, which waits for it. On the CPU they are always checked.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree, or an edge joins two graphs; the message names it.
        """
        edges, weight = checks.check_edges(edge_index, num_nodes, edge_weight, batch, ptr, num_graphs)
        checks.check_flag("symmetric", symmetric, True, False, None)
        checks.check_flag("is_coalesced", is_coalesced, True, False)
        checks.check_flag("validate", validate, True, False)
        if seen():
            return cls._traced(edges, weight, symmetric is True, is_coalesced)
        learned = weight is not None and weight.requires_grad and torch.is_grad_enabled()
        built = csr.build(edges, csr.Options(True, learned, symmetric, is_coalesced, validate))
        value = built.value
        if learned:
            value = weight if built.slot is None else csr.EntryValues.apply(weight, built)
        return cls(built.rowptr, built.col, value, built.ptr, built.order, built.symmetric)

    @classmethod
    def _traced(
        cls, edges: csr.Edges, weight: Tensor | None, symmetric: bool, is_coalesced: bool
    ) -> RaggedGraph:
        if edges.num_graphs is None:
            raise ValueError(
                "num_graphs must be given under torch.compile, where sizes cannot depend on values"
            )
        row, col, _, batch, ptr, num_nodes, num_graphs = edges
        rowptr, col, ptr, slot = torch.ops.hierpool.csr_build(row, col, batch, ptr, num_nodes, num_graphs)
        if not is_coalesced:
            if weight is None:
                weight = torch.ones(slot.numel(), device=slot.device)
            weight = csr.sum_by_slot(weight, slot, slot.numel())
        return cls(rowptr, col, weight, ptr, None, symmetric)

    @classmethod
    def from_csr(
        cls,
        rowptr: Tensor,
        col: Tensor,
        value: Tensor | None = None,
        ptr: Tensor | None = None,
        *,
        symmetric: bool | None = None,
        is_coalesced: bool = False,
        validate: bool = False,
    ) -> RaggedGraph:
        """A square matrix in compressed rows; its arrays are kept as they are if columns ascend and differ.

        Args:
            rowptr: first entry of each row, int64 or int32 ``[N + 1]``.
            col: column of each entry, ``[E]``, the dtype of ``rowptr``.
            value: weight of each entry, ``[E]``; ``None``: 1.
            ptr: first node of each graph, ``[B + 1]``; ``None``: one graph.
            symmetric: as in :meth:`from_edge_index`.
            is_coalesced: a promise that the columns of a row ascend and differ; checked on the CPU.
            validate: check values on a GPU, too.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree; the message names the argument.
        """
        rowptr = checks.check_index("rowptr", rowptr, "[N + 1]")
        col = checks.check_index("col", col, "[E]")
        if rowptr.numel() == 0:
            raise ValueError("rowptr must have shape [N + 1], got (0,); a matrix without rows has rowptr [0]")
        if rowptr.dtype != col.dtype:
            raise TypeError(f"rowptr and col must have the same dtype, got {rowptr.dtype} and {col.dtype}")
        checks.check_device("col", col, "rowptr", rowptr)
        checks.check_flag("symmetric", symmetric, True, False, None)
        n = rowptr.numel() - 1
        if value is not None:
            value = checks.check_weight("value", value, col.numel())
            checks.check_device("value", value, "rowptr", rowptr)
        ptr = torch.tensor([0, n], device=col.device) if ptr is None else checks.check_ptr(ptr, "col", col)
        trusted = is_coalesced and (seen() or (col.device.type != "cpu" and not validate))
        if not trusted and not csr.is_canonical(rowptr, col, ptr):
            if is_coalesced:
                raise ValueError("col was given with is_coalesced=True, but does not ascend within every row")
            edges = torch.stack([csr.rows(rowptr, col.numel()), col])
            return cls.from_edge_index(edges, n, edge_weight=value, ptr=ptr, symmetric=symmetric)
        if symmetric is None:
            symmetric = not seen() and csr.is_symmetric(
                rowptr, col, None if value is None else value.detach()
            )
        return cls(rowptr.contiguous(), col.contiguous(), value, ptr.contiguous(), None, symmetric)

    @classmethod
    def from_sparse(
        cls, matrix: Any, *, ptr: Tensor | None = None, symmetric: bool | None = None
    ) -> RaggedGraph:
        """A square sparse matrix of ``torch.sparse`` (COO, CSR or CSC) or SciPy (any format).

        Args:
            matrix: ``[N, N]``. Gradients flow to a matrix of torch; arrays in compressed rows are not copied.
            ptr: first node of each graph, ``[B + 1]``; ``None``: one graph.
            symmetric: as in :meth:`from_edge_index`.

        Raises:
            TypeError: it is no sparse matrix.
            ValueError: it is not square, an edge joins two graphs, or ``ptr`` does not fit.
        """
        if not isinstance(matrix, Tensor):
            return cls.from_csr(*forms.scipy_rows(matrix), ptr, symmetric=symmetric)
        return cls.from_csr(*forms.torch_rows(matrix), ptr, symmetric=symmetric)

    @classmethod
    def from_dense(
        cls,
        adj: Tensor,
        mask: Tensor | None = None,
        *,
        num_nodes: Tensor | None = None,
        symmetric: bool | None = None,
    ) -> RaggedGraph:
        """A padded batch of dense matrices, whose valid nodes are concatenated: node tensors are ``x[mask]``.

        Args:
            adj: ``[B, N, N]`` or ``[N, N]``; floating, or bool or integers, which become float32. Gradients flow to
                the entries that are not zero. Those of bool have ``value=None``.
            mask: valid nodes, ``[B, N]`` or ``[N]``, any dtype, non-zero means valid; may have holes.
            num_nodes: number of valid nodes, the first of each graph, ``[B]``, instead of ``mask``.
            symmetric: as in :meth:`from_edge_index`.

        Raises:
            TypeError: an argument has the wrong type or dtype.
            ValueError: shapes, devices or values disagree; the message names the argument.
        """
        checks.check_flag("symmetric", symmetric, True, False, None)
        rowptr, col, value, ptr = forms.dense_rows(adj, mask, num_nodes)
        if symmetric is None:
            symmetric = csr.is_symmetric(rowptr, col, None if value is None else value.detach())
        return cls(rowptr, col, value, ptr, None, symmetric)

    @classmethod
    def from_pyg(cls, data: Any, *, symmetric: bool | None = None, validate: bool = False) -> RaggedGraph:
        """A ``Data``, ``Batch`` or ``EdgeIndex`` of PyTorch Geometric, or what looks like one.

        Args:
            data: has ``edge_index`` and ``num_nodes``, and may have ``edge_weight``, ``ptr`` or ``batch``; or is an
                ``EdgeIndex``, of which ``sparse_size()`` gives the number of nodes.
            symmetric: as in :meth:`from_edge_index`.
            validate: check index values on a GPU, too.

        Raises:
            TypeError: it has no ``edge_index``.
            ValueError: as :meth:`from_edge_index`.
        """
        if isinstance(data, Tensor):
            n = forms.edge_index_nodes(data)
            return cls.from_edge_index(data, n, symmetric=symmetric, validate=validate)
        edge_index = getattr(data, "edge_index", None)
        if edge_index is None:
            raise TypeError(
                f"data must be a PyG Data, Batch or EdgeIndex with edge_index, got {type(data).__name__} without it"
            )
        ptr = getattr(data, "ptr", None)
        return cls.from_edge_index(
            edge_index,
            data.num_nodes,
            edge_weight=getattr(data, "edge_weight", None),
            batch=getattr(data, "batch", None) if ptr is None else None,
            ptr=ptr,
            symmetric=symmetric,
            validate=validate,
        )

    @classmethod
    def collate(cls, graphs: Sequence[RaggedGraph]) -> RaggedGraph:
        """One batch of all graphs of several, in their order; a building block of a ``collate_fn``.

        Raises:
            TypeError: an element is no ``RaggedGraph``.
            ValueError: the sequence is empty, or devices or dtypes of values differ.
        """
        for graph in graphs:
            if not isinstance(graph, RaggedGraph):
                raise TypeError(
                    f"graphs must be a sequence of RaggedGraph, got an element {type(graph).__name__}"
                )
        if not graphs:
            raise ValueError("graphs must have at least one element")
        if len(graphs) == 1:
            return graphs[0]
        return cls(*forms.concatenate(graphs), all(graph.is_symmetric for graph in graphs))

    # -------------------------------------------------------------------------------------------------- properties

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return self.rowptr.device

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of ``value``, or ``None`` without values."""
        return None if self.value is None else self.value.dtype

    @property
    def row(self) -> Tensor:
        """Row of each entry, ``[E]``, the dtype of ``col``."""
        return csr.rows(self.rowptr, self.num_edges)

    @property
    def batch(self) -> Tensor:
        """Graph of each node, int64 ``[N]``, in the caller's order of nodes."""
        return self.in_callers_order(self.graph_of_node())

    @property
    def degree(self) -> Tensor:
        """Row sums :math:`d = A 1`, ``[N]``, in the caller's order of nodes; float32 without values."""
        if self.value is None:
            return self.in_callers_order(self.rowptr.diff().to(torch.float32))
        return self.in_callers_order(csr.sum_by_slot(self.value, self.row, self.num_nodes))

    def graph_of_node(self) -> Tensor:
        """Graph of each node, int64 ``[N]``, in the order of the matrix."""
        graphs = torch.arange(self.num_graphs, device=self.device)
        return torch.repeat_interleave(graphs, self.ptr.diff(), output_size=self.num_nodes)

    def in_callers_order(self, nodes: Tensor) -> Tensor:
        """Rows of ``nodes`` ``[N, ...]`` from the order of the matrix to that of the caller."""
        if self.order is None:
            return nodes
        return torch.empty_like(nodes).index_copy(0, self.order, nodes)

    def in_graph_order(self, nodes: Tensor) -> Tensor:
        """Rows of ``nodes`` ``[N, ...]`` from the order of the caller to that of the matrix."""
        return nodes if self.order is None else nodes[self.order]

    # ------------------------------------------------------------------------------------------------- other forms

    def transposed(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Row pointers, columns and values of :math:`A^T`, without autograd; kept after the first call."""
        value = None if self.value is None else self.value.detach()
        if self.is_symmetric:
            return self.rowptr, self.col, value
        rowptr, col, source = self.reversed_entries()
        if value is None:
            return rowptr, col, None
        if seen() or (self.value is not None and self.value.requires_grad):
            return rowptr, col, value[source]
        if self._value_t is None:
            self._value_t = value[source]
        return rowptr, col, self._value_t

    def reversed_entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row pointers and columns of :math:`A^T`, and the entry that each of its entries comes from; kept after the
        first call."""
        if self._transpose is None and seen():
            return torch.ops.hierpool.csr_transpose(self.rowptr, self.col)
        if self._transpose is None:
            self._transpose = csr.transpose(self.rowptr, self.col)
        return self._transpose

    def with_value(self, value: Tensor | None, *, symmetric: bool | None = None) -> RaggedGraph:
        """The same entries with other weights, for example learned ones.

        Args:
            value: weight of each entry, ``[E]``, in the order of ``row`` and ``col``; ``None``: 1.
            symmetric: as in :meth:`from_edge_index`.
        """
        checks.check_flag("symmetric", symmetric, True, False, None)
        if value is not None:
            value = checks.check_weight("value", value, self.num_edges)
            checks.check_device("value", value, "the graph", self.rowptr)
        if symmetric is None:
            symmetric = not seen() and csr.is_symmetric(
                self.rowptr, self.col, None if value is None else value.detach()
            )
        graph = RaggedGraph(self.rowptr, self.col, value, self.ptr, self.order, symmetric)
        graph._transpose = self._transpose
        return graph

    def to_edge_index(self) -> tuple[Tensor, Tensor | None]:
        """``edge_index``, int64 ``[2, E]`` in the caller's numbering, in the order of entries; and ``value``."""
        ends = torch.stack([self.row, self.col]).to(torch.int64)
        return ends if self.order is None else self.order[ends], self.value

    def to_dense(self, max_num_nodes: int | None = None) -> Tensor:
        """The padded batch ``[B, M, M]``, nodes of a graph in the caller's order; float32 without values.

        Args:
            max_num_nodes: :math:`M`; ``None``: nodes of the largest graph, which waits for the device.

        Raises:
            ValueError: a graph has more nodes than ``max_num_nodes``.
        """
        return forms.padded(self, max_num_nodes)

    def _map(self, change: Any) -> RaggedGraph:
        """The graph with every tensor changed by a function of it and whether it holds weights."""

        def each(tensors: Sequence[Tensor | None], weights: bool = False) -> list[Any]:
            return [None if t is None else change(t, weights) for t in tensors]

        rowptr, col, ptr, order = each([self.rowptr, self.col, self.ptr, self.order])
        (value,) = each([self.value], True)
        graph = RaggedGraph(rowptr, col, value, ptr, order, self.is_symmetric)
        if self._transpose is not None:
            graph._transpose = tuple(each(self._transpose))
        return graph

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = False,
    ) -> RaggedGraph:
        """The graph on another device, or with values of another dtype; the graph itself if nothing changes.

        Raises:
            TypeError: ``dtype`` is not float64, float32, bfloat16 or float16.
        """
        if dtype is not None and dtype not in checks.FLOATS:
            raise TypeError(f"dtype must be float64, float32, bfloat16 or float16, got {dtype}")
        moved = self._map(
            lambda t, weights: t.to(device, dtype if weights else t.dtype, non_blocking=non_blocking)
        )
        same = moved.rowptr is self.rowptr and moved.value is self.value
        return self if same else moved

    def pin_memory(self) -> RaggedGraph:
        """The graph in page-locked memory, from where copies to a GPU need not wait."""
        return self._map(lambda t, weights: t.pin_memory())

    def __repr__(self) -> str:
        dtype = "" if self.value is None else f", dtype={self.value.dtype}"
        device = "" if self.device.type == "cpu" else f", device={str(self.device)!r}"
        return (
            f"{type(self).__name__}(num_graphs={self.num_graphs}, num_nodes={self.num_nodes}, "
            f"num_edges={self.num_edges}, is_symmetric={self.is_symmetric}{dtype}{device})"
        )
