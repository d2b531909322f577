"""A hash of a graph and its features, whichever processes hold them."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from hierpool._hashes import mix
from hierpool.contract import ranges_of
from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph

_CHUNK = 1 << 18  # entries hashed at a time
_VALUES = 1 << 20  # features hashed at a time


def fingerprint(graph: RaggedGraph | ShardedGraph, x: Tensor | None) -> str:
    """A hash of a graph and its features, 16 hexadecimal digits.

    It is the same for every number of processes that share the graph, which all call the function: entries and rows are
    hashed one by one, and the hashes are summed modulo :math:`2^{64}`.

    Args:
        graph: one graph. If several processes share it, they own ranges of its nodes.
        x: features of the nodes of this process, float32 ``[n, F]``, or ``None``.
    """
    sums = torch.zeros(4, dtype=torch.int64)
    if isinstance(graph, ShardedGraph):
        inner, outer, border = graph.blocks
        low, nodes, entries = graph.low, graph.total_nodes, graph.total_edges
        parts = graph.blocks.parts(graph.value)
        own = torch.arange(low, low + graph.num_nodes)
        sums[:2] += _entries(inner.rowptr, own, inner.col, own, parts[0], nodes)
        sums[:2] += _entries(outer.rowptr, own[border], outer.col, graph.halo.nodes, parts[1], nodes)
    else:
        low, nodes, entries = 0, graph.num_nodes, graph.num_edges
        own = torch.arange(nodes)
        sums[:2] += _entries(graph.rowptr, own, graph.col, own, graph.value, nodes)
    if x is not None:
        sums[2:] += _rows(x, low)
    if isinstance(graph, ShardedGraph):
        sums = graph.total(sums)
    facts = [nodes, entries, str(graph.dtype), None if x is None else x.size(1), *sums.tolist()]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _entries(
    rowptr: Tensor, row_nodes: Tensor, col: Tensor, col_nodes: Tensor, value: Tensor | None, nodes: int
) -> Tensor:
    """The sums of two hashes of entries, int64 ``[2]``."""
    sums = torch.zeros(2, dtype=torch.int64)
    for start in range(0, col.numel(), _CHUNK):
        stop = min(start + _CHUNK, col.numel())
        first, last = torch.searchsorted(rowptr, rowptr.new_tensor([start, stop - 1]), right=True).tolist()
        ptr = rowptr[first - 1 : last + 1].long().clamp(start, stop) - start
        row = row_nodes[first - 1 : last][ranges_of(ptr, stop - start)]
        key = row * nodes + col_nodes[col[start:stop].long()]
        sums += _two(key, None if value is None else _bits(value[start:stop]))
    return sums


def _rows(x: Tensor, low: int) -> Tensor:
    """The sums of two hashes of rows, of nodes from ``low`` on."""
    sums = torch.zeros(2, dtype=torch.int64)
    factors = mix(torch.arange(x.size(1))) | 1
    height = max(_VALUES // max(x.size(1), 1), 1)
    for start in range(0, x.size(0), height):
        rows = x[start : start + height]
        node = torch.arange(low + start, low + start + rows.size(0))
        sums += _two(node, (_bits(rows) * factors).sum(1))
    return sums


def _two(key: Tensor, content: Tensor | None) -> Tensor:
    one = mix(key)
    one = one if content is None else mix(one ^ content)
    return torch.stack([one.sum(), mix(one).sum()])


def _bits(values: Tensor) -> Tensor:
    """The bits of float32, the same for both zeros."""
    return (values.detach().float() + 0.0).view(torch.int32).long()
