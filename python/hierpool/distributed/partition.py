"""How the rows of a graph get to the processes that own them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool.contract import entries_of, index_dtype, sum_by_index
from hierpool.distributed.halo import Blocks, csr, with_values
from hierpool.distributed.ranks import Facts, Ranks
from hierpool.graph import RaggedGraph, checks

if TYPE_CHECKING:
    from hierpool.distributed.graph import ShardedGraph


class Shard(NamedTuple):
    """The rows of a process; columns are numbered by ``offsets``."""

    rowptr: Tensor  # int64 [n + 1]
    col: Tensor  # [E_r], ascending within a row
    value: Tensor | None  # [E_r]
    ptr: Tensor  # int64 [B + 1]
    nodes: Tensor  # int64 [n]
    offsets: Tensor  # int64 [P + 1]


_COMPARED = "dtype of edge_weight", "symmetric", "batch is given", "device", "gradients"


class Edges(NamedTuple):
    """Arguments of :meth:`ShardedGraph.from_edge_index`."""

    edge_index: Tensor
    num_nodes: int
    edge_weight: Tensor | None
    batch: Tensor | None
    symmetric: bool | None


def check_gradients(gradients: Any) -> None:
    if gradients not in ("sum", "mean"):
        raise ValueError(f"gradients must be 'sum' or 'mean', got {gradients!r}")


def chunk_offsets(num_nodes: int, size: int) -> Tensor:
    """The ranges of ``torch.chunk``, and of a ``DTensor`` that is sharded by rows, int64 ``[P + 1]``."""
    width = -(-num_nodes // size)
    return (torch.arange(size + 1) * width).clamp(max=num_nodes)


# ---- from one process -----------------------------------------------------------------------------------------------


def scatter(
    ranks: Ranks, graph: Any, parts: Tensor | None, src: int | None, gradients: str
) -> tuple[Shard, bool]:
    """The shard of this process, and whether the whole matrix is symmetric."""
    has_graph = src is None or src == ranks.rank

    def check() -> Facts:
        check_gradients(gradients)
        if src is not None and not 0 <= src < ranks.size:
            raise ValueError(f"src must lie between 0 and {ranks.size - 1}, got {src}")
        if not has_graph:
            if graph is not None or parts is not None:
                raise ValueError(f"graph and parts must be None except in process src = {src}")
            return {"gradients": gradients, "src": src, "meta": None}
        if not isinstance(graph, RaggedGraph):
            raise TypeError(f"graph must be a RaggedGraph, got {type(graph).__name__}")
        rank_of = _check_parts(parts, graph, ranks.size)
        counts = chunk_offsets(graph.num_nodes, ranks.size).diff()
        if rank_of is not None:
            counts = rank_of.bincount(minlength=ranks.size)
        meta = (counts.tolist(), graph.num_graphs, graph.dtype, graph.is_symmetric, str(graph.col.dtype))
        return {"gradients": gradients, "src": src, "meta": meta}

    facts = ranks.agree(check, compared=None if src is None else ("gradients", "src"))
    counts, num_graphs, dtype, symmetric, index = facts[src or 0]["meta"]
    offsets = torch.tensor([0, *counts], dtype=torch.int64).cumsum(0)
    index_dtype = torch.int32 if index == "torch.int32" else torch.int64
    if not has_graph:
        empty = torch.empty(0, dtype=torch.int64, device=_device_of(ranks))
        rows = _Rows(empty, empty, empty, empty.to(index_dtype), None if dtype is None else empty.to(dtype))
    else:
        rows = _ordered(graph, _check_parts(parts, graph, ranks.size), offsets)
    entries = [int(part.sum()) for part in rows.length.split(counts)] if has_graph else [0] * ranks.size
    if src is None:
        rows = rows.block(counts, entries, ranks.rank)
    else:
        sent = counts if has_graph else [0] * ranks.size
        received = [counts[ranks.rank] if rank == src else 0 for rank in range(ranks.size)]
        nodes, length, of_node = (ranks.exchange(t, sent, received) for t in rows[:3])
        taken = [int(length.sum()) if rank == src else 0 for rank in range(ranks.size)]
        col = ranks.exchange(rows.col, entries, taken)
        value = None if rows.value is None else ranks.exchange(rows.value, entries, taken)
        rows = _Rows(nodes, length, of_node, col, value)
    shard = Shard(
        _starts(rows.length),
        rows.col,
        rows.value,
        _starts(rows.graph.bincount(minlength=num_graphs)),
        rows.nodes,
        offsets.to(rows.col.device),
    )
    return shard, symmetric


class _Rows(NamedTuple):
    """Rows of a matrix, one after the other."""

    nodes: Tensor  # int64 [N], the caller's index of each row
    length: Tensor  # int64 [N]
    graph: Tensor  # int64 [N]
    col: Tensor  # [E]
    value: Tensor | None  # [E]

    def block(self, counts: list[int], entries: list[int], rank: int) -> _Rows:
        """The rows of one process."""
        nodes, length, graph = (t.split(counts)[rank].clone() for t in self[:3])
        value = None if self.value is None else self.value.split(entries)[rank].clone()
        return _Rows(nodes, length, graph, self.col.split(entries)[rank].clone(), value)


def _ordered(graph: RaggedGraph, parts: Tensor | None, offsets: Tensor) -> _Rows:
    """The rows of the whole matrix, ordered by process."""
    length, of_node = graph.rowptr.diff().long(), graph.graph_of_node()
    nodes = torch.arange(graph.num_nodes, device=graph.device) if graph.order is None else graph.order
    value = None if graph.value is None else graph.value.detach()
    if parts is None:
        return _Rows(nodes, length, of_node, graph.col, value)
    order = parts.argsort(stable=True)
    number = torch.empty_like(order)
    number[order] = torch.arange(order.numel(), device=order.device)
    first = graph.rowptr[:-1].long()[order]
    longer = length[order]
    place = torch.repeat_interleave(longer, output_size=graph.num_edges)
    start = longer.cumsum(0) - longer
    entry = torch.arange(graph.num_edges, device=order.device) + (first - start)[place]
    col = number[graph.col.long()[entry]]
    # Columns ascend in each row.
    key, within = (place * max(graph.num_nodes, 1) + col).sort()
    col = (key % max(graph.num_nodes, 1)).to(graph.col.dtype)
    value = None if value is None else value[entry[within]]
    return _Rows(nodes[order], longer, of_node[order], col, value)


def _check_parts(parts: Any, graph: RaggedGraph, size: int) -> Tensor | None:
    """The process of each row of the matrix."""
    if parts is None:
        return None
    if not isinstance(parts, Tensor) or parts.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"parts must be an int64 tensor, got {getattr(parts, 'dtype', type(parts).__name__)}")
    if parts.shape != (graph.num_nodes,):
        raise ValueError(f"parts must have shape [N] = [{graph.num_nodes}], got {list(parts.shape)}")
    if parts.numel() and not (int(parts.min()) >= 0 and int(parts.max()) < size):
        low, high = int(parts.min()), int(parts.max())
        raise ValueError(f"parts must lie between 0 and {size - 1}, got values from {low} to {high}")
    return graph.in_graph_order(parts.long())


def _device_of(ranks: Ranks) -> torch.device:
    """The device of tensors that the group exchanges."""
    on_cuda = dist.get_backend(ranks.group) == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_cuda else torch.device("cpu")


def scatter_rows(graph: ShardedGraph, nodes: Tensor | None, src: int | None) -> Tensor:
    """See :meth:`ShardedGraph.scatter`."""
    ranks = graph.ranks
    has_rows = src is None or src == ranks.rank

    def check() -> Facts:
        if not has_rows:
            return {"meta": None}
        if not isinstance(nodes, Tensor) or nodes.dim() == 0 or nodes.size(0) != graph.total_nodes:
            given = list(nodes.shape) if isinstance(nodes, Tensor) else type(nodes).__name__
            raise ValueError(f"nodes must have {graph.total_nodes} rows, those of all processes, got {given}")
        return {"meta": (tuple(nodes.shape[1:]), nodes.dtype)}

    facts = ranks.agree(check, compared=None if src is None else ())
    if src is None:
        assert nodes is not None
        return nodes[graph.nodes]
    shape, dtype = facts[src]["meta"]
    counts = graph.offsets.diff().tolist()
    to_src = [counts[ranks.rank] if rank == src else 0 for rank in range(ranks.size)]
    from_all = counts if has_rows else [0] * ranks.size
    order = ranks.exchange(graph.nodes, to_src, from_all)
    rows = torch.empty(0, *shape, dtype=dtype, device=graph.device) if nodes is None else nodes[order]
    return ranks.exchange(rows, from_all, to_src)


# ---- from edges that are split by source ----------------------------------------------------------------------------


def sorted_shard(ranks: Ranks, given: Edges, gradients: str) -> Shard:
    """Sort the edges of this process into rows. All processes agree on dtypes and sizes, or all raise the error."""

    def check() -> Facts:
        check_gradients(gradients)
        return _check_edges(given) | {"gradients": gradients}

    facts = ranks.agree(check, compared=_COMPARED)
    offsets = torch.tensor([0, *(one["nodes"] for one in facts)], dtype=torch.int64).cumsum(0)
    num_graphs = max(one["graphs"] for one in facts)
    low, n, total = int(offsets[ranks.rank]), given.num_nodes, int(offsets[-1])

    def check_range() -> Facts:
        if given.edge_index.numel():
            source, target = given.edge_index
            for name, ends, least, most in ("sources", source, low, low + n), ("targets", target, 0, total):
                first, last = int(ends.min()), int(ends.max())
                if not least <= first <= last < most:
                    raise ValueError(
                        f"{name} in edge_index must lie between {least} and {most - 1}, got {first} to {last}"
                    )
        return {}

    ranks.agree(check_range)
    source, target = given.edge_index
    key = source.long().sub_(low) if source.dtype is torch.int32 else source - low
    key, value = _merged(ranks, key.mul_(max(total, 1)).add_(target), given.edge_weight)
    rowptr = _starts((key // max(total, 1)).bincount(minlength=n))
    col = key.remainder_(max(total, 1)).to(index_dtype(total, 0))
    nodes = torch.arange(low, low + n, device=key.device)
    batch = given.batch
    sizes = (
        nodes.new_tensor([n]) if batch is None else batch.to(key.device).long().bincount(minlength=num_graphs)
    )
    ptr = _starts(sizes)
    return Shard(rowptr, col, value, ptr, nodes, offsets.to(key.device))


def _merged(ranks: Ranks, key: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Different keys, ascending, and sums of their weights, or of ones if a process has duplicates without weights."""
    if weight is None:
        unique, count = key.sort().values.unique_consecutive(return_counts=True)
        repeated = ranks.total(torch.tensor([key.numel() - unique.numel()], device=key.device)).item() > 0
        return unique, count.to(torch.float32) if repeated else None
    key, order = key.sort(stable=True)
    unique, entry = key.unique_consecutive(return_inverse=True)
    return unique, sum_by_index(weight.detach()[order], entry, unique.numel())


