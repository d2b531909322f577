"""Inputs of the asymmetric norm, its truth in float64, and the comparison of an implementation with it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

import hierpool
from hierpool import RaggedGraph
from tests.support.cases import GRID, Case, Inputs
from tests.support.oracle import assert_error, eps_of, max_error


class NormInputs(NamedTuple):
    """Arguments of :func:`hierpool.asymmetric_norm`, of a padded batch or of a ragged one."""

    s: Tensor
    mask: Tensor | None = None
    num_nodes: Tensor | None = None
    graph: RaggedGraph | None = None
    num_clusters: Tensor | None = None

    @property
    def valid(self) -> Tensor:
        """Valid nodes of a padded batch, bool ``[B, N]``."""
        return Inputs(self.s, self.s, self.s, self.mask, self.num_nodes).valid

    @property
    def nodes(self) -> list[Tensor]:
        """Which rows the nodes of each graph have among all rows of ``s``, in their order."""
        if self.graph is None:
            n = self.s.size(1)
            return [b * n + valid.nonzero().flatten() for b, valid in enumerate(self.valid)]
        rows = torch.arange(self.s.size(0)) if self.graph.order is None else self.graph.order
        return [rows[begin:end] for begin, end in itertools.pairwise(self.graph.ptr.tolist())]

    def norm(self, backend: str = "auto") -> Tensor:
        """Call the operator."""
        return hierpool.asymmetric_norm(
            self.s,
            self.graph,
            mask=self.mask,
            num_nodes=self.num_nodes,
            num_clusters=self.num_clusters,
            backend=backend,
        )

    def ragged(self, seed: int | None = None) -> NormInputs:
        """The valid nodes alone, of all graphs one after another, or drawn at random with their graphs mixed."""
        b, n = self.valid.shape
        s, graph_of = self.s[self.valid], torch.arange(b)[:, None].expand(b, n)[self.valid]
        if seed is not None:
            drawn = torch.randperm(s.size(0), generator=torch.Generator().manual_seed(seed))
            s, graph_of = s[drawn], graph_of[drawn]
        edges = torch.zeros(2, 0, dtype=torch.int64)
        graph = RaggedGraph.from_edge_index(edges, s.size(0), batch=graph_of, num_graphs=b)
        return NormInputs(s, graph=graph)


def make(case: Case, seed: int, dtype: torch.dtype = torch.float64, digits: int | None = None) -> NormInputs:
    """An assignment in ``dtype``; with ``digits`` of so many binary digits, so that many entries are equal."""
    s, mask, num_nodes = case.make_nodes(seed, torch.float64)
    s = s if case.given else s.softmax(-1)
    if digits is not None:
        s = (s * 2**digits).round() / 2**digits
    return NormInputs(case.lay(s.to(dtype)), mask, num_nodes)


_BASE = Case("base")
ONE_TYPE = [case for case in GRID if case.r is None and case.temperature == 1.0 and case.n <= 40]
# Around the size of a tile, of a graph that is one task, and of a piece of a larger one; several blocks of columns.
LARGE = [
    replace(_BASE, name=f"n{n}-k{k}-{valid}", b=b, n=n, k=k, valid=valid)
    for b, n, k, valid in (
        (2, 63, 5, "all"), (1, 97, 35, "holes"), (3, 257, 16, "num_nodes"), (2, 1025, 7, "holes"), (1, 4096, 3, "all"),
        (1, 4097, 17, "all"), (2, 8193, 5, "mask"), (2, 7001, 18, "holes"),
    )
]  # fmt: skip
NORM_GRID = [*ONE_TYPE, *LARGE]


class NormValues(NamedTuple):
    """The norm and its gradient."""

    norm: Tensor
    s: Tensor


def truth(inputs: NormInputs, upstream: Tensor) -> tuple[NormValues, NormValues]:
    """Values in float64 from the definition, one graph and column at a time, and their majorants.

    Of the entries that are the quantile, the first one is.
    """
    s = inputs.s.detach().double().contiguous().requires_grad_()
    flat, k = s.flatten(0, -2), s.size(-1)
    majorant = torch.zeros_like(flat)
    norms = []
    for b, rows in enumerate(inputs.nodes):
        columns, n = flat[rows], rows.numel()
        norms.append(columns.sum() * 0)
        for column, entries in enumerate(columns.unbind(1) if n else ()):
            ordered = entries.detach().sort(descending=True).values
            first = (entries.detach() == ordered[min(n // k, n - 1)]).nonzero()[0, 0]
            above = entries - entries[first]
            norms[b] = norms[b] + torch.where(above >= 0, (k - 1) * above, -above).sum()
            slopes = torch.where(above.detach() >= 0, k - 1, 1).double() * abs(float(upstream[b]))
            majorant[rows, column] = slopes
            majorant[rows[first], column] += slopes.sum()
    norm = torch.stack(norms) if norms else flat.sum(1)
    (grad,) = torch.autograd.grad(norm, s, upstream.double())
    return NormValues(norm.detach(), grad), NormValues(norm.detach(), majorant.view(s.shape))


def upstream_of(inputs: NormInputs, seed: int = 1) -> Tensor:
    """A random gradient of the norm."""
    draw = torch.Generator().manual_seed(seed)
    dtype = torch.float64 if inputs.s.dtype == torch.float64 else torch.float32
    return torch.randn(len(inputs.nodes), generator=draw).to(dtype)


def values(inputs: NormInputs, backend: str, upstream: Tensor | None = None) -> NormValues:
    """The norm and its gradient by one backend."""
    leaf = inputs.s.detach().requires_grad_()
    norm = inputs._replace(s=leaf).norm(backend)
    upstream = upstream_of(inputs) if upstream is None else upstream
    (grad,) = torch.autograd.grad(norm, leaf, upstream)
    return NormValues(norm.detach(), grad)


def check(inputs: NormInputs, backend: str) -> None:
    """Values and gradients of one call against the truth."""
    upstream = upstream_of(inputs)
    exact, scales = truth(inputs, upstream)
    dtypes = (upstream.dtype, inputs.s.dtype)
    plain = values(inputs, "reference", upstream)
    judged = (
        [(plain, exact)]
        if backend == "reference"
        else [(values(inputs, backend, upstream), plain), (plain, exact)]
    )
    for got, baselines in judged:
        for dtype, name, *tensors in zip(
            dtypes, NormValues._fields, got, exact, scales, baselines, strict=True
        ):
            value, true, scale, baseline = tensors
            assert value.dtype == dtype
            # That of a quantile that many entries share may be beyond float16: infinity of its sign is then right.
            beyond = true.abs() > torch.finfo(dtype).max
            value, baseline = (
                torch.where(beyond & t.isinf() & (t.sign() == true.sign()), true, t.double())
                for t in (value, baseline)
            )
            error = max_error(baseline, true)
            assert_error(name, value, true, scale, eps_of(upstream.dtype, dtype), inputs.s.shape[-2], error)
