"""The Kron reduction in plain PyTorch, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.backends.reference.selection import components
from hierpool.contract import Fill, ranges_of


def fill(rowptr: Tensor, col: Tensor, value: Tensor | None, place: Tensor, most: int) -> Fill:
    """The entries that eliminated nodes add among those that are kept.

    A component of eliminated nodes with matrix L and edges B to its neighbours that are kept adds B^T L^-1 B. Components
    of similar sizes are one batch.
    """
    row, end = ranges_of(rowptr, col.numel()).long(), col.long()
    weight = torch.ones(col.numel(), dtype=torch.float64, device=col.device) if value is None else value
    joins = (row != end) & (weight > 0)
    gone = place < 0
    first = components(rowptr, col, joins & gone[row] & gone[end])
    n = max(place.numel(), 1)
    outward = joins & gone[row] & ~gone[end]
    # The neighbours of each component, by component, and the place of each entry that leads to them.
    border, to_border = torch.unique(first[row[outward]] * n + end[outward], return_inverse=True)
    of_border = border // n
    borders = torch.zeros(place.numel(), dtype=torch.int64, device=col.device)
    borders = borders.index_add(0, of_border, torch.ones_like(of_border))
    count = int((borders * (borders - 1).clamp(min=0)).sum())
    nothing = row.new_zeros(0), row.new_zeros(0), weight.new_zeros(0)
    if count > most or count == 0:
        return Fill(*nothing, count)
    wanted = gone & (borders[first] > 1)
    members, start = _numbered(torch.where(wanted, first, place.numel()))
    border_start = borders.cumsum(0) - borders
    own_border = torch.arange(border.numel(), device=col.device) - border_start[of_border]
    sizes = torch.zeros_like(borders).index_add(0, first[wanted], torch.ones_like(first[wanted]))
    degree = torch.zeros(n, dtype=torch.float64, device=col.device).index_add(0, row[joins], weight[joins])
    inner = joins & gone[row] & gone[end] & wanted[row]
    parts = []
    heads = (borders > 1).nonzero()[:, 0]
    width = torch.maximum(sizes, borders)[heads].double().log2().ceil().long()  # powers of two
    for power in width.unique().tolist():
        group = heads[width == power]
        number = torch.full_like(borders, -1).index_copy(0, group, torch.arange(group.numel(), device=col.device))
        c, b = int(sizes[group].max()), int(borders[group].max())
        matrix = torch.eye(c, dtype=torch.float64, device=col.device).repeat(group.numel(), 1, 1)
        node = (wanted & (number[first] >= 0)).nonzero()[:, 0]
        matrix[number[first[node]], members[node], members[node]] = degree[node]
        e = (inner & (number[first[row]] >= 0)).nonzero()[:, 0]
        matrix[number[first[row[e]]], members[row[e]], members[end[e]]] = -weight[e]
        out = outward.nonzero()[:, 0]
        here = number[first[row[out]]] >= 0
        e, to = out[here], to_border[here]
        edges = weight.new_zeros(group.numel(), c, b)
        edges[number[first[row[e]]], members[row[e]], own_border[to]] = weight[e]
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), edges, upper=False)
        mesh = (half.mT @ half).tril(-1)
        mesh = mesh + mesh.mT  # exactly symmetric
        g, i, j = _pairs(borders[group], b)
        at = border_start[group][g]
        parts.append((place[border[at + i] % n].long(), place[border[at + j] % n].long(), mesh[g, i, j]))
    rows, cols, values = (torch.cat(list(part)) for part in zip(*parts, strict=True))
    return Fill(rows, cols, values, count)


def _numbered(group: Tensor) -> tuple[Tensor, Tensor]:
    """The number of each element in its group, and the order of elements by group."""
    order = group.argsort(stable=True)
    ordered = group[order]
    number = torch.arange(group.numel(), device=group.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(order).index_copy(0, order, number), order


def _pairs(counts: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Group and numbers of all pairs of different ones of the first ``counts[g]`` of ``most`` numbers."""
    numbers = torch.arange(most, device=counts.device)
    exists = numbers < counts[:, None]
    pairs = exists[:, :, None] & exists[:, None, :] & (numbers[:, None] != numbers)
    g, i, j = pairs.nonzero(as_tuple=True)
    return g, i, j
