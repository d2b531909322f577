"""The calls of operators that are compiled: they cover every kernel, every tile of ``plan`` and every dtype.

Soft pooling with a dense A: K of each tile width and beyond the widest, times each precision of products (float32 as
IEEE, TF32 and three TF32 products, bfloat16), with the options that need most registers: a mask, A not symmetric,
gradients of all outputs. Then each option once: float16; mixed dtypes of logits, features and A; sizes, or no padding;
several edge types; K, F and N that are not multiples of 16; A symmetric, or a transposed view; S given; a temperature;
the outputs of DiffPool only; strides of more than 31 bits. Graphs with numbers of clusters of their own: K of some tile
widths, and some options, with a dense A and with a sparse one, and the balance term.
The same for graphs that are small enough for one program each, and options.
With a sparse A: some of these, with and without values, 32- and 64-bit indices, with and without long rows. Products
with a sparse A; the cross-entropy link loss and the total variation of both layouts; the balance term for graphs of
each tile size, for larger ones, and for both layouts.
Combinations of options with each other and with all widths are left out. Batches are small: the number of rows bounds
loops, but needs no registers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from hierpool_kernels import link_bce
from hierpool_kernels.asymmetric_norm import launch_asymmetric_norm_bwd, launch_asymmetric_norm_fwd
from hierpool_kernels.core.adjacency import Csr, Dense
from hierpool_kernels.core.launch import Call, watch
from hierpool_kernels.core.plan import wide_mask
from hierpool_kernels.core.rows import Rows
from hierpool_kernels.core.target import KNOWN, Target
from hierpool_kernels.cut_terms import Sums, launch_cut_terms_bwd, launch_cut_terms_fwd
from hierpool_kernels.cut_terms import Upstream as CutUpstream
from hierpool_kernels.edge_distances import launch_edge_distances, launch_signed_sums
from hierpool_kernels.soft_pool import Options, Saved, Upstream
from hierpool_kernels.soft_pool_bwd import launch_soft_pool_bwd
from hierpool_kernels.soft_pool_fwd import launch_soft_pool_fwd
from hierpool_kernels.spmm import launch_sampled_product, launch_spmm
from hierpool_kernels.total_variation import (
    launch_total_variation_bwd,
    launch_total_variation_fwd,
)

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "uint8": torch.uint8,
    "bool": torch.bool,
    "int32": torch.int32,
    "int64": torch.int64,
}
DIFFPOOL = ("x", "adj", "total_entropy", "link_norm")  # the outputs that DiffPool and its losses need


@dataclass(frozen=True)
class Case:
    """One call of an operator, forward and backward.

    Attributes:
        op: ``"pool"``, ``"cut"`` (the last step of MinCut and DMoN), ``"link"`` (cross-entropy link loss),
            ``"variation"`` (total variation, and distances at the entries of a sparse A), ``"norm"`` (balance term) or
            ``"spmm"``.
        layout: ``"dense"``, a padded batch, or ``"csr"``, a ragged batch.
        s: dtype of logits, of S, or of the matrix that A is multiplied by.
        x: dtype of the features.
        a: dtype of the entries of A, ``"none"`` if they are all 1.
        fp32: precision of float32 products.
        k, f, types: K, F, R.
        n, b: rows of a padded graph, or of a whole ragged batch; number of graphs.
        rows: ``"all"``, ``"sizes"`` or ``"mask"`` of a padded batch.
        clusters: each graph has a number of clusters of its own.
        entries: number of entries of a sparse A.
        index: bits of the indices of a sparse A.
        symmetric, given, temperature: as in the operators.
        transposed: A is a transposed view.
        diffpool: only the outputs of DiffPool have gradients.
        edges: A has a gradient.
    """

    op: str
    layout: str
    s: str = "fp32"
    x: str = "fp32"
    a: str = "fp32"
    fp32: str = "ieee"
    k: int = 64
    f: int = 64
    types: int = 1
    n: int = 128
    b: int = 4
    rows: str = "all"
    clusters: bool = False
    entries: int = 4096
    index: int = 64
    symmetric: bool = False
    given: bool = False
    temperature: bool = False
    transposed: bool = False
    diffpool: bool = False
    edges: bool = False

    @property
    def name(self) -> str:
        """The fields that differ from their default."""
        words = [self.op, self.layout]
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            if value != field.default:
                words.append(field.name if value is True else f"{field.name}={value}")
        return " ".join(words)

    def tensor(self, dtype: str, *shape: int) -> Tensor:
        """A tensor without memory, aligned as if allocated."""
        return torch.empty(shape, dtype=DTYPES[dtype], device="meta")

    def csr(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Compressed rows of A."""
        rowptr, col = (self.tensor(f"int{self.index}", size) for size in (self.n + 1, self.entries))
        return rowptr, col, None if self.a == "none" else self.tensor(self.a, self.entries)

    def graph_rows(self, target: Target) -> Rows:
        clusters = self.tensor("int64", self.b) if self.clusters else None
        if self.layout == "csr":
            return Rows.ragged(self.tensor("int64", self.b + 1), self.n, clusters)
        mask = self.tensor("bool", self.b, self.n) if self.rows == "mask" else None
        sizes = self.tensor("int64", self.b) if self.rows == "sizes" else None
        wide = self.op in ("pool", "link") and wide_mask(target)
        return Rows.padded(self.b, self.n, mask, sizes, clusters, wide)

    def nodes(self, dtype: str, width: int) -> Tensor:
        lead = (self.n,) if self.layout == "csr" else (self.b, self.n)
        return self.tensor(dtype, *lead, width)

    def adjacency(self) -> Dense | Csr:
        """A, with its transpose where a sparse one is not symmetric."""
        if self.layout == "csr":
            return Csr(*self.csr(), *(() if self.symmetric else self.csr()))
        types = (self.types,) if self.op == "pool" else ()
        a = self.tensor(self.a, self.b, *types, self.n, self.n)
        return Dense(a.mT if self.transposed else a)


