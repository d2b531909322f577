"""The Kron reduction in plain PyTorch, on any device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.backends.reference.selection import components
from hierpool.contract import Fill, ranges_of


def fill(rowptr: Tensor, col: Tensor, value: Tensor | None, place: Tensor, most: int) -> Fill:
    """The entries that eliminated nodes add among those that are kept.

    A component of eliminated nodes with matrix L and edges B to its neighbours that are kept adds B^T L^-1 B.
    Components of similar sizes are one batch.
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
    start = borders.cumsum(0) - borders
    parts = _Parts(
        first,
        _numbered(torch.where(wanted, first, place.numel())),
        torch.zeros_like(borders).index_add(0, first[wanted], torch.ones_like(first[wanted])),
        borders,
        torch.zeros(n, dtype=torch.float64, device=col.device).index_add(0, row[joins], weight[joins]),
        torch.arange(border.numel(), device=col.device) - start[of_border],
    )
    inner = (joins & gone[row] & gone[end] & wanted[row]).nonzero()[:, 0]
    edges = (row[inner], end[inner], weight[inner]), (row[outward], to_border, weight[outward])
    found = []
    heads = (borders > 1).nonzero()[:, 0]
    width = torch.maximum(parts.sizes, borders)[heads].double().log2().ceil().long()  # powers of two
    for power in width.unique().tolist():
        group = heads[width == power]
        mesh = _meshes(parts, group, wanted, *edges)
        g, i, j = _pairs(borders[group], mesh.size(1))
        at = start[group][g]
        found.append((place[border[at + i] % n].long(), place[border[at + j] % n].long(), mesh[g, i, j]))
    rows, cols, values = (torch.cat(list(part)) for part in zip(*found, strict=True))
    return Fill(rows, cols, values, count)


class _Parts(NamedTuple):
    """Components of eliminated nodes, each at its first node."""

    first: Tensor  # of each node
    member: Tensor  # number of each node in its component
    sizes: Tensor
    borders: Tensor  # numbers of neighbours that are kept
    degree: Tensor  # of each node
    own: Tensor  # number of each pair of component and neighbour in its component


def _meshes(
    parts: _Parts,
    group: Tensor,
    wanted: Tensor,
    inner: tuple[Tensor, Tensor, Tensor],
    outward: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """The weights that the components with the first nodes ``group`` add among their neighbours, ``[G, b, b]``."""
    number = torch.full_like(parts.borders, -1)
    number = number.index_copy(0, group, torch.arange(group.numel(), device=group.device))[parts.first]
    c, b = int(parts.sizes[group].max()), int(parts.borders[group].max())
    matrix = torch.eye(c, dtype=torch.float64, device=group.device).repeat(group.numel(), 1, 1)
    node = (wanted & (number >= 0)).nonzero()[:, 0]
    matrix[number[node], parts.member[node], parts.member[node]] = parts.degree[node]
    row, end, weight = (t[number[inner[0]] >= 0] for t in inner)
    matrix[number[row], parts.member[row], parts.member[end]] = -weight
    row, end, weight = (t[number[outward[0]] >= 0] for t in outward)
    edges = weight.new_zeros(group.numel(), c, b)
    edges[number[row], parts.member[row], parts.own[end]] = weight
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), edges, upper=False)
    mesh = (half.mT @ half).tril(-1)
    return mesh + mesh.mT  # exactly symmetric


def _numbered(group: Tensor) -> Tensor:
    """The number of each element in its group."""
    order = group.argsort(stable=True)
    ordered = group[order]
    number = torch.arange(group.numel(), device=group.device) - torch.searchsorted(ordered, ordered)
    return torch.empty_like(order).index_copy(0, order, number)


def _pairs(counts: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Group and numbers of all pairs of different ones of the first ``counts[g]`` of ``most`` numbers."""
    numbers = torch.arange(most, device=counts.device)
    exists = numbers < counts[:, None]
    pairs = exists[:, :, None] & exists[:, None, :] & (numbers[:, None] != numbers)
    g, i, j = pairs.nonzero(as_tuple=True)
    return g, i, j
