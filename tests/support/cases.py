"""Inputs of soft pooling: every shape, padding, layout, weight and dtype that takes a path of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import SoftPoolRecord


class Inputs(NamedTuple):
    """Arguments of :func:`hierpool.soft_pool`."""

    x: Tensor
    adj: Tensor
    s: Tensor
    mask: Tensor | None = None
    num_nodes: Tensor | None = None
    given: bool = False
    temperature: float = 1.0

    @property
    def valid(self) -> Tensor:
        """Valid nodes, bool ``[B, N]``."""
        b, n, _ = self.s.shape
        if self.num_nodes is not None:
            return torch.arange(n)[None] < self.num_nodes[:, None]
        return torch.ones(b, n, dtype=torch.bool) if self.mask is None else self.mask != 0

    @property
    def terms(self) -> int:
        """The longest sum over nodes, clusters or features."""
        return max(*self.s.shape[1:], self.x.size(2))

    def double(self) -> Inputs:
        """The same values in float64, contiguous."""
        x, adj, s = (t.detach().double().contiguous() for t in self[:3])
        return self._replace(x=x, adj=adj, s=s)

    def leaves(self) -> Inputs:
        """The same values, strides and dtypes as leaves that need a gradient, where a dtype can have one."""
        x, adj, s = (t.detach().requires_grad_(t.is_floating_point()) for t in self[:3])
        return self._replace(x=x, adj=adj, s=s)

    def pool(self, backend: str = "auto", **options: Any) -> SoftPoolRecord:
        """Call the operator."""
        arguments: dict[str, Any] = {
            "mask": self.mask,
            "num_nodes": self.num_nodes,
            "assignment": "given" if self.given else "softmax",
            "temperature": self.temperature,
            "backend": backend,
        }
        return hierpool.soft_pool(self.x, self.adj, self.s, **(arguments | options))


@dataclass(frozen=True)
class Case:
    """A recipe of inputs; ``make(seed)`` draws them.

    valid: ``all``, ``mask`` (the first rows), ``holes``, ``num_nodes`` or ``none`` (fully masked). weights: ``ones``,
    ``uniform``, ``signed`` or ``integers``. layout: ``contiguous``, ``transposed``, ``strided`` (last dimension too),
    ``sliced`` (rows of a wider tensor) or ``expanded`` (one graph repeated with stride 0). sizes: ``num_nodes``, if
    they are not to be drawn. connected: nodes from this number on have no edges. edgeless: number of a graph without
    any.
    """

    name: str
    b: int = 2
    n: int = 9
    k: int = 4
    f: int = 5
    r: int | None = None
    valid: str = "all"
    density: float = 0.4
    weights: str = "uniform"
    directed: bool = False
    layout: str = "contiguous"
    given: bool = False
    temperature: float = 1.0
    sizes: tuple[int, ...] = ()
    connected: int | None = None
    edgeless: int | None = None

    def make(
        self,
        seed: int,
        s: torch.dtype = torch.float64,
        x: torch.dtype | None = None,
        adj: torch.dtype | None = None,
    ) -> Inputs:
        """Inputs with logits of dtype ``s``; ``x`` and ``adj`` default to the same."""
        draw = torch.Generator().manual_seed(seed)
        logits, features, mask, num_nodes = self._nodes(draw)
        return Inputs(
            self.lay(features.to(x or s)),
            self.lay(self._adjacency(draw).to(adj or s)),
            self.lay(logits.to(s)),
            mask,
            num_nodes,
            self.given,
            self.temperature,
        )

    def make_nodes(self, seed: int, s: torch.dtype) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Logits (or a given S), mask and num_nodes of the same inputs, without a matrix of N x N."""
        logits, _, mask, num_nodes = self._nodes(torch.Generator().manual_seed(seed))
        return logits.to(s), mask, num_nodes

    def _adjacency(self, draw: torch.Generator) -> Tensor:
        shape = (self.b, self.n, self.n) if self.r is None else (self.b, self.r, self.n, self.n)
        drawn: dict[str, Callable[[], Tensor]] = {
            "ones": lambda: torch.ones(shape, dtype=torch.float64),
            "uniform": lambda: torch.rand(shape, generator=draw, dtype=torch.float64),
            "signed": lambda: torch.randn(shape, generator=draw, dtype=torch.float64),
            "integers": lambda: torch.randint(0, 4, shape, generator=draw, dtype=torch.float64),
        }
        weights = drawn[self.weights]()
        adj = weights * (torch.rand(shape, generator=draw) < self.density)
        if self.connected is not None:
            adj[..., self.connected :, :] = 0
            adj[..., self.connected :] = 0
        if self.edgeless is not None:
            adj[self.edgeless] = 0
        if self.directed:
            return adj
        upper = adj.triu()
        return upper + upper.triu(1).transpose(-1, -2)

    def _nodes(self, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        logits = 2 * torch.randn(self.b, self.n, self.k, generator=draw, dtype=torch.float64)
        if self.given:  # with exact zeros, and rows that do not sum to 1
            logits = logits.softmax(-1) * (logits > -1)
        features = torch.randn(self.b, self.n, self.f, generator=draw, dtype=torch.float64)
        counts = torch.randint(0, self.n + 1, (self.b,), generator=draw)
        if self.b > 1:  # one graph is full and one is empty, whatever was drawn
            counts[0], counts[1] = self.n, 0
        counts = torch.tensor(self.sizes) if self.sizes else counts
        mask = None
        if self.valid == "mask":
            mask = torch.arange(self.n) < counts[:, None]
        elif self.valid == "holes":
            mask = torch.rand(self.b, self.n, generator=draw) < 0.6
        elif self.valid == "none":
            mask = torch.zeros(self.b, self.n, dtype=torch.bool)
        return logits, features, mask, counts if self.valid == "num_nodes" else None

    def lay(self, t: Tensor) -> Tensor:
        """The values in this case's layout."""
        if self.layout == "transposed":
            return t.transpose(-1, -2).contiguous().transpose(-1, -2)
        if self.layout == "strided":
            wide = torch.full([2 * size for size in t.shape], 3, dtype=t.dtype)
            view = wide[(slice(None, None, 2),) * t.dim()]
            return view.copy_(t)
        if self.layout == "sliced":
            wide = torch.full((*t.shape[:-1], t.size(-1) + 3), 3, dtype=t.dtype)
            return wide[..., 1 : 1 + t.size(-1)].copy_(t)
        if self.layout == "expanded":
            return t[:1].expand(t.shape)
        return t


_BASE = Case("base")

SMALL = [
    _BASE,
    replace(_BASE, name="mask", b=4, valid="mask"),
    replace(_BASE, name="num_nodes", b=4, valid="num_nodes"),
    replace(_BASE, name="holes", b=4, n=21, valid="holes"),
    replace(_BASE, name="fully-masked", valid="none"),
    replace(_BASE, name="directed", directed=True),
    replace(_BASE, name="directed-holes", n=23, directed=True, valid="holes", weights="signed"),
    replace(_BASE, name="signed", weights="signed"),
    replace(_BASE, name="ones", weights="ones"),
    replace(_BASE, name="no-edges", density=0.0),
    replace(_BASE, name="complete", density=2.0),
    replace(_BASE, name="sparse", n=40, density=0.05),
    replace(_BASE, name="no-graphs", b=0),
    replace(_BASE, name="no-nodes", n=0),
    replace(_BASE, name="one-node", b=3, n=1),
    replace(_BASE, name="one-cluster", k=1),
    replace(_BASE, name="more-clusters-than-nodes", n=3, k=11),
    replace(_BASE, name="no-features", f=0),
    replace(_BASE, name="one-feature", f=1),
    replace(_BASE, name="one-type", r=1),
    replace(_BASE, name="three-types", r=3, directed=True),
    replace(_BASE, name="three-types-num_nodes", b=4, r=3, valid="num_nodes"),
    replace(_BASE, name="three-types-holes", n=19, r=3, directed=True, valid="holes"),
    replace(_BASE, name="transposed", layout="transposed", directed=True),
    replace(_BASE, name="strided", layout="strided", directed=True, valid="mask"),
    replace(_BASE, name="strided-types", layout="strided", r=2),
    replace(_BASE, name="sliced", layout="sliced", directed=True),
    replace(_BASE, name="expanded", b=3, layout="expanded"),
    replace(_BASE, name="given", given=True, valid="mask"),
    replace(_BASE, name="given-directed", given=True, directed=True),
    replace(_BASE, name="temperature", temperature=0.3, valid="holes"),
]

# Around the widths of vectors and of register tiles.
WIDTHS = [
    replace(_BASE, name=f"n{n}-k{k}-f{f}", b=1, n=n, k=k, f=f, directed=n % 2 == 0)
    for n, k, f in ((15, 15, 17), (16, 16, 16), (17, 17, 15), (31, 32, 33), (32, 33, 31), (33, 31, 32), (20, 70, 130))
]  # fmt: skip

# Around the size from which a graph is cut into tiles, and with several of them.
LARGE = [
    replace(_BASE, name="n511", b=1, n=511, density=0.02),
    replace(_BASE, name="n512-directed", b=1, n=512, density=0.6, directed=True),
    replace(_BASE, name="n513", b=1, n=513, density=0.6),
    replace(_BASE, name="n513-directed-sparse", b=1, n=513, density=0.02, directed=True),
    replace(_BASE, name="n1100", b=1, n=1100, k=70, f=9, density=0.5, directed=True),
    replace(_BASE, name="n700-num_nodes", b=3, n=700, k=6, valid="num_nodes", density=0.1),
    replace(_BASE, name="n900-holes", b=1, n=900, k=6, valid="holes", directed=True, r=2),
    replace(_BASE, name="n600-expanded", b=2, n=600, k=3, layout="expanded", density=0.3),
]

GRID = [*SMALL, *WIDTHS, *LARGE]


def find(name: str) -> Case:
    """The case of the grid with this name."""
    return next(case for case in GRID if case.name == name)


class Recipe(Protocol):
    """A case of this grid or another."""

    @property
    def name(self) -> str: ...

    def make(
        self,
        seed: int,
        s: torch.dtype = torch.float64,
        x: torch.dtype | None = None,
        adj: torch.dtype | None = None,
    ) -> Any: ...


def over(seed: int, *cases: Recipe | str) -> pytest.MarkDecorator:
    """Parametrize a test over ``case``, given or named in the grid, with the seed it is made from in the id."""
    chosen = [find(case) if isinstance(case, str) else case for case in cases]
    return pytest.mark.parametrize("case", chosen, ids=[f"{case.name}-seed{seed}" for case in chosen])