def _pool(case: Case, target: Target) -> None:
    logits, x, edges = case.nodes(case.s, case.k), case.nodes(case.x, case.f), case.adjacency()
    rows, temperature = case.graph_rows(target), case.tensor("fp32") if case.temperature else None
    options = Options(gram=True, link=True, entropy=True, mean=True, save=True)
    inputs = (logits, x, edges, rows, temperature, case.given, case.symmetric)
    out = launch_soft_pool_fwd(*inputs, options, target)
    if case.diffpool:  # and the forward of a call without gradients
        launch_soft_pool_fwd(*inputs, options._replace(save=False), target)
    given = DIFFPOOL if case.diffpool else Upstream._fields
    upstream = Upstream(
        *(
            torch.empty_like(t) if name in given else None
            for name, t in zip(Upstream._fields, out, strict=False)
        )
    )
    saved, needs = Saved(out.s, out.gram, out.scalars, out.link_norm, out.m), (True, True, case.edges)
    launch_soft_pool_bwd(upstream, saved, *inputs[1:], True, needs, target)


def _cut(case: Case, target: Target) -> None:
    """MinCut, or DMoN of graphs with numbers of clusters of their own, crossed or with `diffpool` not."""
    b, k, dtype = case.b, case.k, case.s
    adj, gram = (case.tensor(dtype, b, k, k) for _ in range(2))
    clusters = case.tensor("int64", b) if case.clusters else None
    sums = Sums(adj, gram, case.tensor(dtype, b, 2, k), case.tensor(dtype, b, 6), clusters)
    mincut = not case.clusters
    out, *losses, saved = launch_cut_terms_fwd(sums, mincut, not mincut and not case.diffpool, target)
    launch_cut_terms_bwd(CutUpstream(out, *losses), sums, out, saved, mincut, target)


def _link(case: Case, target: Target) -> None:
    s, edges, rows = case.nodes(case.s, case.k), case.adjacency(), case.graph_rows(target)
    loss = link_bce.launch_link_bce_fwd(s, edges, rows, 1e-7, "numel", case.symmetric, target)
    link_bce.launch_link_bce_bwd(
        torch.empty_like(loss), s, edges, rows, 1e-7, "numel", case.symmetric, (True, case.edges), target
    )


def _variation(case: Case, target: Target) -> None:
    s, edges, rows = case.nodes(case.s, case.k), case.adjacency(), case.graph_rows(target)
    variation, _ = launch_total_variation_fwd(s, edges, rows, target)
    launch_total_variation_bwd(torch.empty_like(variation), s, edges, rows, (True, case.edges), target)
    if isinstance(edges, Csr) and case.edges:
        launch_edge_distances(edges.rowptr, edges.col, s, torch.float32, s.dtype, target)
        launch_signed_sums(edges, s, torch.float32, target)


def _spmm(case: Case, target: Target) -> None:
    edges, x = case.csr(), case.nodes(case.s, case.k)
    launch_spmm(*edges, x, torch.float32, x.dtype, target)
    if case.edges:
        launch_sampled_product(*edges[:2], x, x, torch.float32, x.dtype, target)


def _norm(case: Case, target: Target) -> None:
    s, rows = case.nodes(case.s, case.k), case.graph_rows(target)
    norm, quantile, row, slope = launch_asymmetric_norm_fwd(s, rows, target)
    launch_asymmetric_norm_bwd(norm, s, quantile, row, slope, rows, target)


