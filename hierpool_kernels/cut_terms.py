"""The last step of MinCut and DMoN pooling: the losses, and A' without its diagonal, normalised by its degrees."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from hierpool_kernels.core import plan
from hierpool_kernels.core.clusters import column_count, graph_clusters
from hierpool_kernels.core.launch import launch
from hierpool_kernels.core.plan import cdiv
from hierpool_kernels.core.target import Target
from hierpool_kernels.core.tensors import language_type, workspace
from hierpool_kernels.core.tiles import load_tile, slice_ptr, store_tile

SCALARS = tl.constexpr(6)  # of a graph: nodes, entropy, cut degree, |A|, total degree, link loss
PARTS = tl.constexpr(3)  # of a tile of rows: tr A', squares of the gram off its diagonal and on it
# Of a graph: |G|; |U - I / sqrt(K)| and <U, U - I / sqrt(K)> with U = G / |G|; what lies inside clusters and what
# modularity expects there, as parts of the degree; |sizes|; the weight of |sizes| in the cluster loss.
TERMS = tl.constexpr(7)


class Sums(NamedTuple):
    """What soft pooling computed; contiguous, and all of the dtype of sums."""

    adj: Tensor  # A' [B, K, K]
    gram: Tensor  # G [B, K, K]
    vectors: Tensor  # [B, 2, K]: sizes and volumes
    scalars: Tensor  # [B, 6]
    clusters: Tensor | None  # int64 [B]; None: K


class Upstream(NamedTuple):
    """Gradients of the results, of the same kind; None is zero."""

    pooled: Tensor | None  # [B, K, K]
    first: Tensor | None  # []
    ortho: Tensor | None  # []
    cluster: Tensor | None  # []


# ---- kernels --------------------------------------------------------------------------------------------------------


@triton.jit
def _quotient(numerator, denominator):
    """0 where the denominator is 0."""
    zero = denominator == 0
    return tl.where(zero, 0.0, numerator / tl.where(zero, 1.0, denominator))


@triton.jit
def _degree_of(p_scalars, MINCUT: tl.constexpr):
    """What the first loss is divided by: the cut degree, or the total degree."""
    return tl.load(p_scalars + (2 if MINCUT else 4)).to(tl.float64)


@triton.jit
def _scale_of(degree):
    """The inverse root, 0 where the degree is not positive; of NaN it is NaN."""
    none = degree <= 0
    return tl.where(none, 0.0, tl.rsqrt(tl.where(none, 1.0, degree)))


@triton.jit
def _sums_of_tile(a, gram, diagonal):
    """Of each row of a tile: the sum off the diagonal, a_ii, and the squares of the gram off the diagonal and on it."""
    square = gram * gram
    return (
        tl.sum(tl.where(diagonal, 0.0, a), 1),
        tl.sum(tl.where(diagonal, a, 0.0), 1),
        tl.sum(tl.where(diagonal, 0.0, square), 1),
        tl.sum(tl.where(diagonal, square, 0.0), 1),
    )


@triton.jit(do_not_specialize=["B"])
def _cut_terms_rows_fwd_kernel(
    adj_ptr, gram_ptr, scale_ptr, part_ptr, clusters_ptr, B, K, BK: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """scale_i = 1 / sqrt(sum over j != i of a_ij), 0 where the sum is not positive; the PARTS of BK rows.

    A', G [B, K, K]; scale [B, K]; parts [B, tiles, PARTS].
    A program for BK rows of a graph, BK columns at a time.
    Rows in ACC, their sums in float64.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_row = tl.program_id(1) * BK
    o_row = i_row + tl.arange(0, BK)
    clusters = column_count(graph_clusters(i_b, clusters_ptr, K), K)
    m_row = o_row < clusters
    degree = tl.zeros([BK], ACC)
    trace = degree
    off = degree
    on = degree
    for i_col in range(0, clusters, BK):
        o_col = i_col + tl.arange(0, BK)
        a = load_tile(slice_ptr(adj_ptr, i_b, K * K), i_row, K, i_col, m_row, o_col < clusters, BK, BK)
        gram = load_tile(slice_ptr(gram_ptr, i_b, K * K), i_row, K, i_col, m_row, o_col < clusters, BK, BK)
        more = _sums_of_tile(a, gram, o_row[:, None] == o_col[None, :])
        degree += more[0]
        trace += more[1]
        off += more[2]
        on += more[3]
    tl.store(scale_ptr + i_b * K + o_row, _scale_of(degree), mask=o_row < K)
    p_part = part_ptr + (i_b * tl.num_programs(1) + tl.program_id(1)) * PARTS
    tl.store(p_part, tl.sum(trace.to(tl.float64), 0))
    tl.store(p_part + 1, tl.sum(off.to(tl.float64), 0))
    tl.store(p_part + 2, tl.sum(on.to(tl.float64), 0))


