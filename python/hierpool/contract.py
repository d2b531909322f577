"""Types and helpers that graphs, operators and backends share."""

from __future__ import annotations

from enum import IntEnum
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Dense(NamedTuple):
    """A dense adjacency."""

    value: Tensor  # [B, N, N] or [B, R, N, N]


class Csr(NamedTuple):
    """A sparse adjacency in compressed rows, over the nodes of all graphs, and its transpose.

    The transpose is ``None`` where A is symmetric or the transpose is not needed.
    """

    value: Tensor | None  # [E]; None: all entries are 1
    rowptr: Tensor  # [N + 1]
    col: Tensor  # [E]
    rowptr_t: Tensor | None = None
    col_t: Tensor | None = None
    value_t: Tensor | None = None

    def factor(self, transpose: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """Row pointers, columns and values of A, or with ``transpose`` of its transpose."""
        if transpose and self.rowptr_t is not None and self.col_t is not None:
            return self.rowptr_t, self.col_t, self.value_t
        return self.rowptr, self.col, self.value


class Links(NamedTuple):
    """The entries of A in compressed rows, and those of its transpose if rows do not hold all neighbours."""

    rowptr: Tensor  # [N + 1]
    col: Tensor  # [E]
    rowptr_t: Tensor | None = None
    col_t: Tensor | None = None
    source: Tensor | None = None  # [E]: entry of A of each entry of the transpose


class Padded(NamedTuple):
    """Nodes of a padded batch; at most one of the fields is given, or, by a backend, numbers that no node of the mask
    exceeds."""

    mask: Tensor | None = None  # bool [B, N]: valid nodes
    num_nodes: Tensor | None = None  # int64 [B]: the first num_nodes[b] nodes of graph b are valid


class Ragged(NamedTuple):
    """Nodes of a ragged batch."""

    ptr: Tensor  # int64 [B + 1]: first node of each graph


def existing_clusters(num_clusters: Tensor, k: int) -> Tensor:
    """Whether each of ``k`` columns is a cluster of the graph, bool ``[B, K]``, for ``num_clusters [B]``."""
    return torch.arange(k, device=num_clusters.device) < num_clusters[:, None]


def existing_columns(num_clusters: Tensor, s: Tensor, rows: Padded | Ragged) -> Tensor:
    """:func:`existing_clusters` of the graph of each row of ``s``: bool ``[B, 1, K]``, or ``[N, K]`` of ragged rows."""
    exists = existing_clusters(num_clusters, s.size(-1))
    return exists[ranges_of(rows.ptr, s.size(0))] if isinstance(rows, Ragged) else exists[:, None]


def accumulation_dtype(*tensors: Tensor | None) -> torch.dtype:
    """The dtype of sums: float64 if any of ``tensors`` is float64, else float32."""
    for t in tensors:
        if t is not None and t.dtype is torch.float64:
            return torch.float64
    return torch.float32


def reshaped(t: Tensor, *shape: int) -> Tensor:
    """A new tensor with the elements of ``t``. Unlike a view, it may be a result that callers change in place."""
    out: Tensor = torch.ops.aten._unsafe_view.default(t, shape)
    return out


class Edges(NamedTuple):
    """The edges of a batch of graphs; shapes, dtypes and devices are checked, values are not."""

    row: Tensor  # [E] int64 or int32
    col: Tensor  # [E] same dtype
    weight: Tensor | None  # [E] floating, detached
    batch: Tensor | None  # [N] int64
    ptr: Tensor | None  # [B + 1] int64
    num_nodes: int
    num_graphs: int


class BuildOptions(NamedTuple):
    """How a backend builds a matrix from :class:`Edges`.

    Attributes:
        merge: merge duplicate edges into one entry; otherwise the first entry holds their sum and the others hold 0.
        want_entry_of_edge: return :attr:`Built.entry_of_edge`.
        symmetric: whether the matrix is symmetric; ``None``: compute it.
        coalesced: the caller states that the edges are sorted by row and column without duplicates.
        validate: check values on every device, not only on the CPU.
    """

    merge: bool = True
    want_entry_of_edge: bool = False
    symmetric: bool | None = None
    coalesced: bool = False
    validate: bool = False


class Built(NamedTuple):
    """A matrix in compressed rows; its nodes are sorted by graph."""

    rowptr: Tensor  # [N + 1] int32 or int64
    col: Tensor  # [E'] same dtype; ascending within a row
    value: Tensor | None  # [E'], sums of the weights, or of ones; None: all are 1
    ptr: Tensor  # [B + 1] int64
    order: Tensor | None  # [N] int64, the caller's index of each node; None: the same
    entry_of_edge: Tensor | None  # [E] dtype of col; None: edge e is entry e, or it was not asked for
    symmetric: bool


class Blocks(NamedTuple):
    """Some blocks of a block-diagonal matrix in compressed rows, one after the other."""

    rowptr: Tensor  # [N + 1], the dtype of that of the matrix
    col: Tensor  # [E]
    ptr: Tensor  # int64 [B + 1]: first row of each block
    col_ptr: Tensor  # int64 [B + 1]: first column of each block
    row: Tensor  # int64 [N]: row of the matrix
    entry: Tensor | None  # int64 [E]: entry of the matrix; None: not wanted


class Fault(IntEnum):
    """What is wrong with the values of a graph. 1 to 6 are ``CsrProblem::Kind`` of ``csr_build.h``."""

    ROW_RANGE = 1  # the row of edge i
    COL_RANGE = 2  # the column of edge i
    CROSSING = 3  # an edge joins nodes i and j, in the caller's order, of different graphs
    BATCH_RANGE = 4  # the graph of node i, of j graphs
    PTR = 5  # ptr does not ascend from 0 to the number of nodes
    ROWPTR = 6  # rowptr does not ascend from 0 to the number of entries
    NOT_COALESCED = 7


class Problem(NamedTuple):
    """The first bad value that a backend found; :mod:`hierpool.graph.checks` makes an error of it."""

    fault: Fault
    i: int = 0
    j: int = 0


class Clusters(NamedTuple):
    """The cluster of each node of a batch of graphs, and the nodes of each cluster."""

    cluster: Tensor  # [N]; -1: the node is dropped
    first: Tensor  # [K + 1], in node: the first node of each cluster
    node: Tensor  # the nodes that are not dropped, by cluster, ascending in each


class Assigned(NamedTuple):
    """The assignment of each row of a batch, its nodes in the order of graphs, to at most one cluster."""

    cluster_ptr: Tensor  # int64 [B + 1]: first cluster of each graph
    rowptr: Tensor  # [N + 1], number of rows with a cluster before each row; int32 if it holds all indices, else int64
    cluster: Tensor  # cluster of each row that has one
    clusters: Clusters
    entry: Tensor  # of each of the nodes of clusters: its place among the rows with a cluster


class ClusteringGoal(NamedTuple):
    """What a clustering of the nodes of each graph is to be like.

    Attributes:
        cut: the weight between clusters is to be small; otherwise the modularity is to be large.
        resolution: of the modularity.
        most: int64 ``[B]``: clusters of each graph.
        exact: there are to be as many, or as nodes if these are fewer; otherwise as many as are best.
        largest: int64 ``[B]``: most nodes of a cluster of each graph.
    """

    cut: bool
    resolution: float
    most: Tensor
    exact: bool
    largest: Tensor


class Loops(IntEnum):
    """What becomes of entries that join two nodes of one cluster. ``hierpool::Loops`` of ``graph_contract.h``."""

    KEEP = 0
    DROP = 1
    SEPARATE = 2  # their sums, one for each cluster, follow those of the entries


class Reduce(IntEnum):
    """What is taken of several values. ``hierpool::Reduce`` of ``coalesce.h``."""

    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3
    MUL = 4


class ContractOptions(NamedTuple):
    """How a backend merges the nodes of a matrix into clusters.

    Attributes:
        loops: what becomes of self-loops of clusters.
        injective: no cluster has more than one node.
        symmetric: the matrix equals its transpose; the sums will, too.
        want_sum: return :attr:`Contracted.value`.
        want_slot: return :attr:`Contracted.slot`.
    """

    loops: Loops
    injective: bool
    symmetric: bool
    want_sum: bool
    want_slot: bool


class Contracted(NamedTuple):
    """The matrix of the clusters in compressed rows."""

    rowptr: Tensor  # [K + 1]
    col: Tensor  # [E'], ascending within a row
    value: Tensor | None  # [E'], or [E' + K] with separate loops: sums of the entries, or of ones
    slot: Tensor | None  # [E]: the element of value that each entry is part of; -1: none
    merged: bool  # an element of value, not of a loop that is separate, is the sum of several entries


class Fill(NamedTuple):
    """Entries that eliminated nodes add among those that are kept; several may join the same nodes."""

    row: Tensor  # int64 [M]
    col: Tensor  # int64 [M]
    value: Tensor  # float64 [M]
    size: int  # M; with more entries than asked for, the tensors have none


def exact_ratio(ratio: float) -> tuple[int, int]:
    """A ratio in (0, 1] as numerator and denominator: a float such as 0.07 * 100 is a little more than 7."""
    finest = 10**6 if ratio > 1e-3 else 10**9  # small ratios are for large graphs
    part = max(Fraction(ratio).limit_denominator(finest), Fraction(1, finest))
    return part.numerator, part.denominator


def index_dtype(num_nodes: int, num_edges: int) -> torch.dtype:
    """int32 if it holds all node and entry indices, else int64."""
    # Separate comparisons: under a compiler, comparing the two sizes would add a guard.
    return torch.int32 if num_nodes < 2**31 and num_edges < 2**31 else torch.int64


def ranges_of(offsets: Tensor, count: int) -> Tensor:
    """The range of each element: the row of each entry from ``rowptr``, or the graph of each node from ``ptr``.

    Range ``i`` starts at ``offsets[i]`` and ends before ``offsets[i + 1]``. The result has the dtype of ``offsets``.
    """
    if torch.compiler.is_exporting():  # ONNX has no repeat_interleave
        ends = offsets[1:]
        begun = offsets.new_zeros(count + 1).scatter_add(0, ends.to(torch.int64), torch.ones_like(ends))
        return begun.cumsum(0)[:-1]
    if offsets.dtype is torch.int64:
        return torch.repeat_interleave(offsets.diff(), output_size=count)
    ranges = torch.arange(offsets.numel() - 1, dtype=offsets.dtype, device=offsets.device)
    return torch.repeat_interleave(ranges, offsets.diff(), output_size=count)


def entries_of(rowptr: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The entries of some rows, one row after the other: the place of each entry's row in ``rows``, and the entry."""
    first = rowptr[rows].long()
    count = rowptr[rows + 1].long() - first
    place = torch.repeat_interleave(count)
    start = count.cumsum(0) - count
    return place, torch.arange(place.numel(), device=rows.device) + (first - start)[place]


def sum_of_ranges(values: Tensor, offsets: Tensor) -> Tensor:
    """Sums over the rows of each range, ``[B, ...]``, of ``values [N, ...]``; see :func:`ranges_of`."""
    if torch.compiler.is_exporting():  # ONNX has no segment_reduce
        sums = values.new_zeros(offsets.numel() - 1, *values.shape[1:])
        return sums.index_add(0, ranges_of(offsets, values.size(0)), values)
    if torch.compiler.is_compiling():
        return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, unsafe=True)
    sums = _SumOfRanges.apply(values, offsets)
    return sums


class _SumOfRanges(torch.autograd.Function):
    """:func:`sum_of_ranges`: ``torch.segment_reduce`` has neither a second derivative nor one of forward mode."""

    @staticmethod
    def forward(values: Tensor, offsets: Tensor) -> Tensor:
        return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, unsafe=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        values, offsets = inputs
        ctx.save_for_backward(offsets)
        ctx.save_for_forward(offsets)
        ctx.count = values.size(0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (offsets,) = ctx.saved_tensors
        return grad.index_select(0, ranges_of(offsets, ctx.count)), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return sum_of_ranges(tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, None], values: Tensor, offsets: Tensor) -> tuple[Tensor, int]:
        sums = sum_of_ranges(values.movedim(in_dims[0], -1), offsets)
        return sums, sums.dim() - 1


def largest_of_ranges(values: Tensor, offsets: Tensor) -> Tensor:
    """The largest of each range of ``values [N]``, which are not negative; 0 for an empty range."""
    if torch.compiler.is_exporting():
        ranges = ranges_of(offsets, values.numel())
        return values.new_zeros(offsets.numel() - 1).scatter_reduce(0, ranges, values, "amax")
    return torch.segment_reduce(values, "max", offsets=offsets, axis=0, unsafe=True, initial=0)


def diagonal_of(rowptr: Tensor, col: Tensor, value: Tensor | None) -> Tensor:
    """The entries on the diagonal of a matrix in compressed rows, ``[N]``; 0 where there is none; differentiable."""
    if torch.compiler.is_compiling():  # how many entries there are may depend on values
        of_entry = ranges_of(rowptr, col.numel())
        ones = torch.ones(col.numel(), dtype=torch.float32, device=col.device) if value is None else value
        return sum_by_index(torch.where(of_entry == col, ones, 0), of_entry, rowptr.numel() - 1)
    last = col.numel() - 1
    end, row = rowptr[1:].long(), torch.arange(rowptr.numel() - 1, device=col.device)
    low, high = rowptr[:-1].long(), end
    dtype = torch.float32 if value is None else value.dtype
    if last < 0:
        return torch.zeros(row.numel(), dtype=dtype, device=col.device)
    for _ in range(last.bit_length() + 1):  # columns ascend
        middle = (low + high) // 2
        before = (middle < high) & (col[middle.clamp(max=last)] < row)
        low, high = torch.where(before, middle + 1, low), torch.where(before, high, middle)
    place = low.clamp(max=last)
    found = (low < end) & (col[place] == row)
    return found.to(dtype) if value is None else torch.where(found, value.index_select(0, place), 0)


def sum_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum rows of values that share an index, ``[size, ...]``, in at least float32, rounded once; differentiable.

    On the CPU, values are added in their order.
    """
    dtype = torch.float64 if values.dtype == torch.float64 else torch.float32
    return (
        torch.zeros(size, *values.shape[1:], dtype=dtype, device=values.device)
        .index_add(0, index, values.to(dtype))
        .to(values.dtype)
    )


def softmax_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """The softmax over the values that share an index, ``[N]``, computed in at least float32; differentiable.

    Sums of float16 and bfloat16 would lose the terms of large groups.
    """
    _, exponential, total = _exponentials(values, index, size)
    return (exponential / total).to(values.dtype)


def log_softmax_by_index(values: Tensor, index: Tensor, size: int) -> Tensor:
    """The logarithm of :func:`softmax_by_index`."""
    shifted, _, total = _exponentials(values, index, size)
    return (shifted - total.log()).to(values.dtype)


def _exponentials(values: Tensor, index: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The values below the largest with their index, their exponentials, and the sums of these."""
    index, acc = index.long(), values.to(accumulation_dtype(values))
    largest = acc.new_full((size,), -torch.inf).scatter_reduce(0, index, acc.detach(), "amax")
    shifted = acc - largest[index]
    exponential = shifted.exp()
    return shifted, exponential, sum_by_index(exponential, index, size)[index]