_RUN: dict[str, Callable[[Case, Target], None]] = {
    "pool": _pool,
    "cut": _cut,
    "link": _link,
    "variation": _variation,
    "norm": _norm,
    "spmm": _spmm,
}


def calls(case: Case, target: str) -> list[Call]:
    """The launches of a case on one of the :data:`~hierpool_kernels.core.target.KNOWN` architectures; none is run."""
    with watch(run=False) as found:
        _RUN[case.op](case, Target(KNOWN[target], case.fp32))
    return found


def _of_types(*modes: str) -> list[dict[str, Any]]:
    """Fields of cases for modes such as ``fp32/tf32``: the dtype of all matrices, and the precision of products."""
    split = (mode.split("/") for mode in modes)
    return [{"s": dtype, "x": dtype, "a": dtype, "fp32": precision} for dtype, precision in split]


def _grid(base: Case, widths: tuple[int, ...], *modes: str) -> list[Case]:
    return [replace(base, k=k, **mode) for k, mode in product(widths, _of_types(*modes))]


_FP32 = ("fp32/ieee", "fp32/tf32", "fp32/tf32x3")
_BF16, _FP16 = "bf16/ieee", "fp16/ieee"
_DENSE = Case("pool", "dense", n=512, rows="mask", edges=True)
_CSR = Case("pool", "csr", n=512, edges=True)
_SMALL = Case("pool", "dense", rows="mask")
_SMALL_CSR = Case("pool", "csr")
_OWN = replace(_DENSE, clusters=True)
_OWN_CSR = replace(_CSR, clusters=True)
_SPMM = Case("spmm", "csr", edges=True)
_LINK = Case("link", "dense", rows="mask", edges=True)
_LINK_CSR = Case("link", "csr", edges=True)
_VARIATION = Case("variation", "dense", rows="mask", edges=True)
_VARIATION_CSR = Case("variation", "csr", edges=True)
_NORM = Case("norm", "dense", rows="mask", k=16)
_NORM_CSR = Case("norm", "csr", k=16)
_HALF: dict[str, Any] = {"s": "bf16", "x": "bf16", "a": "bf16"}

