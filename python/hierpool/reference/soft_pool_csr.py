"""Sparse soft pooling in plain PyTorch: the formulas of the dense reference with sums over stored entries."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.reference.soft_pool_dense import accumulation_dtype, assign, row_entropy, safe_root


class CsrForward(NamedTuple):
    """All outputs of the operator: the packed record and what its backward needs."""

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
    """Where the entries of A are, and which nodes are whose."""

    row: Tensor  # int64 [E]
    col: Tensor  # int64 [E]
    graph: Tensor  # int64 [N]: graph of each node
    sizes: Tensor  # int64 [B]: nodes of each graph

    @classmethod
    def of(cls, rowptr: Tensor, col: Tensor, ptr: Tensor) -> Structure:
        """From the arrays of a :class:`hierpool.RaggedGraph`."""
        sizes = ptr.diff()
        graphs = torch.arange(sizes.numel(), device=ptr.device)
        nodes = torch.arange(rowptr.numel() - 1, device=ptr.device)
        return cls(
            torch.repeat_interleave(nodes, rowptr.diff(), output_size=col.numel()),
            col.to(torch.int64),
            torch.repeat_interleave(graphs, sizes, output_size=nodes.numel()),
            sizes,
        )

    def per_graph(self, rows: Tensor) -> Tensor:
        """Sums of ``rows [N, ...]`` over the nodes of each graph, ``[B, ...]``."""
        return rows.new_zeros(self.sizes.numel(), *rows.shape[1:]).index_add(0, self.graph, rows)

    def products(self, left: Tensor, right: Tensor) -> Tensor:
        """``left_b^T right_b`` of each graph, ``[B, K, F]``, for ``left [N, K]`` and ``right [N, F]``."""
        sizes = self.sizes.tolist()
        parts = zip(left.split(sizes), right.split(sizes), strict=True)
        blocks = [one.t() @ other for one, other in parts]
        return torch.stack(blocks) if blocks else (left.t() @ right)[None][:0]

    def times(self, rows: Tensor, blocks: Tensor) -> Tensor:
        """``rows_b blocks_b`` of each graph, ``[N, F]``, for ``rows [N, K]`` and ``blocks [B, K, F]``."""
        parts = zip(rows.split(self.sizes.tolist()), blocks, strict=True)
        return torch.cat([rows.new_zeros(0, blocks.size(2)), *(one @ other for one, other in parts)])

    def spread(self, values: Tensor) -> Tensor:
        """``values [B, ...]`` of each node's graph, ``[N, ...]``."""
        return values[self.graph]

    def multiply(self, value: Tensor, rows: Tensor) -> Tensor:
        """``A rows``, ``[N, K]``."""
        return torch.zeros_like(rows).index_add(0, self.row, value[:, None] * rows[self.col])

    def multiply_transposed(self, value: Tensor, rows: Tensor) -> Tensor:
        """``A^T rows``, ``[N, K]``."""
        return torch.zeros_like(rows).index_add(0, self.col, value[:, None] * rows[self.row])


def _value(value: Tensor | None, structure: Structure, dtype: torch.dtype) -> Tensor:
    if value is None:
        return torch.ones(structure.col.numel(), dtype=dtype, device=structure.col.device)
    return value.to(dtype)


