"""A batch of graphs whose nodes are split among the processes of a group."""

from __future__ import annotations

import copy
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool._hashes import mix
from hierpool.contract import ranges_of, sum_by_index
from hierpool.distributed import partition
from hierpool.distributed.halo import Blocks, Halo
from hierpool.distributed.ranks import Ranks
from hierpool.graph import RaggedGraph, checks

_CHUNK = 1 << 20  # entries hashed at a time


class ShardedGraph:
    r"""A batch of graphs in the memory of several processes: each holds the rows of :math:`A` of its nodes.

    It is made by all processes of a group of ``torch.distributed`` at the same time, and takes the place of a
    :class:`hierpool.RaggedGraph` in :func:`hierpool.soft_pool`, :func:`hierpool.diff_pool`,
    :func:`hierpool.mincut_pool`, :func:`hierpool.spmm`, the soft poolers of :mod:`hierpool.nn` and
    :class:`hierpool.DMoNPooling`. All processes call them at the same time, with the rows of their own nodes in ``x``
    and ``s``; each gets the rows of its own nodes of the assignment, and the same pooled features, adjacency, sums and
    losses. Rows of other processes, the halo, are exchanged by a plan that is made once.

    Results are those of one process but for the order of sums. For a fixed number of processes they are repeatable bit
    for bit, and equal in all processes.

    Gradients of rows are exact in each process. For parameters there are two ways:

    ``gradients="sum"``
        A parameter applied to rows of nodes gets the part of the gradient that comes from the rows of the process.
        The gradient is the **sum** over the processes: :func:`hierpool.distributed.sum_gradients`. A parameter applied
        to pooled features gets its whole gradient in every process.
    ``gradients="mean"``
        For ``DistributedDataParallel``, which divides the sum by the number of processes P. Gradients that pass from
        pooled results to rows are multiplied by P, so that the **mean** is the gradient of both kinds of parameters.

    Attributes:
        nodes: the caller's indices of the nodes of this process, int64 ``[n]``, in the order of its rows.
        num_nodes: nodes of this process, :math:`n`; may be 0.
        num_edges: entries of this process.
        total_nodes, total_edges: nodes and entries of all processes, :math:`N` and :math:`E`.
        num_graphs: graphs, :math:`B`. A graph may have nodes in several processes.
        graph_sizes: nodes of each graph in all processes, int64 ``[B]``.
        ptr: first row of each graph among the rows of this process, int64 ``[B + 1]``.
        offsets: number of rows before those of each process, int64 ``[P + 1]``.
        value: weight of each entry of this process, first of those in columns of its own nodes, by row and column, then
            of the others; or ``None``.
        is_symmetric: whether :math:`A = A^T`: stated, or tested with two 64-bit hashes of all entries.
        halo: plan of the exchange; ``halo.size`` rows are received.
        ranks: the group; ``ranks.rank`` and ``ranks.size``.
    """

    def __init__(
        self, ranks: Ranks, shard: partition.Shard, symmetric: bool | None, gradients: str = "sum"
    ) -> None:
        """Make the plan of the exchange. All processes call it; ``shard`` is not checked."""
        self.ranks, self.nodes, self.ptr = ranks, shard.nodes, shard.ptr
        self.offsets = shard.offsets
        self.low = int(shard.offsets[ranks.rank])
        self.num_nodes: int = shard.rowptr.numel() - 1
        self.num_edges: int = shard.col.numel()
        self.num_graphs: int = shard.ptr.numel() - 1
        self.total_nodes = int(shard.offsets[-1])
        sums = torch.cat([shard.ptr.diff(), shard.ptr.new_tensor([self.num_edges])])
        *sizes, self.total_edges = ranks.total(sums).tolist()
        self.graph_sizes = shard.ptr.new_tensor(sizes)
        self.gradients = gradients
        high = self.low + self.num_nodes
        self.blocks, asked, order = Blocks.of(shard.rowptr, shard.col, self.low, high)
        self.value = shard.value if shard.value is None or order is None else shard.value[order]
        self.halo = Halo.plan(ranks, asked, shard.offsets)
        self.agreed: set[Any] = set()  # calls whose arguments all processes have compared
        self.bounds: list[int] = shard.ptr.tolist()
        partition.check_graphs(self)
        self.is_symmetric = self._test_symmetry() if symmetric is None else symmetric

    @classmethod
    def from_global(
        cls,
        graph: RaggedGraph | None,
        *,
        parts: Tensor | None = None,
        src: int | None = 0,
        group: dist.ProcessGroup | None = None,
        gradients: Literal["sum", "mean"] = "sum",
    ) -> ShardedGraph:
        """Scatter a batch of graphs.

        Args:
            graph: the batch in process ``src``; other processes pass ``None``.
            parts: process of each node, int64 ``[N]`` in the caller's order of nodes, such as that of a partitioner,
                given where ``graph`` is; ``None``: ranges of equal length, as ``torch.chunk`` makes them.
            src: the process that has the graph; ``None``: all have it, and each keeps its rows.
            group: process group; ``None``: all processes.
            gradients: see the class.

        Raises:
            TypeError, ValueError: in all processes, if an argument of one is invalid; the message names both.
        """
        ranks = Ranks(group)
        shard, symmetric = partition.scatter(ranks, graph, parts, src, gradients)
        return cls(ranks, shard, symmetric, gradients)

    @classmethod
    def from_edge_index(
        cls,
        edge_index: Tensor,
        num_nodes: int,
        *,
        edge_weight: Tensor | None = None,
        batch: Tensor | None = None,
        symmetric: bool | None = None,
        group: dist.ProcessGroup | None = None,
        gradients: Literal["sum", "mean"] = "sum",
    ) -> ShardedGraph:
        """Edges that are already split by their sources: the nodes of process r follow those of process r - 1.

        Args:
            edge_index: ends of the edges whose source is a node of this process, int64 or int32 ``[2, E_r]``, in any
                order; indices of all processes, from 0. Duplicates are summed.
            num_nodes: number of nodes of this process, which may be 0.
            edge_weight: ``[E_r]``, floating; ``None``: 1.
            batch: graph of each node of this process, ascending, ``[num_nodes]``; ``None``: one graph.
            symmetric: whether the matrix equals its transpose, values included; ``None`` tests it.
            group, gradients: see :meth:`from_global`.

        Raises:
            TypeError, ValueError: in all processes, if an argument of one is invalid or they do not agree.
        """
        ranks = Ranks(group)
        given = partition.Edges(edge_index, num_nodes, edge_weight, batch, symmetric)
        return cls(ranks, partition.sorted_shard(ranks, given, gradients), symmetric, gradients)

    @property
    def device(self) -> torch.device:
        """The device of all its tensors."""
        return self.ptr.device

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of ``value``; ``None`` without values."""
        return None if self.value is None else self.value.dtype

    @property
    def batch(self) -> Tensor:
        """Graph of each node of this process, int64 ``[n]``."""
        return self.graph_of_node()

    @property
    def degree(self) -> Tensor:
        """Row sums :math:`d = A 1` of the nodes of this process, ``[n]``; float32 without values."""
        if self.value is None:
            return self.row_counts().float()
        return sum_by_index(self.value, self.row, self.num_nodes)

    def row_counts(self) -> Tensor:
        """Entries of each row of this process, int64 ``[n]``."""
        counts = self.blocks.inner.rowptr.diff().long()
        return counts.index_add(0, self.blocks.border, self.blocks.outer.rowptr.diff().long())

    @property
    def row(self) -> Tensor:
        """Row of each entry among those of this process, int64 ``[num_edges]``."""
        return self.blocks.rows()

    @property
    def col(self) -> Tensor:
        """Column of each entry, numbered by ``offsets``, int64 ``[num_edges]``."""
        inner, outer = self.blocks.inner, self.blocks.outer
        return torch.cat([inner.col.long() + self.low, self.halo.nodes[outer.col.long()]])

    def graph_of_node(self) -> Tensor:
        """Graph of each node of this process, int64 ``[n]``."""
        return ranges_of(self.ptr, self.num_nodes)

    def in_callers_order(self, nodes: Tensor) -> Tensor:
        """The rows themselves: tensors of a sharded graph have the order of ``nodes``."""
        return nodes

    in_graph_order = in_callers_order

    def with_value(self, value: Tensor | None, *, symmetric: bool | None = None) -> ShardedGraph:
        """The same graph with other weights, for example learned ones; called by all processes.

        Args:
            value: weights of the entries of this process, in the order of ``row`` and ``col``; ``None``: 1.
            symmetric: as in :meth:`from_edge_index`; ``None`` means ``False`` if they need a gradient, as they change.
        """
        learned = value is not None and value.requires_grad

        def check() -> dict[str, Any]:
            checks.check_flag("symmetric", symmetric, True, False, None)
            if value is not None:
                checks.check_weight("value", value, self.num_edges, "the graph", self.ptr)
            dtype = None if value is None else value.dtype
            return {"dtype of value": dtype, "symmetric": symmetric, "gradient of value": learned}

        self.ranks.agree(check)
        graph = copy.copy(self)
        graph.value, graph.agreed = value, set()
        test = symmetric is None and not learned
        graph.is_symmetric = graph._test_symmetry() if test else symmetric is True
        return graph

    def total(self, values: Tensor) -> Tensor:
        """The sum of a tensor over the processes; see :meth:`Ranks.total`. Not differentiable."""
        return self.ranks.total(values)

    def scatter(self, nodes: Tensor | None, *, src: int | None = 0) -> Tensor:
        """The rows of this process of node tensors ``[N, ...]``, in the caller's order, of process ``src`` or of all.

        Args:
            nodes: the tensor in process ``src``; others pass ``None``.
            src: the process that has it; ``None``: all have it.
        """
        return partition.scatter_rows(self, nodes, src)

    def gather(self, nodes: Tensor, *, dst: int | None = None) -> Tensor:
        """The rows of all processes, ``[N, ...]`` in the caller's order. Not differentiable.

        Args:
            nodes: the rows of this process.
            dst: the process that gets them, while the others get no row; ``None``: all get them.
        """
        counts = self.offsets.diff().tolist()
        order, rows = (self.ranks.gather(t.detach(), counts, dst) for t in (self.nodes, nodes))
        return torch.empty_like(rows).index_copy_(0, order, rows)

    def _test_symmetry(self) -> bool:
        """Whether the hashes of all entries and of the entries of the transpose have equal sums, modulo 2^64."""
        row, col, value = self.row + self.low, self.col, self.value
        difference = torch.zeros(2, dtype=torch.int64, device=self.device)
        for start in range(0, self.num_edges, _CHUNK):
            i, j = row[start : start + _CHUNK], col[start : start + _CHUNK]
            bits = torch.zeros_like(i)
            if value is not None:  # adding 0 makes 0 of -0
                bits = (value[start : start + _CHUNK].detach().double() + 0.0).view(torch.int64)
            for place, seed in enumerate((1, 2)):
                one, other = (mix(mix(mix(a + seed) + b) ^ bits) for a, b in ((i, j), (j, i)))
                difference[place] += one.sum() - other.sum()
        return not bool(self.total(difference).any())

    def values_of_blocks(self, dtype: torch.dtype, transposed: bool) -> Blocks:
        """The two matrices of this process with values in ``dtype``, and with transposes if they are needed."""
        if transposed:
            self.blocks = self.blocks.with_transposes(self.halo.size)
        return partition.valued(self.blocks, self.value, dtype)

    def induced(self, kept: Tensor | partition.Kept) -> ShardedGraph:
        """The subgraph of some nodes; called by all processes, without communication but for its size.

        Args:
            kept: nodes of all processes that are kept, bool ``[N]`` in the order of rows, the same in all processes; or
                what this process has to know of them.
        """
        return partition.induced(
            self, kept if isinstance(kept, partition.Kept) else partition.Kept.of(self, kept)
        )

    def __repr__(self) -> str:
        dtype = "" if self.value is None else f", dtype={self.value.dtype}"
        return (
            f"{type(self).__name__}(process {self.ranks.rank} of {self.ranks.size}, num_graphs={self.num_graphs}, "
            f"num_nodes={self.num_nodes} of {self.total_nodes}, num_edges={self.num_edges} of {self.total_edges}, "
            f"halo={self.halo.size}, is_symmetric={self.is_symmetric}{dtype})"
        )


def sizes_of(graph: RaggedGraph | ShardedGraph) -> Tensor:
    """Nodes of each graph of a batch, int64 ``[B]``, in all processes."""
    return graph.graph_sizes if isinstance(graph, ShardedGraph) else graph.ptr.diff()