CASES = (
    *_grid(_DENSE, (64,), *_FP32, _BF16, "bf16/tf32", _FP16),
    *_grid(replace(_DENSE, edges=False), (8, 128, 256, 1500), *_FP32, _BF16),
    replace(_DENSE, **_HALF, k=1500),
    *_grid(replace(_DENSE, diffpool=True, edges=False), (16, 20, 32, 50), "fp32/ieee", "fp32/tf32x3"),
    *_grid(replace(_DENSE, diffpool=True, edges=False), (100, 200, 500), "fp32/ieee"),
    *_grid(replace(_DENSE, diffpool=True, edges=False), (16, 20, 50, 100), "fp32/tf32", _BF16),
    replace(_DENSE, k=20, f=7, n=100, types=3, rows="sizes"),
    replace(_DENSE, fp32="tf32", k=32, f=128, rows="sizes", symmetric=True, diffpool=True, edges=False),
    replace(_DENSE, fp32="tf32x3", k=32, f=128, rows="all", symmetric=True, diffpool=True, edges=False),
    replace(_DENSE, **_HALF, k=32, types=3, edges=False),
    replace(_DENSE, **_HALF, k=128, f=128, rows="all", symmetric=True, diffpool=True, edges=False),
    replace(_DENSE, fp32="tf32", given=True, edges=False),
    replace(_DENSE, a="uint8", k=1024, temperature=True, diffpool=True, edges=False),
    replace(_DENSE, s="bf16"),
    replace(_DENSE, s="bf16", fp32="tf32", a="uint8", diffpool=True, edges=False),
    replace(_DENSE, fp32="tf32", a="bf16"),
    *(replace(_DENSE, a="bf16", k=k, diffpool=True, edges=False) for k in (20, 64)),
    replace(_DENSE, **_HALF, transposed=True),
    replace(_DENSE, fp32="tf32", n=1 << 16, b=1),
    *_grid(_CSR, (64,), "fp32/ieee", _BF16),
    replace(_CSR, fp32="tf32", k=12),
    *_grid(replace(_CSR, diffpool=True, edges=False), (32, 33), "fp32/ieee"),
    replace(_CSR, **_HALF, k=128),
    replace(_CSR, fp32="tf32", k=1500),
    replace(_CSR, fp32="tf32", k=512, f=128, a="none", symmetric=True, diffpool=True, index=32, edges=False),
    replace(_CSR, s="bf16", x="bf16", a="none", entries=200, symmetric=True),
    replace(_CSR, s="bf16", index=32),
    replace(_CSR, k=20, f=7, given=True, entries=200),
    replace(_CSR, fp32="tf32", a="none", entries=1 << 32, diffpool=True),
    *_grid(_OWN, (64,), *_FP32, _BF16),
    *_grid(replace(_OWN, edges=False), (128, 256, 1500), "fp32/tf32", _BF16),
    replace(_OWN, k=20, f=7, n=100, types=3, rows="sizes"),
    replace(_OWN, k=256, given=True, symmetric=True, diffpool=True, edges=False),
    *_grid(_OWN_CSR, (64,), "fp32/ieee", _BF16),
    replace(_OWN_CSR, fp32="tf32", k=12),
    replace(_OWN_CSR, fp32="tf32", k=1500),
    replace(_OWN_CSR, a="none", k=33, index=32, entries=200, symmetric=True, diffpool=True, edges=False),
    *_grid(_SMALL, (20, 32), "fp32/ieee", "fp32/tf32", _BF16, "bf16/tf32", "fp16/tf32"),
    replace(_SMALL, a="uint8", n=126, k=31),
    replace(_SMALL, k=16, rows="sizes", diffpool=True),
    replace(_SMALL, k=32, rows="all", symmetric=True, diffpool=True),
    replace(_SMALL, **_HALF, k=32, given=True),
    replace(_SMALL, k=32, clusters=True, temperature=True),
    *_grid(_SMALL_CSR, (20, 32), "fp32/ieee", _BF16),
    replace(_SMALL_CSR, a="none", k=32, index=32, symmetric=True, diffpool=True),
    replace(_SMALL_CSR, k=31, clusters=True),
    *(Case("cut", "dense", k=k) for k in (8, 20, 64)),
    *(Case("cut", "dense", k=k, clusters=True) for k in (20, 64)),
    Case("cut", "dense", clusters=True, diffpool=True),
    replace(_SPMM, k=8),
    replace(_SPMM, k=32),
    replace(_SPMM, k=33),
    replace(_SPMM, **_HALF, k=1500),
    replace(_SPMM, s="bf16", entries=200),
    replace(_SPMM, a="none", index=32, entries=200),
    *_grid(_LINK, (64, 1500), "fp32/ieee", _BF16),
    replace(_LINK, **_HALF, k=8),
    replace(_LINK, **_HALF, k=128),
    replace(_LINK, fp32="tf32", k=32, rows="sizes", symmetric=True, a="uint8", edges=False),
    *_grid(_LINK_CSR, (64,), "fp32/ieee", _BF16),
    replace(_LINK_CSR, fp32="tf32", k=1500),
    replace(_LINK_CSR, a="none", k=8, index=32, symmetric=True),
    *_grid(_VARIATION, (2, 8, 16, 20, 32, 1500), "fp32/ieee", _BF16),
    replace(_VARIATION, s="bf16", a="uint8", k=20, n=100, rows="sizes", edges=False),
    replace(_VARIATION, transposed=True, k=16, rows="all"),
    *_grid(_VARIATION_CSR, (8, 16, 20, 32, 33, 64, 1500), "fp32/ieee", _BF16),
    replace(_VARIATION_CSR, a="none", k=16, index=32, entries=200, symmetric=True),
    replace(_VARIATION_CSR, s="bf16", k=16, index=32, entries=1 << 32, edges=False),
    *(replace(_NORM, n=n, s=s) for n, s in product((16, 64, 256, 1024, 4096), ("fp32", "bf16"))),
    *(replace(_NORM, n=n, k=k) for n, k in product((256, 1024, 4096), (1, 5, 8, 20, 1500))),
    replace(_NORM, s="fp16", n=1024, rows="sizes"),
    replace(_NORM, s="fp16", n=1 << 20, b=1, rows="all"),
    replace(_NORM_CSR, n=512),
    *(replace(_NORM_CSR, n=n, b=100, s=s) for n, s in product((2000, 20_000, 200_000), ("fp32", "bf16"))),
    *(replace(_NORM_CSR, n=n, b=100, k=k) for n, k in product((20_000, 50_000, 200_000), (1, 5, 20))),
    replace(_NORM_CSR, n=1 << 20, b=1),
    *(replace(_NORM, n=n, k=k, clusters=True) for n, k in ((256, 16), (1024, 20), (4096, 16), (4096, 1500))),
    *(
        replace(_NORM_CSR, n=n, b=100, k=k, clusters=True)
        for n, k in ((2000, 16), (20_000, 20), (200_000, 5))
    ),
)


def cases_of(target: str) -> tuple[Case, ...]:
    """The cases of an architecture. gfx942 has no TF32, so that there is one precision of float32 products. Its kernels
    only have to compile, which does not depend on K beyond the widest tile."""
    if KNOWN[target].family == "cuda":
        return CASES
    return tuple(case for case in CASES if case.fp32 == "ieee" and case.k <= 128)