def mean_counts(structure: Structure, mean: bool) -> tuple[Tensor | int, Tensor | int]:
    """What the total entropy and the link norm are divided by: as a batch padded to its largest graph is."""
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
    *,
    given: bool = False,
    want_gram: bool = True,
    want_link: bool = True,
    want_entropy: bool = True,
    mean: bool = False,
) -> CsrForward:
    r"""Soft pooling of a ragged batch, differentiable any number of times by autograd.

    The sums of :func:`hierpool.reference.soft_pool_dense` over the stored entries of :math:`A`. Rows of A S are made
    entry by entry, ``[E, K]``.

    Args:
        logits: :math:`L` ``[N, K]``, or :math:`S` itself if ``given``.
        x: :math:`X` ``[N, F]``.
        value: entries of :math:`A` ``[E]``, or ``None``: all are 1.
        rowptr: first entry of each row, ``[N + 1]``.
        col: column of each entry, ``[E]``.
        ptr: first node of each graph, int64 ``[B + 1]``.
        temperature: :math:`T`, 0-d.
        given, want_gram, want_link, want_entropy: see :func:`hierpool.reference.soft_pool_dense`.
        mean: divide ``total_entropy`` by :math:`B N_{max}` and ``link_norm`` by :math:`B N_{max}^2`.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    acc = accumulation_dtype(logits, x, *(() if value is None else (value,)))
    structure = Structure.of(rowptr, col, ptr)
    s = assign(logits.to(acc), None, temperature, given).to(logits.dtype)
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
        # A difference of large sums: combined in float64 whatever the inputs are.
        trace = structure.per_graph((p * m).sum(-1, dtype=torch.float64))
        link_sq = (adj_sq - 2 * trace + gram.square().sum((-1, -2), dtype=torch.float64)).clamp(min=0)
    else:
        link_sq = torch.full_like(adj_sq, torch.nan)
    total = structure.per_graph(degree)
    scalars = torch.stack([rows, entropy, cut_degree, adj_sq.to(acc), total, link_sq.to(acc)], 1)
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


def soft_pool_csr_backward(
    grads: tuple[Tensor | None, ...],
    s: Tensor,
    gram: Tensor,
    link_norm: Tensor,
    m: Tensor,
    x: Tensor,
    value: Tensor | None,
    rowptr: Tensor,
    col: Tensor,
    ptr: Tensor,
    temperature: Tensor | None,
    *,
    given: bool,
    mean: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    r"""Gradients to logits (or S), X and the entries of A, by the formulas of
    :func:`hierpool.reference.soft_pool_dense_backward`; :math:`dA` at stored entries only.

    Args:
        grads: upstream gradients of ``(s, x, adj, gram, vectors, scalars, total_entropy, link_norm)``, ``None``
            where not given.
        s, gram, link_norm, m: outputs of :func:`soft_pool_csr`.
        needs: which of ``(logits, x, value)`` need a gradient.
    """
    ds_out, dx, dadj, dgram, dvectors, dscalars, dtotal_entropy, dlink_norm = grads
    acc = m.dtype
    structure = Structure.of(rowptr, col, ptr)
    p, a = s.to(acc), _value(value, structure, acc)
    b, k, zeros = ptr.numel() - 1, p.size(1), p.new_zeros
    dx = zeros(b, k, x.size(1)) if dx is None else dx.to(acc)
    dadj = zeros(b, k, k) if dadj is None else dadj
    dscalars = zeros(b, 6) if dscalars is None else dscalars
    dvectors = zeros(b, 2, k) if dvectors is None else dvectors
    _, dentropy, dcut, dadj_sq, dtotal, dlink = dscalars.unbind(1)  # [B]
    # d sqrt(u) = du / (2 sqrt(u)), and 0 where the norm is 0 (or was not computed)
    entropy_count, link_count = mean_counts(structure, mean)
    norm = link_norm * link_count
    if dlink_norm is not None:
        dlink = dlink + torch.where(norm > 0, dlink_norm / (2 * link_count * norm), zeros(()))
    dlink = torch.where(norm.isnan(), zeros(()), dlink)
    if dtotal_entropy is not None:
        dentropy = dentropy + dtotal_entropy / entropy_count
    degree = zeros(p.size(0)).index_add(0, structure.row, a)
    core = dadj - 2 * dlink[:, None, None] * torch.eye(k, dtype=acc, device=p.device)  # [B, K, K]

    dlogits = dfeatures = dvalue = None
    if needs[0]:
        ds = structure.times(x.to(acc), dx.transpose(1, 2)) + structure.spread(dvectors[:, 0])
        ds = ds + structure.times(m, core.transpose(1, 2))
        ds = ds + structure.times(structure.multiply_transposed(a, p), core)
        if gram.size(1):
            ds = ds + 4 * structure.times(p, dlink[:, None, None] * gram)
        if dgram is not None:
            ds = ds + structure.times(p, dgram + dgram.transpose(1, 2))
        ds = ds + degree[:, None] * structure.spread(dvectors[:, 1])
        ds = ds + 2 * (structure.spread(dcut) * degree)[:, None] * p
        ds = ds - structure.spread(dentropy)[:, None] * torch.where(p > 0, 1 + p.log(), zeros(()))
        ds = ds if ds_out is None else ds + ds_out
        if not given:
            ds = p * (ds - (p * ds).sum(-1, keepdim=True))
            ds = ds if temperature is None else ds / temperature.to(acc)
        dlogits = ds.to(s.dtype)
    if needs[1]:
        dfeatures = structure.times(p, dx).to(x.dtype)
    if needs[2] and value is not None:
        row = (p * structure.spread(dvectors[:, 1])).sum(-1) + structure.spread(dtotal)
        row = row + structure.spread(dcut) * p.square().sum(-1)
        da = (structure.times(p, core)[structure.row] * p[structure.col]).sum(-1) + row[structure.row]
        dvalue = (da + 2 * structure.spread(dadj_sq + dlink)[structure.row] * a).to(value.dtype)
    return dlogits, dfeatures, dvalue
