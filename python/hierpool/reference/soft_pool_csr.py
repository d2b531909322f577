"""Sparse soft pooling in plain PyTorch: the formulas of dense soft pooling with sums over stored entries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, existing_clusters, ranges_of
from hierpool.reference.soft_pool_dense import SumOptions, assign, row_entropy, safe_root


class CsrForward(NamedTuple):
    """The packed record, and A S."""

    s: Tensor  # [N, K]
    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K]
    gram: Tensor  # [B, K, K], or [B, 0, 0] if not wanted
    vectors: Tensor  # [B, 2, K]
    scalars: Tensor  # [B, 6]
    total_entropy: Tensor  # []
    link_norm: Tensor  # []
    m: Tensor  # [N, K]  A S


class Structure(NamedTuple):
    """The positions of the entries of A, and the graphs of the nodes."""

    row: Tensor  # int64 [E]
    col: Tensor  # int64 [E]
    graph: Tensor  # int64 [N]: graph of each node
    sizes: Tensor  # int64 [B]: number of nodes of each graph

    @classmethod
    def of(cls, rowptr: Tensor, col: Tensor, ptr: Tensor) -> Structure:
        """From the arrays of a :class:`hierpool.RaggedGraph`."""
        row = ranges_of(rowptr, col.numel()).to(torch.int64)
        return cls(row, col.to(torch.int64), ranges_of(ptr, rowptr.numel() - 1), ptr.diff())

    def per_graph(self, rows: Tensor) -> Tensor:
        """Sums of ``rows [N, ...]`` over the nodes of each graph, ``[B, ...]``."""
        return rows.new_zeros(self.sizes.numel(), *rows.shape[1:]).index_add(0, self.graph, rows)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """``left_b^T right_b`` of each graph, ``[B, K, F]``, for ``left [N, K]`` and ``right [N, F]``."""
        # Exporters cannot read the sizes.
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined]
            return self.per_graph(left[:, :, None] * right[:, None, :])
        sizes = self.sizes.tolist()
        parts = zip(left.split(sizes), right.split(sizes), strict=True)
        blocks = [one.t() @ other for one, other in parts]
        return torch.stack(blocks) if blocks else (left.t() @ right)[None][:0]

    def multiply(self, value: Tensor, rows: Tensor) -> Tensor:
        """``A rows``, ``[N, K]``."""
        return torch.zeros_like(rows).index_add(0, self.row, value[:, None] * rows[self.col])


def _value(value: Tensor | None, structure: Structure, dtype: torch.dtype) -> Tensor:
    if value is None:
        return torch.ones(structure.col.numel(), dtype=dtype, device=structure.col.device)
    return value.to(dtype)


def mean_counts(structure: Structure, mean: bool) -> tuple[Tensor | int, Tensor | int]:
    """The divisors of the total entropy and the link norm, as for a batch padded to its largest graph."""
    if not mean:
        return 1, 1
    sizes = structure.sizes
    largest = sizes.max() if sizes.numel() else sizes.new_zeros(())
    rows = (sizes.numel() * largest).clamp(min=1)
    return rows, rows * largest.clamp(min=1)


def soft_pool_csr(
    logits: Tensor,
    x: Tensor,
    value: Tensor | None,
    rowptr: Tensor,
    col: Tensor,
    ptr: Tensor,
    temperature: Tensor | None = None,
    num_clusters: Tensor | None = None,
    **options: bool,
) -> CsrForward:
    r"""Soft pooling of a ragged batch, differentiable any number of times by autograd.

    It computes the sums of :func:`hierpool.reference.soft_pool_dense` over the stored entries of :math:`A`, with a
    temporary ``[E, K]``. The link loss is a difference of sums in float64: where :math:`|A - S S^T|` is below
    :math:`10^{-7} |A|`, it has no correct digit.

    Args:
        logits: :math:`L` ``[N, K]``, or :math:`S` itself with ``given=True``.
        x: :math:`X` ``[N, F]``.
        value: entries of :math:`A` ``[E]``, or ``None``: all are 1.
        rowptr: first entry of each row, ``[N + 1]``.
        col: column of each entry, ``[E]``.
        ptr: first node of each graph, int64 ``[B + 1]``.
        temperature: :math:`T`, 0-d.
        num_clusters: int64 ``[B]``: the first ``num_clusters[b]`` columns are the clusters of graph ``b``.
        options: fields of :class:`hierpool.reference.SumOptions`.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    given, want_gram, want_link, want_entropy, mean = SumOptions(**options)
    acc = accumulation_dtype(logits, x, value)
    structure = Structure.of(rowptr, col, ptr)
    exists = None
    if num_clusters is not None:
        exists = existing_clusters(num_clusters, logits.size(-1))[structure.graph]
    s = assign(logits.to(acc), None, exists, temperature, given).to(logits.dtype)
    p, a = s.to(acc), _value(value, structure, acc)
    m = structure.multiply(a, p)
    degree = a.new_zeros(p.size(0)).index_add(0, structure.row, a)
    gram = structure.products(p, p) if want_gram else p.new_empty(ptr.numel() - 1, 0, 0)
    vectors = torch.stack([structure.per_graph(p), structure.per_graph(p * degree[:, None])], 1)

    rows = structure.sizes.to(acc)
    entropy = structure.per_graph(row_entropy(p)) if want_entropy else torch.full_like(rows, torch.nan)
    cut_degree = structure.per_graph(degree * p.square().sum(-1))
    square = torch.zeros(p.size(0), dtype=torch.float64, device=p.device)
    adj_sq = structure.per_graph(square.index_add(0, structure.row, a.double().square()))
    if want_link:
        # A difference of large sums, so it is computed in float64 for all dtypes, from the products on.
        wide = p.double()
        trace = structure.per_graph((wide * structure.multiply(a.double(), wide)).sum(-1))
        gram_sq = structure.products(wide, wide).square().sum((-1, -2))
        link_sq = (adj_sq - 2 * trace + gram_sq).clamp(min=0)
    else:
        link_sq = torch.full_like(adj_sq, torch.nan)
    total = structure.per_graph(degree)
    adj_norm, link = (safe_root(square).to(acc) for square in (adj_sq, link_sq))
    scalars = torch.stack([rows, entropy, cut_degree, adj_norm, total, link], 1)
    entropy_count, link_count = mean_counts(structure, mean)
    return CsrForward(
        s,
        structure.products(p, x.to(acc)).to(x.dtype),
        structure.products(p, m),
        gram,
        vectors,
        scalars,
        entropy.sum() / entropy_count,
        (safe_root(link_sq.sum()) / link_count).to(acc),
        m,
    )