@triton.jit
def _terms_of_graph(
    p_terms, trace, off, on, p_gram, p_vectors, p_scalars, clusters, K, BK: tl.constexpr, MINCUT: tl.constexpr
):  # fmt: skip
    """Store the TERMS of a graph, but for the last."""
    norm = tl.sqrt(off + on)
    equal = 1 / tl.sqrt(tl.full((), 1, tl.float64) * clusters)
    degree = _degree_of(p_scalars, MINCUT)
    apart = tl.zeros([BK], tl.float64)
    along = apart
    expected = apart
    lengths = apart
    for i_k in range(0, clusters, BK):
        o_k = i_k + tl.arange(0, BK)
        m_k = o_k < clusters
        unit = _quotient(tl.load(p_gram + o_k.to(tl.int64) * (K + 1), mask=m_k, other=0).to(tl.float64), norm)
        beyond = tl.where(m_k, unit - equal, 0.0)  # in place of the large difference of squares
        apart += beyond * beyond
        along += unit * beyond
        if not MINCUT:
            size = tl.load(p_vectors + o_k, mask=m_k, other=0).to(tl.float64)
            volume = _quotient(tl.load(p_vectors + K + o_k, mask=m_k, other=0).to(tl.float64), degree)
            lengths += size * size
            expected += volume * volume
    off = _quotient(_quotient(off, norm), norm)
    exists = norm != 0
    tl.store(p_terms, norm)
    tl.store(p_terms + 1, tl.where(exists, tl.sqrt(off + tl.sum(apart, 0)), 0.0))
    tl.store(p_terms + 2, tl.where(exists, off + tl.sum(along, 0), 0.0))
    tl.store(p_terms + 3, _quotient(trace, degree))
    tl.store(p_terms + 4, tl.sum(expected, 0))
    tl.store(p_terms + 5, tl.sqrt(tl.sum(lengths, 0)))


