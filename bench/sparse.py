"""Inputs with a sparse adjacency: batches as a loader of PyTorch Geometric makes them, and large random graphs.

Edges have no weights and no duplicates. Features and logits are drawn as in `bench.workloads`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from bench.workloads import Batch, draw, generator

Build: TypeAlias = Callable[[int, Path | None], "SparseBatch"]


@dataclass(frozen=True)
class SparseBatch:
    """Inputs of one pooling step on the nodes of all graphs, and the upstream gradients of its four outputs.

    ``x [N, F]``, ``edge_index [2, E]`` int64, ``batch [N]``, ``ptr [B + 1]``; ``logits [N, K]`` are given, or are
    ``linear(x)``, computed in every step. The others are as in `Batch`.
    """

    x: Tensor
    edge_index: Tensor
    batch: Tensor
    ptr: Tensor
    given: Tensor | torch.nn.Linear
    sizes: tuple[int, ...]
    symmetric: bool
    grads: tuple[Tensor, Tensor, Tensor, Tensor]

    @property
    def logits(self) -> Tensor:
        """The assignment logits, by the linear layer if there is one."""
        return self.given if isinstance(self.given, Tensor) else self.given(self.x)

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """The tensors whose gradients are part of the work."""
        if isinstance(self.given, Tensor):
            return self.x, self.given
        return self.x, self.given.weight, self.given.bias

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return ("x", "logits") if isinstance(self.given, Tensor) else ("x", "weight", "bias")

    @property
    def entries(self) -> int:
        """Non-zeros of A."""
        return self.edge_index.size(1)

    @property
    def clusters(self) -> int:
        return self.grads[0].size(1)

    @property
    def parameters(self) -> int:
        """Elements of the linear layer."""
        return 0 if isinstance(self.given, Tensor) else sum(t.numel() for t in self.given.parameters())

    @property
    def padded_entries(self) -> int:
        """B N N, N the nodes of the largest graph: what PyG divides the link loss by."""
        return len(self.sizes) * max(self.sizes) ** 2

    @property
    def adjacency_bytes(self) -> int:
        """Of A in compressed rows with 32-bit numbers and no weights."""
        return 4 * (self.entries + sum(self.sizes) + 1)

    def double(self) -> SparseBatch:
        """The same batch in float64, with its own leaves."""
        x = self.x.detach().double().requires_grad_()
        if isinstance(self.given, Tensor):
            given: Tensor | torch.nn.Linear = self.given.detach().double().requires_grad_()
        else:
            given = copy.deepcopy(self.given).double()
        g_x, g_adj, g_link, g_entropy = (g.double() for g in self.grads)
        return replace(self, x=x, given=given, grads=(g_x, g_adj, g_link, g_entropy))

    def describe(self) -> dict[str, int | bool]:
        """Sizes that identify the work, for the result rows."""
        return {
            "graphs": len(self.sizes), "padded_nodes": max(self.sizes), "features": self.x.size(1),
            "clusters": self.clusters, "nodes": sum(self.sizes), "entries": self.entries, "symmetric": self.symmetric,
        }  # fmt: skip


AnyBatch: TypeAlias = Batch | SparseBatch


def make_sparse(
    edge_index: Tensor, sizes: Sequence[int], features: int, clusters: int, symmetric: bool, seed: int,
    dtype: torch.dtype = torch.float32,
) -> SparseBatch:  # fmt: skip
    """Complete a block-diagonal ``edge_index`` with features, logits and upstream gradients, on its device."""
    b, n, device = len(sizes), max(sizes), edge_index.device
    x, logits, grads = draw((sum(sizes),), b, n, features, clusters, seed, device, dtype)
    lengths = torch.tensor(sizes, device=device)
    ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    batch = torch.repeat_interleave(torch.arange(b, device=device), lengths, output_size=sum(sizes))
    x.requires_grad_()
    return SparseBatch(x, edge_index, batch, ptr, logits.requires_grad_(), tuple(sizes), symmetric, grads)


def of_dense(build: Callable[[int, Path | None], Batch]) -> Build:
    """The real nodes and the non-zeros of a padded batch, with its gradients."""

    def sparse(seed: int, data_root: Path | None) -> SparseBatch:
        dense = build(seed, data_root)
        lengths = torch.tensor(dense.sizes)
        real = torch.arange(dense.adj.size(1)) < lengths.unsqueeze(1)
        graph, row, col = dense.adj.nonzero(as_tuple=True)
        first = lengths.cumsum(0) - lengths
        edge_index = torch.stack([first[graph] + row, first[graph] + col])
        made = make_sparse(edge_index, dense.sizes, 1, 1, dense.symmetric, seed)
        x, logits = (t.detach()[real].requires_grad_() for t in dense.leaves)
        return replace(made, x=x, given=logits, grads=dense.grads)

    return sparse


def with_linear(build: Build) -> Build:
    """The same batch with logits from a linear layer of the features."""

    def layered(seed: int, data_root: Path | None) -> SparseBatch:
        batch = build(seed, data_root)
        linear = torch.nn.Linear(batch.x.size(1), batch.clusters, device=batch.x.device, dtype=batch.x.dtype)
        gen = generator(seed, batch.x.device)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.normal_(std=batch.x.size(1) ** -0.5, generator=gen)
        return replace(batch, given=linear)

    return layered


# ---- large graphs ---------------------------------------------------------------------------------------------------


def random_pairs(nodes: int, count: int, gen: torch.Generator, *, ordered: bool) -> Tensor:
    """``count`` different pairs of different nodes in random order, ``[2, count]``; ascending unless ``ordered``."""
    if count > nodes * (nodes - 1) // (1 if ordered else 2):
        raise ValueError(f"{nodes} nodes have fewer than {count} pairs")
    keys = torch.empty(0, dtype=torch.int64)
    while keys.numel() < count:
        i, j = torch.randint(nodes, (2, count - keys.numel() + count // 8 + 8), generator=gen)
        if not ordered:
            i, j = torch.minimum(i, j), torch.maximum(i, j)
        keys = torch.cat([keys, (i * nodes + j)[i != j]]).unique()
    keys = keys[torch.randperm(keys.numel(), generator=gen)[:count]]
    return torch.stack([keys // nodes, keys % nodes])


def random_edges(nodes: int, entries: int, gen: torch.Generator, *, symmetric: bool = True) -> Tensor:
    """A uniformly random graph as ``edge_index [2, entries]`` in random order, both directions if ``symmetric``."""
    if not symmetric:
        return random_pairs(nodes, entries, gen, ordered=True)
    return both_ways(random_pairs(nodes, entries // 2, gen, ordered=False), gen)


def both_ways(ends: Tensor, gen: torch.Generator) -> Tensor:
    """Undirected edges ``[2, m]`` as ``edge_index [2, 2 m]`` in random order."""
    return torch.cat([ends, ends.flip(0)], 1)[:, torch.randperm(2 * ends.size(1), generator=gen)]


def random_graph(
    nodes: int, entries: int, clusters: int = 64, features: int = 64, *, symmetric: bool = True
) -> Build:
    """One uniformly random graph."""

    def build(seed: int, data_root: Path | None) -> SparseBatch:
        edges = random_edges(nodes, entries, torch.Generator().manual_seed(seed), symmetric=symmetric)
        return make_sparse(edges, (nodes,), features, clusters, symmetric, seed)

    return build


def star(leaves: int, clusters: int = 64, features: int = 64) -> Build:
    """One hub and its leaves: half of all entries are in one row."""

    def build(seed: int, data_root: Path | None) -> SparseBatch:
        ends = torch.stack([torch.zeros(leaves, dtype=torch.int64), torch.arange(1, leaves + 1)])
        edges = both_ways(ends, torch.Generator().manual_seed(seed))
        return make_sparse(edges, (leaves + 1,), features, clusters, True, seed)

    return build


def one_huge_many_tiny(nodes: int, entries: int, tiny: int, clusters: int = 64, features: int = 64) -> Build:
    """One uniformly random graph, then ``tiny`` cycles of 10 to 29 nodes."""

    def build(seed: int, data_root: Path | None) -> SparseBatch:
        gen = torch.Generator().manual_seed(seed)
        sizes = [nodes, *(10 + i % 20 for i in range(tiny))]
        parts, first = [random_pairs(nodes, entries // 2, gen, ordered=False)], nodes
        for size in sizes[1:]:
            ring = torch.arange(size)
            parts.append(torch.stack([ring, ring.roll(-1)]) + first)
            first += size
        return make_sparse(both_ways(torch.cat(parts, 1), gen), sizes, features, clusters, True, seed)

    return build
