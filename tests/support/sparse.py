"""Ragged inputs of soft pooling, made from padded ones: the valid nodes of all graphs and a sparse adjacency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph, SoftPoolRecord
from tests.support.cases import GRID, Case, Inputs


class Ragged(NamedTuple):
    """Arguments of :func:`hierpool.soft_pool` for a ragged batch, and their positions in the padded batch."""

    x: Tensor  # [N, F]
    adj: Tensor | None  # weight of each entry, [E]
    s: Tensor  # [N, K]
    graph: RaggedGraph
    padded: Inputs
    place: Tensor  # [N]: the row of each node in the B N rows of the padded batch
    given: bool
    temperature: float

    @classmethod
    def of(
        cls,
        padded: Inputs,
        weighted: bool = True,
        index: torch.dtype = torch.int32,
        shuffle: torch.Generator | None = None,
    ) -> Ragged:
        """The valid nodes of ``padded`` in the order of its rows, or in a random order that mixes the graphs."""
        b, n, _ = padded.s.shape
        place = padded.valid.flatten().nonzero().flatten()
        if shuffle is not None:
            place = place[torch.randperm(place.numel(), generator=shuffle)]
        index_of = torch.zeros(b * n, dtype=torch.int64).index_copy(0, place, torch.arange(place.numel()))
        stored = (padded.adj != 0) & padded.valid[:, None, :] & padded.valid[..., None]
        graph_of, i, j = stored.nonzero(as_tuple=True)
        graph = RaggedGraph.from_edge_index(
            torch.stack([index_of[graph_of * n + i], index_of[graph_of * n + j]]),
            place.numel(),
            edge_weight=padded.adj[stored] if weighted else None,
            batch=torch.div(place, max(n, 1), rounding_mode="floor"),
            num_graphs=b,
        )
        graph = RaggedGraph(
            graph.rowptr.to(index),
            graph.col.to(index),
            graph.value,
            graph.ptr,
            graph.order,
            graph.is_symmetric,
        )
        x, s = padded.x.flatten(0, 1)[place], padded.s.flatten(0, 1)[place]
        return cls(x, graph.value, s, graph, padded, place, padded.given, padded.temperature)

    @property
    def valid(self) -> Tensor:
        """Every node, bool ``[N]``."""
        return torch.ones(self.place.numel(), dtype=torch.bool)

    @property
    def terms(self) -> int:
        """The number of terms of the longest sum over nodes, clusters or features."""
        return self.padded.terms

    def leaves(self) -> Ragged:
        """Copies that require gradients."""
        x, adj, s = (None if t is None else t.detach().requires_grad_() for t in self[:3])
        assert x is not None
        assert s is not None
        return self._replace(x=x, adj=adj, s=s)

    def pool(self, backend: str = "auto", **options: Any) -> SoftPoolRecord:
        """Call the operator."""
        arguments: dict[str, Any] = {
            "assignment": "given" if self.given else "softmax",
            "temperature": self.temperature,
            "backend": backend,
        }
        graph = self.graph
        if self.adj is not graph.value:
            graph = graph.with_value(self.adj, symmetric=graph.is_symmetric)
        return hierpool.soft_pool(self.x, graph, self.s, **(arguments | options))

    def pad(self, nodes: Tensor) -> Tensor:
        """Scatter rows ``[N, ...]`` into a padded batch ``[B, N, ...]`` of zeros."""
        b, n, _ = self.padded.s.shape
        rows = nodes.new_zeros(b * n, *nodes.shape[1:]).index_copy(0, self.place, nodes)
        return rows.unflatten(0, (b, n))

    def nodes(self, padded: Tensor) -> Tensor:
        """Rows ``[N, ...]`` of a padded ``[B, N, ...]``."""
        return padded.flatten(0, 1)[self.place]

    def entries(self, padded: Tensor) -> Tensor:
        """Stored entries ``[E]`` of a padded ``[B, N, N]``."""
        return padded.flatten()[self._entry_places()]

    def dense(self, entries: Tensor) -> Tensor:
        """A padded ``[B, N, N]`` of stored entries ``[E]``, zeros elsewhere."""
        return (
            entries.new_zeros(self.padded.adj.numel())
            .index_copy(0, self._entry_places(), entries)
            .view(self.padded.adj.shape)
        )

    def _entry_places(self) -> Tensor:
        n = self.padded.s.size(1)
        ends, _ = self.graph.to_edge_index()
        row, col = self.place[ends]
        return row * n + col % max(n, 1)


@dataclass(frozen=True)
class RaggedCase:
    """How to draw ragged inputs.

    Attributes:
        weighted: pass weights even if all are 1.
        index: dtype of row pointers and columns.
        shuffled: put the nodes of all graphs in a random order.
    """

    case: Case
    weighted: bool = True
    index: torch.dtype = torch.int32
    shuffled: bool = False

    @property
    def name(self) -> str:
        parts = ["csr", self.case.name]
        parts += ["unweighted"] * (not self.weighted)
        parts += ["int64"] * (self.index is torch.int64)
        parts += ["shuffled"] * self.shuffled
        return "-".join(parts)

    def make(
        self,
        seed: int,
        s: torch.dtype = torch.float64,
        x: torch.dtype | None = None,
        adj: torch.dtype | None = None,
    ) -> Ragged:
        """As :meth:`Case.make`."""
        draw = torch.Generator().manual_seed(seed) if self.shuffled else None
        return Ragged.of(self.case.make(seed, s, x, adj), self.weighted, self.index, draw)


_BASE = Case("base")
_SIZES = replace(_BASE, valid="num_nodes", directed=True)

# Corner cases of ragged batches.
_CORNERS = [
    replace(_SIZES, name="first-empty", b=3, sizes=(0, 9, 4)),
    replace(_SIZES, name="middle-empty", b=4, sizes=(5, 0, 0, 9)),
    replace(_SIZES, name="last-empty", b=3, sizes=(9, 4, 0)),
    replace(_SIZES, name="all-empty", b=3, sizes=(0, 0, 0)),
    replace(_SIZES, name="last-edgeless", b=3, sizes=(9, 4, 6), edgeless=2),
    replace(_SIZES, name="tails", b=3, sizes=(9, 5, 7), connected=4),
    replace(_BASE, name="one-graph-tail", b=1, connected=5),
    replace(_SIZES, name="many", b=40, sizes=tuple(i % 10 for i in range(40))),
]
# Around 2^15 entries, from which kernels split a small graph: 181^2 < 2^15 < 182^2.
_ENTRIES = [
    replace(_BASE, name=f"complete-n{n}", b=1, n=n, density=2.0, directed=directed)
    for n, directed in ((181, False), (182, False), (182, True), (255, True), (256, False), (257, True))
]
# So many clusters that row segments cannot hold sums of their own.
WIDE = RaggedCase(replace(_BASE, name="n600-k1100", b=1, n=600, k=1100, f=3, density=0.02, directed=True))


def _variants(name: str) -> list[RaggedCase]:
    case = next(case for case in [*GRID, *_CORNERS] if case.name == name)
    return [
        RaggedCase(case, index=torch.int64),
        RaggedCase(case, shuffled=True),
        RaggedCase(case, index=torch.int64, shuffled=True),
    ]


_UNWEIGHTED = (
    "base", "directed-holes", "tails", "complete-n182", "n513-directed-sparse", "ones", "n33-k31-f32"
)  # fmt: skip
_ONE_TYPE = [case for case in GRID if case.r is None and case.layout in ("contiguous", "expanded")]
RAGGED_GRID = [
    *map(RaggedCase, [*_ONE_TYPE, *_CORNERS, *_ENTRIES]),
    *(variant for name in ("directed-holes", "num_nodes", "tails", "n513") for variant in _variants(name)),
    *(
        RaggedCase(replace(case, weights="ones"), weighted=False)
        for case in (*_CORNERS, *_ENTRIES, *_ONE_TYPE)
        if case.name in _UNWEIGHTED
    ),
]
RAGGED_SMALL = [ragged for ragged in RAGGED_GRID if ragged.case.n <= 40]


def ragged(*names: str) -> list[RaggedCase]:
    """The cases of the ragged grid named ``csr-`` + name."""
    return [next(case for case in RAGGED_GRID if case.name == f"csr-{name}") for name in names]


def padded_of(inputs: Inputs | Ragged) -> Inputs:
    """The padded batch of the same graphs."""
    return inputs.padded if isinstance(inputs, Ragged) else inputs
