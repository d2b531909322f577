"""The balance term of the asymmetric Cheeger cut in plain PyTorch, by sorting the columns of all graphs together."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, existing_clusters, ranges_of
from hierpool.reference.soft_pool_dense import valid_rows


class AsymmetricNorm(NamedTuple):
    """The norm, and tensors without gradients that the backward needs."""

    norm: Tensor  # [B]
    quantile: Tensor  # [B, K]  q, 0 for a graph without nodes
    row: Tensor  # int64 [B, K]  the first row of the graph with the value q, -1 for a graph without nodes
    slope: Tensor  # [B, K]  the derivative of the norm with respect to q


class _Rows(NamedTuple):
    """The rows of a padded or ragged batch, and one more row that belongs to no graph, so that M > 0."""

    s: Tensor  # [M, K], 0 in padding
    graph: Tensor  # [M], B in padding
    sizes: Tensor  # [B]: number of valid rows
    first: Tensor  # [B]: first row of each graph

    def of_rows(self, graphs: Tensor) -> Tensor:
        """The entry of ``graphs [B, ...]`` for the graph of each row, 0 for rows without a graph."""
        return torch.cat([graphs, graphs.new_zeros(1, *graphs.shape[1:])])[self.graph]

    def sums(self, rows: Tensor) -> Tensor:
        """Sums over the rows of each graph."""
        out = rows.new_zeros(self.sizes.numel() + 1, *rows.shape[1:])
        return out.index_add(0, self.graph, rows)[:-1]


def asymmetric_norm(
    s: Tensor,
    mask: Tensor | None = None,
    num_nodes: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    num_clusters: Tensor | None = None,
) -> AsymmetricNorm:
    """The norm of :func:`hierpool.asymmetric_norm`, differentiable any number of times by autograd.

    Args:
        s: :math:`S` ``[B, N, K]``, or ``[N, K]`` with ``ptr``.
        mask: bool ``[B, N]``. Exclusive with ``num_nodes``.
        num_nodes: int64 ``[B]``.
        ptr: int64 ``[B + 1]`` of a ragged batch: the first row of each graph.
        num_clusters: int64 ``[B]``: the first ``num_clusters[b]`` columns are the clusters of graph ``b``.
    """
    rows = _rows(s, mask, num_nodes, ptr)
    counts = (
        rows.sizes.new_full((), s.size(-1)).expand_as(rows.sizes) if num_clusters is None else num_clusters
    )
    at = _attained(rows, counts)
    values, acc = rows.s.double(), accumulation_dtype(s)  # autograd sums over all nodes for one of them
    above = values - rows.of_rows(values.gather(0, at))
    slopes = _slopes(above.detach(), rows.of_rows(counts)[:, None])
    some = rows.sizes[:, None] > 0
    if num_clusters is not None:
        exists = existing_clusters(num_clusters, s.size(-1))
        inside = rows.of_rows(exists)
        slopes, above = torch.where(inside, slopes, 0), torch.where(inside, above, 0)
        some = some & exists
    norm = rows.sums((slopes * above).sum(1)).to(acc)
    return AsymmetricNorm(
        norm,
        torch.where(some, rows.s.detach().gather(0, at), 0),
        torch.where(some, at - rows.first[:, None], -1),
        -rows.sums(_of_nodes(rows, slopes)).to(acc),
    )


def _rows(s: Tensor, mask: Tensor | None, num_nodes: Tensor | None, ptr: Tensor | None) -> _Rows:
    flat = s if ptr is not None else s.reshape(-1, s.size(2))
    count = flat.size(0)
    if ptr is not None:
        sizes, first = ptr.diff(), ptr[:-1]
        graph = ranges_of(ptr, count)
    else:
        b, n, _ = s.shape
        graphs = torch.arange(b, device=s.device)
        valid = valid_rows(s, mask, num_nodes)
        if valid is None:
            valid = torch.ones(b, n, dtype=torch.bool, device=s.device)
        sizes, first = valid.sum(1), graphs * n
        graph = torch.where(valid, graphs[:, None], b).reshape(count)
    graph = torch.cat([graph, graph.new_full((1,), sizes.numel())])
    more = torch.cat([flat, flat.new_zeros(1, flat.size(1))])
    return _Rows(torch.where((graph < sizes.numel())[:, None], more, 0), graph, sizes, first)


def _attained(rows: _Rows, counts: Tensor) -> Tensor:
    """The first row of each graph whose entry is the quantile of the column, as index of all rows, ``[B, K]``.

    Rows are sorted by value, with NaN first, then by graph.
    """
    values, sizes = rows.s.detach(), rows.sizes
    # The order of ties matters to gradients only. ONNX has neither them nor a stable sort.
    stable = {} if torch.compiler.is_exporting() else {"stable": True}
    by_value = values.mT.contiguous().sort(dim=1, descending=True, **stable).indices  # [K, M]
    count = values.size(0)
    place = rows.graph[by_value] * count + torch.arange(count, device=values.device)
    order = by_value.gather(1, place.sort(dim=1).indices).mT
    begin = sizes.cumsum(0) - sizes
    rank = torch.minimum(sizes // counts, sizes - 1).clamp(min=0)
    quantile = rows.of_rows(values.gather(0, order[begin + rank]))
    greater = (values > quantile) | (values.isnan() & ~quantile.isnan())
    return order.gather(0, begin[:, None] + rows.sums(greater.long()))


def _slopes(above: Tensor, counts: Tensor) -> Tensor:
    """The derivative of asym at ``above [M, K]``: K - 1 of ``counts [M, 1]``, or -1 below 0; NaN for NaN."""
    up, down = (counts - 1).to(above.dtype), above.new_full((), -1)
    return torch.where(above >= 0, up, torch.where(above < 0, down, above.new_full((), torch.nan)))


def _of_nodes(rows: _Rows, values: Tensor) -> Tensor:
    """``values``, set to 0 in padding."""
    return torch.where((rows.graph < rows.sizes.numel())[:, None], values, 0)
