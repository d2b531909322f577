"""Halves of connected components by the signs of an eigenvector, for all components of a batch at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool._hashes import node_hash, unsigned_order
from hierpool.contract import ranges_of, sum_of_ranges

# As in csrc/cpu/selection_spectral.cpp.
STEPS = 64
BREAKDOWN = 1e-9  # length of a residual that is rounding
ZERO = 1e-6  # parts of the largest element that are zero, or equal to it
GAIN = 1e-12  # part of a degree that is rounding


class _Components(NamedTuple):
    """The connected components, whose nodes follow each other."""

    rowptr: Tensor  # [N + 1]
    row: Tensor  # [E]
    col: Tensor  # [E]
    weight: Tensor  # [E] float64
    ptr: Tensor  # [C + 1]: first node of each component
    of_node: Tensor  # [N]: component of each node

    def sums(self, values: Tensor) -> Tensor:
        """Over the nodes of each component, ``[C]``."""
        return sum_of_ranges(values, self.ptr)

    def row_sums(self, values: Tensor) -> Tensor:
        """Over the entries of each row, ``[N]``."""
        return sum_of_ranges(values, self.rowptr)

    def any_of_row(self, values: Tensor) -> Tensor:
        """Whether a value of each row is true, bool ``[N]``."""
        return self.row_sums(values.double()) > 0


def spectral_sign(rowptr: Tensor, col: Tensor, value: Tensor | None, ptr: Tensor, seed: int) -> Tensor:
    """Whether each node is in the half of its component that is kept."""
    n = rowptr.numel() - 1
    hashed = node_hash(ptr, ranges_of(ptr, n), seed)
    graph, order = _by_component(rowptr, col, value)
    hashed = hashed[order]
    vector = _largest_eigenvector(graph, hashed)
    largest = vector.new_zeros(graph.ptr.numel() - 1)
    largest = largest.scatter_reduce(0, graph.of_node, vector.abs(), "amax")[graph.of_node]
    places = torch.arange(n, device=vector.device)
    large = vector.abs() >= (1 - ZERO) * largest
    first = torch.full_like(graph.ptr[:-1], n).scatter_reduce(
        0, graph.of_node, torch.where(large, places, n), "amin"
    )
    sign = torch.where(vector < 0, -1.0, 1.0)[first[graph.of_node]]
    kept = vector * sign >= -ZERO * largest
    apart = kept[graph.row] != kept[graph.col]
    cut = graph.sums(graph.row_sums(torch.where(apart, graph.weight, 0)))
    small = (2 * cut < graph.sums(graph.row_sums(graph.weight)))[graph.of_node]
    if bool(small.any()):
        kept = _improved(graph, kept, hashed, small)
    return torch.empty_like(kept).index_copy(0, order, kept)


def _by_component(rowptr: Tensor, col: Tensor, value: Tensor | None) -> tuple[_Components, Tensor]:
    """The components without loops, and the node of each of their places."""
    from hierpool.backends.reference.selection import components

    n = rowptr.numel() - 1
    row, col = ranges_of(rowptr, col.numel()).long(), col.long()
    weight = torch.ones(col.numel(), dtype=torch.float64, device=col.device) if value is None else value
    usable = (row != col) & (weight > 0)
    first, order = components(rowptr, col, usable).sort(stable=True)
    place = torch.empty_like(order).index_copy(0, order, torch.arange(n, device=col.device))
    row, col, weight = place[row[usable]], place[col[usable]], weight[usable]
    by_key = (row * max(n, 1) + col).argsort()
    row, col, weight = row[by_key], col[by_key], weight[by_key]
    nodes = torch.arange(n + 1, device=col.device)
    number = first.diff(prepend=first[:1] - 1).bool().cumsum(0) - 1
    starts = torch.searchsorted(number, nodes[: int(number[-1]) + 2] if n else nodes)
    return _Components(torch.searchsorted(row, nodes), row, col, weight, starts, number), order


def _largest_eigenvector(graph: _Components, hashed: Tensor) -> Tensor:
    """Of the normalised Laplacian of each component, ``[N]``: the smallest one of D^-1/2 A D^-1/2, by Lanczos."""
    degree = graph.row_sums(graph.weight)
    scale = torch.where(degree > 0, degree, 1).rsqrt()
    entry = graph.weight * scale[graph.row] * scale[graph.col]
    q = ((hashed >> 11) & ((1 << 53) - 1)).double() * 2.0**-53 - 0.5
    sizes = graph.ptr.diff()
    steps = min(STEPS, int(sizes.max()) if sizes.numel() else 0)
    basis: list[Tensor] = []
    diagonals, offs = [], []
    active = torch.ones_like(sizes, dtype=torch.bool)
    length = graph.sums(q.square()).sqrt()
    for step in range(steps):
        q = torch.where(active, 1 / torch.where(active, length, 1), 0)[graph.of_node] * q
        basis.append(q)
        following = graph.row_sums(entry * q[graph.col])
        # A component that is done gets an eigenvalue that is never the smallest.
        diagonals.append(torch.where(active, graph.sums(q * following), 4.0))
        for _ in range(2):
            for one in basis:
                following = following - graph.sums(one * following)[graph.of_node] * one
        length = graph.sums(following.square()).sqrt()
        active = active & (length > BREAKDOWN) & (sizes > step + 1)
        offs.append(torch.where(active, length, 0))
        q = following
    if not basis:
        return q
    tridiagonal = torch.diag_embed(torch.stack(diagonals, 1))
    off = torch.stack(offs, 1)[:, :-1]
    tridiagonal += torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    part = torch.linalg.eigh(tridiagonal)[1][:, :, 0]  # [C, steps]
    return (torch.stack(basis, 1) * part[graph.of_node]).sum(1)


def _improved(graph: _Components, kept: Tensor, hashed: Tensor, small: Tensor) -> Tensor:
    """Nodes of ``small`` components change sides while that cuts more, in rounds: those before their neighbours."""
    rank = torch.empty_like(hashed)
    rank[unsigned_order(hashed).argsort(stable=True)] = torch.arange(rank.numel(), device=rank.device)
    bound = GAIN * graph.row_sums(graph.weight)
    before = rank[graph.col] < rank[graph.row]
    while True:
        same = kept[graph.row] == kept[graph.col]
        movable = small & (graph.row_sums(torch.where(same, graph.weight, -graph.weight)) > bound)
        moving = movable & ~graph.any_of_row(movable[graph.col] & before)
        if not bool(moving.any()):
            return kept
        kept = kept ^ moving