def to_owners(
    ranks: Ranks, edge_index: Tensor, weight: Tensor | None, num_nodes: int
) -> tuple[Tensor, Tensor | None]:
    """Send every edge to the owner of its source: the edges of this process, and their weights.

    The owners have the ranges of :func:`chunk_offsets`.
    """
    owner = edge_index[0] // max(-(-num_nodes // ranks.size), 1)
    order = owner.argsort(stable=True)
    send = owner.bincount(minlength=ranks.size).tolist()
    del owner
    receive = ranks.counts(send, edge_index.device)
    ends = torch.stack([ranks.exchange(side[order], send, receive) for side in edge_index])
    return ends, None if weight is None else ranks.exchange(weight[order], send, receive)


def _check_edges(given: Edges) -> Facts:
    """Check the arguments of one process; what must be the same in all, and its numbers of nodes and graphs."""
    edge_index, n, weight, batch, symmetric = given
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        raise ValueError(f"num_nodes must be an integer of at least 0, got {n!r}")
    if not isinstance(edge_index, Tensor) or edge_index.dtype not in (torch.int64, torch.int32):
        got = getattr(edge_index, "dtype", type(edge_index).__name__)
        raise TypeError(f"edge_index must be an int64 or int32 tensor, got {got}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"edge_index must have shape [2, E], got {list(edge_index.shape)}")
    checks.check_flag("symmetric", symmetric, True, False, None)
    if weight is not None:
        checks.check_weight("edge_weight", weight, edge_index.size(1), "edge_index", edge_index)
        if not weight.is_floating_point():
            raise TypeError(f"edge_weight must have a floating dtype, got {weight.dtype}")
    graphs = 1
    if batch is not None:
        if not isinstance(batch, Tensor) or batch.shape != (n,):
            raise ValueError(
                f"batch must have shape [num_nodes] = [{n}], got {getattr(batch, 'shape', batch)}"
            )
        if n and (int(batch[0]) < 0 or bool((batch.diff() < 0).any())):
            raise ValueError("batch must ascend from a number that is not negative")
        graphs = int(batch[-1]) + 1 if n else 0
    return {
        "dtype of edge_weight": None if weight is None else weight.dtype,
        "symmetric": symmetric,
        "batch is given": batch is not None,
        "device": edge_index.device.type,
        "nodes": n,
        "graphs": graphs,
    }


def _starts(lengths: Tensor) -> Tensor:
    starts = lengths.new_zeros(lengths.numel() + 1)
    starts[1:] = lengths.cumsum(0)
    return starts


def check_graphs(graph: ShardedGraph) -> None:
    """Raise in all processes if an edge joins two graphs."""
    if graph.num_graphs < 2:
        return
    of_node = graph.graph_of_node()
    of_halo = graph.halo.rows(of_node)
    inner, outer, _ = graph.blocks
    row, far = graph.row.split([inner.col.numel(), outer.col.numel()])
    crossing = (of_node[row] != of_node[inner.col.long()]).sum()
    crossing += (of_node[far] != of_halo[outer.col.long()]).sum()

    def check() -> Facts:
        if int(crossing):
            raise ValueError(f"edge_index must not join two graphs, but {int(crossing)} edges do")
        return {}

    graph.ranks.agree(check)


# ---- values and parts of a sharded graph ----------------------------------------------------------------------------


def valued(blocks: Blocks, value: Tensor | None, dtype: torch.dtype) -> Blocks:
    """The matrices with detached values in ``dtype``."""
    parts = blocks.parts(None if value is None else value.detach().to(dtype))
    inner, outer = (
        with_values(block, part) for block, part in zip((blocks.inner, blocks.outer), parts, strict=True)
    )
    return blocks._replace(inner=inner, outer=outer)


class Kept(NamedTuple):
    """The nodes of a subgraph, as far as a process has to know them."""

    own: Tensor  # bool [n]
    halo: Tensor  # bool [H]
    offsets: Tensor  # int64 [P + 1]: kept nodes before those of each process
    halo_numbers: Tensor  # new numbers of the kept rows of the halo

    @classmethod
    def of(cls, graph: ShardedGraph, kept: Tensor) -> Kept:
        """From a mask of all nodes, bool ``[N]``."""
        before = torch.cat([graph.offsets.new_zeros(1), kept.cumsum(0)])  # kept nodes before each node
        own, halo = kept[graph.low : graph.low + graph.num_nodes], kept[graph.halo.nodes]
        return cls(own, halo, before[graph.offsets], before[graph.halo.nodes[halo]])


def induced(graph: ShardedGraph, kept: Kept) -> ShardedGraph:
    """See :meth:`ShardedGraph.induced`."""
    own, in_halo = kept.own, kept.halo
    part = copy.copy(graph)
    part.offsets = kept.offsets
    part.low, part.num_nodes = int(part.offsets[graph.ranks.rank]), int(own.sum())
    part.nodes = graph.nodes[own]
    part.total_nodes, part.total_edges = int(part.offsets[-1]), -1  # nobody has counted the entries
    place = own.cumsum(0) - 1
    part.ptr = torch.cat([place.new_zeros(1), place + 1])[graph.ptr]
    part.bounds = part.ptr.tolist()
    part.graph_sizes = part.ptr.new_tensor([part.total_nodes])
    if graph.num_graphs != 1:
        part.graph_sizes = graph.total(part.ptr.diff())
    place_in_halo = in_halo.cumsum(0) - 1
    part.halo = graph.halo.restricted(own, in_halo, place, kept.halo_numbers)
    inner, outer, border = graph.blocks
    row, near = entries_of(inner.rowptr, own.nonzero().flatten())
    inside = own[inner.col[near].long()]
    row, near = row[inside], near[inside]
    kept_border = own[border].nonzero().flatten()
    far_row, far = entries_of(outer.rowptr, kept_border)
    inside = in_halo[outer.col[far].long()]
    far_row, far = far_row[inside], far[inside]
    part.num_edges = near.numel() + far.numel()
    if graph.value is not None:
        of_inner, of_outer = graph.value.split([inner.col.numel(), outer.col.numel()])
        part.value = torch.cat([of_inner[near], of_outer[far]])
    part.blocks = Blocks(
        csr(row, place[inner.col[near].long()], part.num_nodes),
        csr(far_row, place_in_halo[outer.col[far].long()], kept_border.numel()),
        place[border[kept_border]],
    )
    return part