@triton.jit(do_not_specialize=["B"])
def _cut_terms_tiles_fwd_kernel(
    adj_ptr, gram_ptr, vectors_ptr, scalars_ptr, scale_ptr, part_ptr, out_ptr, terms_ptr, clusters_ptr, B, K,
    BK: tl.constexpr, ONE_TILE: tl.constexpr, MINCUT: tl.constexpr,
):  # fmt: skip
    """out_ij = scale_i a_ij scale_j off the diagonal, 0 on it; and the TERMS of each graph, but for the last.

    A', G, out [B, K, K]; vectors [B, 2, K]; scalars [B, SCALARS]; scale [B, K]; parts [B, tiles, PARTS]; terms
    [B, TERMS].
    A program for BK x BK elements of a graph; the first one also for its terms. With ONE_TILE, BK >= K, it computes the
    scales, too, and there are no parts.
    Terms in float64.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_row = tl.program_id(1) * BK
    i_col = tl.program_id(2) * BK
    o_row = i_row + tl.arange(0, BK)
    o_col = i_col + tl.arange(0, BK)
    clusters = column_count(graph_clusters(i_b, clusters_ptr, K), K)
    m_row = o_row < clusters
    m_col = o_col < clusters
    diagonal = o_row[:, None] == o_col[None, :]
    p_gram = slice_ptr(gram_ptr, i_b, K * K)
    p_scale = scale_ptr + i_b * K
    a = load_tile(slice_ptr(adj_ptr, i_b, K * K), i_row, K, i_col, m_row, m_col, BK, BK)
    trace = tl.zeros((), tl.float64)
    off = trace
    on = trace
    if ONE_TILE:
        more = _sums_of_tile(a, load_tile(p_gram, 0, K, 0, m_row, m_col, BK, BK), diagonal)
        row = _scale_of(more[0])
        col = row
        tl.store(p_scale + o_row, row, mask=o_row < K)
        trace += tl.sum(more[1].to(tl.float64), 0)
        off += tl.sum(more[2].to(tl.float64), 0)
        on += tl.sum(more[3].to(tl.float64), 0)
    else:
        row = tl.load(p_scale + o_row, mask=m_row, other=0)
        col = tl.load(p_scale + o_col, mask=m_col, other=0)
    a = tl.where(diagonal, 0.0, a * row[:, None] * col[None, :])
    store_tile(slice_ptr(out_ptr, i_b, K * K), i_row, K, i_col, o_row < K, o_col < K, a, BK, BK)
    if (i_row == 0) & (i_col == 0):
        if not ONE_TILE:
            tiles = tl.num_programs(1)
            for i_t in range(tiles):
                p_part = part_ptr + (i_b * tiles + i_t) * PARTS
                trace += tl.load(p_part)
                off += tl.load(p_part + 1)
                on += tl.load(p_part + 2)
        _terms_of_graph(
            terms_ptr + i_b * TERMS, trace, off, on, p_gram, vectors_ptr + i_b * 2 * K, scalars_ptr + i_b * SCALARS,
            clusters, K, BK, MINCUT,
        )  # fmt: skip


@triton.jit(do_not_specialize=["B"])
def _cut_terms_sums_fwd_kernel(
    scalars_ptr, terms_ptr, first_ptr, ortho_ptr, cluster_ptr, clusters_ptr, B, K,
    BB: tl.constexpr, MINCUT: tl.constexpr, CROSSED: tl.constexpr,
):  # fmt: skip
    """The losses, means over graphs, from their TERMS; the last term.

    scalars [B, SCALARS]; terms [B, TERMS].
    One program, BB graphs at a time, in their order.
    In float64.
    """
    first = tl.zeros([BB], tl.float64)
    ortho = first
    shares = first
    existing = first
    for i_b in range(0, B, BB):
        o_b = i_b + tl.arange(0, BB)
        m_b = o_b < B
        o_b = o_b.to(tl.int64)
        p_terms = terms_ptr + o_b * TERMS
        first += tl.load(p_terms + 4, mask=m_b, other=0) - tl.load(p_terms + 3, mask=m_b, other=0)
        ortho += tl.load(p_terms + 1, mask=m_b, other=0)
        nodes = tl.load(scalars_ptr + o_b * SCALARS, mask=m_b, other=0).to(tl.float64)
        shares += _quotient(1.0, nodes)
        existing += (nodes != 0).to(tl.float64)
    mean = 1 / tl.maximum(tl.full((), 1, tl.float64) * B, 1.0)
    share = tl.sum(shares, 0) * mean
    cluster = tl.zeros([BB], tl.float64)
    if not MINCUT:
        for i_b in range(0, B, BB):
            o_b = i_b + tl.arange(0, BB)
            m_b = o_b < B
            o_b = o_b.to(tl.int64)
            count = tl.zeros([BB], tl.float64) + K
            if clusters_ptr is not None:
                count = tl.minimum(tl.maximum(tl.load(clusters_ptr + o_b, mask=m_b, other=1), 1), K).to(
                    tl.float64
                )
            weight = tl.sqrt(count) * mean
            if CROSSED:
                weight *= share
            else:
                weight *= _quotient(
                    1.0, tl.load(scalars_ptr + o_b * SCALARS, mask=m_b, other=0).to(tl.float64)
                )
            cluster += weight * tl.load(terms_ptr + o_b * TERMS + 5, mask=m_b, other=0)
            tl.store(terms_ptr + o_b * TERMS + 6, weight, mask=m_b)
    total = tl.sum(cluster, 0)
    if CROSSED:
        total -= 1
    elif not MINCUT:
        total -= tl.sum(existing, 0) * mean
    element = first_ptr.dtype.element_ty
    tl.store(first_ptr, (tl.sum(first, 0) * mean).to(element))
    tl.store(ortho_ptr, (tl.sum(ortho, 0) * mean).to(element))
    tl.store(cluster_ptr, total.to(element))


@triton.jit
def _load_or_zero(ptr):
    """A scalar in float64, 0 if there is none."""
    value = tl.zeros((), tl.float64)
    if ptr is not None:
        value += tl.load(ptr)
    return value


@triton.jit(do_not_specialize=["B"])
def _cut_terms_bwd_kernel(
    dout_ptr, dfirst_ptr, dortho_ptr, dcluster_ptr, gram_ptr, vectors_ptr, scalars_ptr, out_ptr, scale_ptr, terms_ptr,
    dadj_ptr, dgram_ptr, dvectors_ptr, dscalars_ptr, clusters_ptr, B, K,
    BK: tl.constexpr, MINCUT: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """dadj_ij = scale_i scale_j dout_ij - scale_i^2 / 2 sum_l (dout_il out_il + dout_li out_li), on the diagonal the
    gradient of the trace; dG = dortho (U - I / sqrt(K) - along U) / (length |G|); dvectors and dscalars.

    Matrices [B, K, K]; vectors [B, 2, K]; scalars [B, SCALARS]; scale [B, K]; terms [B, TERMS].
    A program for BK rows of a graph, BK columns at a time, first for the sums over l. Rows and columns that are no
    clusters get 0.
    Matrices in ACC, factors of a graph in float64.
    """
    i_b = tl.program_id(0).to(tl.int64)
    i_row = tl.program_id(1) * BK
    o_row = i_row + tl.arange(0, BK)
    clusters = column_count(graph_clusters(i_b, clusters_ptr, K), K)
    m_row = o_row < clusters
    mean = 1 / tl.maximum(tl.full((), 1, tl.float64) * B, 1.0)
    p_terms = terms_ptr + i_b * TERMS
    norm = tl.load(p_terms)
    along = tl.load(p_terms + 2)
    degree = _degree_of(scalars_ptr + i_b * SCALARS, MINCUT)
    slope = _quotient(_load_or_zero(dfirst_ptr) * mean, degree)
    factor = _quotient(_load_or_zero(dortho_ptr) * mean, tl.load(p_terms + 1) * norm)
    equal = 1 / tl.sqrt(tl.full((), 1, tl.float64) * clusters)
    of_gram = _quotient(factor * (1 - along), norm).to(ACC)
    row = tl.load(scale_ptr + i_b * K + o_row, mask=m_row, other=0)
    shared = tl.zeros([BK], ACC)
    if dout_ptr is not None:
        for i_col in range(0, clusters, BK):
            m_col = i_col + tl.arange(0, BK) < clusters
            p_dout = slice_ptr(dout_ptr, i_b, K * K)
            p_out = slice_ptr(out_ptr, i_b, K * K)
            along_row = load_tile(p_dout, i_row, K, i_col, m_row, m_col, BK, BK)
            along_row *= load_tile(p_out, i_row, K, i_col, m_row, m_col, BK, BK)
            along_col = load_tile(p_dout, i_col, K, i_row, m_col, m_row, BK, BK)
            along_col *= load_tile(p_out, i_col, K, i_row, m_col, m_row, BK, BK)
            shared += tl.sum(along_row + tl.trans(along_col), 1)
        shared *= -0.5 * row * row
    for i_col in range(0, K, BK):
        o_col = i_col + tl.arange(0, BK)
        m_col = o_col < clusters
        both = m_row[:, None] & m_col[None, :]
        diagonal = o_row[:, None] == o_col[None, :]
        dadj = tl.zeros([BK, BK], ACC)
        if dout_ptr is not None:
            dout = load_tile(slice_ptr(dout_ptr, i_b, K * K), i_row, K, i_col, m_row, m_col, BK, BK)
            col = tl.load(scale_ptr + i_b * K + o_col, mask=m_col, other=0)
            dadj = dout * row[:, None] * col[None, :] + shared[:, None]
        dadj = tl.where(both, tl.where(diagonal, -slope.to(ACC), dadj), 0.0)
        store_tile(slice_ptr(dadj_ptr, i_b, K * K), i_row, K, i_col, o_row < K, o_col < K, dadj, BK, BK)
        gram = load_tile(slice_ptr(gram_ptr, i_b, K * K), i_row, K, i_col, m_row, m_col, BK, BK)
        unit = _quotient(gram.to(tl.float64), norm)
        dgram = tl.where(diagonal, (factor * (unit - equal - unit * along)).to(ACC), gram * of_gram)
        dgram = tl.where(both, dgram, 0.0)
        store_tile(slice_ptr(dgram_ptr, i_b, K * K), i_row, K, i_col, o_row < K, o_col < K, dgram, BK, BK)
    if not MINCUT:
        grow = _quotient(_load_or_zero(dcluster_ptr) * tl.load(p_terms + 6), tl.load(p_terms + 5))
        p_vectors = vectors_ptr + i_b * 2 * K + o_row
        p_dvectors = dvectors_ptr + i_b * 2 * K + o_row
        dsize = grow * tl.load(p_vectors, mask=m_row, other=0)
        dvolume = 2 * slope * _quotient(tl.load(p_vectors + K, mask=m_row, other=0).to(tl.float64), degree)
        tl.store(p_dvectors, dsize.to(ACC), mask=o_row < K)
        tl.store(p_dvectors + K, dvolume.to(ACC), mask=o_row < K)
    if i_row == 0:
        o_s = tl.arange(0, 8)
        here = slope * (tl.load(p_terms + 3) - 2 * tl.load(p_terms + 4))
        dscalars = tl.where(o_s == (2 if MINCUT else 4), here, 0.0).to(ACC)
        tl.store(dscalars_ptr + i_b * SCALARS + o_s, dscalars, mask=o_s < SCALARS)


# ---- launchers ------------------------------------------------------------------------------------------------------


def launch_cut_terms_fwd(
    sums: Sums, mincut: bool, crossed: bool, target: Target
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """The normalised matrix and the three losses; scales and terms for the backward.

    Three launches, or two if K is no more than a tile.
    """
    adj, gram, vectors, scalars, clusters = sums
    b, k, _ = adj.shape
    side = plan.blocks(k, target)
    tiles = cdiv(k, side)
    out, first, ortho, cluster = adj.new_empty(adj.shape), *(adj.new_empty(()) for _ in range(3))
    doubles = b * TERMS.value, b * tiles * PARTS.value
    scale, terms, part = workspace(adj, adj.dtype, b * k, doubles=doubles)
    if tiles > 1:
        launch(
            _cut_terms_rows_fwd_kernel, (b, tiles), adj, gram, scale, part, clusters, b, k,
            BK=side, ACC=language_type(adj.dtype), num_warps=4,
        )  # fmt: skip
    launch(
        _cut_terms_tiles_fwd_kernel, (b, tiles, tiles),
        adj, gram, vectors, scalars, scale, part, out, terms, clusters, b, k,
        BK=side, ONE_TILE=tiles == 1, MINCUT=mincut, num_warps=4,
    )  # fmt: skip
    launch(
        _cut_terms_sums_fwd_kernel, (1,), scalars, terms, first, ortho, cluster, clusters, b, k,
        BB=plan.graphs(target), MINCUT=mincut, CROSSED=crossed, num_warps=4,
    )  # fmt: skip
    return out, first, ortho, cluster, (scale, terms)


def launch_cut_terms_bwd(
    grads: Upstream, sums: Sums, out: Tensor, saved: tuple[Tensor, Tensor], mincut: bool, target: Target
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Gradients of A', the gram, the vectors (``None`` of MinCut, which does not read them) and the scalars.

    One launch.
    """
    adj, gram, vectors, scalars, clusters = sums
    b, k, _ = adj.shape
    side = plan.blocks(k, target)
    dadj, dgram, dscalars = (t.new_empty(t.shape) for t in (adj, gram, scalars))
    dvectors = None if mincut else vectors.new_empty(vectors.shape)
    launch(
        _cut_terms_bwd_kernel, (b, cdiv(k, side)),
        *grads, gram, vectors, scalars, out, *saved, dadj, dgram, dvectors, dscalars, clusters, b, k,
        BK=side, MINCUT=mincut, ACC=language_type(adj.dtype), num_warps=4,
    )  # fmt: skip
    return dadj, dgram, dvectors, dscalars
