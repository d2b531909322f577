"""Pooling functions in the style of PyTorch Geometric, for padded batches and for sparse graphs."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool.connect import SparsePooled, check_drop, sparse_pooled
from hierpool.distributed import ShardedGraph
from hierpool.distributed.graph import sizes_of
from hierpool.graph import RaggedGraph
from hierpool.ops._checks import FLOATS, as_batch, check_choice, check_dense, check_tensor, viewed_mask
from hierpool.ops._shared import as_one_batch, graph_of
from hierpool.ops.cut_pool import cut_pool
from hierpool.ops.cut_terms import Kind
from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import OPERATOR as SOFT_POOL
from hierpool.ops.soft_pool import pool_fields, pooling_call

NORMALIZATIONS = ("pyg", "valid", None)


class _Shared(NamedTuple):
    """What PyTorch Geometric returns for arguments of which some have one graph, which all graphs share."""

    columns: tuple[int, int] | None  # B and F: the features of all graphs are columns of one graph
    has_one_x: bool  # the pooled features are those of one graph
    link_scale: int  # the link loss is divided by the number of elements of adj before its expansion

    def pooled(self, x: Tensor) -> Tensor:
        """The pooled features of what the operator returns."""
        if self.columns is not None:
            return x.view(x.size(1), *self.columns).transpose(0, 1)
        return x[:1] if self.has_one_x else x


def _batch(
    x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None, num_clusters: int | Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, _Shared | None]:
    """The arguments with a batch dimension, and what is shared."""
    if isinstance(x, Tensor) and isinstance(adj, Tensor) and isinstance(s, Tensor) and not s.is_nested:
        b, n, *k = s.shape if s.dim() == 3 else (0, 0)
        batches = k and x.dim() == adj.dim() == 3 and x.size(0) == b == adj.size(0)
        fits = mask is None or (isinstance(mask, Tensor) and not mask.is_nested and mask.shape == (b, n))
        if batches and fits:
            return x, adj, s, mask, None  # what most callers give; the rest is checked with the operator
    x, adj, s = as_batch("x", x), as_batch("adj", adj), as_batch("s", s)
    if adj.dim() != 3:
        raise ValueError(f"adj must have shape [B, N, N] or [N, N], got {tuple(adj.shape)}")
    if s.dim() != 3:
        raise ValueError(f"s must have shape [B, N, K] or [N, K], got {tuple(s.shape)}")
    b, n, _ = s.shape
    if x.dim() == 3 and x.size(0) == b == adj.size(0):
        return x, adj, s, viewed_mask(mask, b, n), None
    b = check_dense(x, adj, s, None, None)[0].size(0)
    mask = viewed_mask(mask, b, n)
    has_one_count = not isinstance(num_clusters, Tensor) or num_clusters.numel() == 1
    has_one_s = s.size(0) == 1 and (mask is None or mask.size(0) == 1) and has_one_count
    if has_one_s and adj.size(0) == 1:  # A and S are the same for all features
        f = x.size(2)
        return x.transpose(0, 1).reshape(1, n, b * f), adj, s, mask, _Shared((b, f), False, 1)
    shared = _Shared(None, has_one_s and x.size(0) == 1, b if adj.size(0) == 1 else 1)
    return *as_one_batch(x, adj, s, mask), shared


def dense_diff_pool(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    normalize: bool = True,
    *,
    num_clusters: int | Tensor | None = None,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""DiffPool with the signature and the values of ``torch_geometric.nn.dense_diff_pool``.

    .. math::
        X' = S^T X, \quad A' = S^T A S, \quad
        L_{LP} = \frac{\| A - S S^T \|_F}{B N^2}, \quad
        L_E = \frac{1}{B N} \sum_{i} H(s_i), \qquad S = m \odot \mathrm{softmax}(s)

    The norm is taken over the whole batch, and both denominators include padding, as in PyG. An argument with one graph
    is shared by all graphs, as in PyG: it is not copied, a result that depends on nothing else has one graph as well,
    and a shared ``adj`` has :math:`N^2` elements.

    Args:
        x: node features, ``[B, N, F]`` or ``[N, F]``.
        adj: adjacency, ``[B, N, N]`` or ``[N, N]``.
        s: assignment logits, ``[B, N, K]`` or ``[N, K]``.
        mask: valid nodes, any shape that can be viewed as ``[B, N]`` or ``[N]``; non-zero means valid.
        normalize: divide the link loss by ``adj.numel()``.
        num_clusters: number of clusters of each graph, ``[B]`` or an int; see :func:`hierpool.soft_pool`.
        symmetric: whether every ``adj`` equals its transpose; ``None``: it is determined exactly.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, link_loss, ent_loss)`` of shapes ``[B, K, F]``, ``[B, K, K]``, ``[]``, ``[]``, in the dtypes of
        ``x`` and ``s``. There are two differences to PyG: entries of ``adj`` in padded rows or columns are ignored,
        and the entropy is finite in float16.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    x, adj, s, mask, shared = _batch(x, adj, s, mask, num_clusters)
    call = pooling_call(
        x,
        adj,
        s,
        mask,
        num_clusters=num_clusters,
        symmetric=symmetric,
        mean=bool(normalize),
        backend=backend,
    )
    out, out_adj, ent_loss, link_loss = SOFT_POOL(call, _POOLED)
    if not normalize:  # only the link loss is affected in PyG
        ent_loss = ent_loss / max(s.size(0) * s.size(1), 1)
    if shared is not None:
        out, link_loss = shared.pooled(out), link_loss * (shared.link_scale if normalize else 1)
    dtype = s.dtype
    if out_adj.dtype is dtype is x.dtype:  # a conversion to the same dtype takes time as well
        return out, out_adj, link_loss, ent_loss
    loss_dtype = torch.promote_types(x.dtype, dtype)
    return out, out_adj.to(dtype), link_loss.to(loss_dtype), ent_loss.to(loss_dtype)


def dense_mincut_pool(
    x: Tensor,
    adj: Tensor,
    s: Tensor,
    mask: Tensor | None = None,
    temp: float = 1.0,
    *,
    num_clusters: int | Tensor | None = None,
    symmetric: bool | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""MinCut pooling with the signature and the values of ``torch_geometric.nn.dense_mincut_pool``.

    .. math::
        X' = S^T X, \quad A' = \hat D^{-1/2} \hat A \hat D^{-1/2}, \quad
        L_c = -\frac{1}{B} \sum_b \frac{\mathrm{tr}(S^T A S)}{\mathrm{tr}(S^T D S)}, \quad
        L_o = \frac{1}{B} \sum_b \Bigl\| \frac{S^T S}{\|S^T S\|_F} - \frac{I_K}{\sqrt K} \Bigr\|_F

    with :math:`S = m \odot \mathrm{softmax}(s / T)`, :math:`D` the row sums of :math:`A`, :math:`\hat A` the matrix
    :math:`S^T A S` without its diagonal, and :math:`\hat D` the row sums of :math:`\hat A`. No temporary of ``N x N``
    elements is allocated. An argument with one graph is shared by all graphs, as in PyG: it is not copied, and a result
    that depends on nothing else has one graph as well.

    Args:
        x: node features, ``[B, N, F]`` or ``[N, F]``.
        adj: adjacency, ``[B, N, N]`` or ``[N, N]``.
        s: assignment logits, ``[B, N, K]`` or ``[N, K]``.
        mask: valid nodes, any shape that can be viewed as ``[B, N]`` or ``[N]``; non-zero means valid.
        temp: :math:`T`, positive.
        num_clusters: number of clusters of each graph, ``[B]`` or an int; see :func:`hierpool.soft_pool`.
        symmetric: whether every ``adj`` equals its transpose; ``None``: it is determined exactly.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, mincut_loss, ortho_loss)`` of shapes ``[B, K, F]``, ``[B, K, K]``, ``[]``, ``[]``, in the dtypes of
        ``x`` and ``s``. There are four differences to PyG: a graph without edges adds 0 to the first loss, a graph
        without nodes adds 0 to both losses, a cluster of degree 0 has row and column 0 in ``adj``, all with gradient 0,
        and entries of ``adj`` in padded rows or columns are ignored.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481).
    """
    x, adj, s, mask, shared = _batch(x, adj, s, mask, num_clusters)
    wanted = ("x", "adj", "first", "ortho")
    options: dict[str, Any] = {"num_clusters": num_clusters, "symmetric": symmetric, "backend": backend}
    pooled, out_adj, mincut_loss, ortho_loss = cut_pool(
        Kind.MINCUT, wanted, x, adj, s, mask, temperature=temp, **options
    )
    if shared is not None:
        pooled = shared.pooled(pooled)
    return pooled, out_adj, mincut_loss, ortho_loss


class DiffPoolResult(NamedTuple):
    """The results of :func:`diff_pool`. The first four are those of PyG's ``dense_diff_pool``."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K]
    link_loss: Tensor | None  # 0-d; None with link_loss=None
    ent_loss: Tensor | None  # 0-d; None with entropy=False
    s: Tensor  # [N, K]
    sparse: SparsePooled | None = None  # with sparse_output=True


def diff_pool(
    x: Tensor,
    edge_index: Tensor | RaggedGraph | ShardedGraph,
    s: Tensor,
    edge_weight: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    batch_size: int | None = None,
    num_clusters: int | Tensor | None = None,
    temperature: float | Tensor = 1.0,
    link_loss: Literal["frobenius", "bce"] | None = "frobenius",
    entropy: bool = True,
    normalize: Literal["pyg", "valid"] | None = "pyg",
    symmetric: bool | None = None,
    sparse_output: bool = False,
    drop: float | None = None,
    backend: str = "auto",
) -> DiffPoolResult:
    r"""DiffPool on a batch of sparse graphs, without padding.

    .. math::
        S = \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = S^T A S, \quad
        L_{LP} = \frac{1}{c} \Bigl( \sum_b \| A_b - S_b S_b^T \|_F^2 \Bigr)^{1/2}, \quad
        L_E = \frac{1}{c'} \sum_i H(s_i)

    Memory is :math:`O(E + N K)`. No tensor of ``N x N`` or ``E x K`` elements is allocated.

    Args:
        x: node features of all graphs, ``[N, F]``.
        edge_index: ends of each edge, int64 ``[2, E]``, as in PyTorch Geometric, with both directions of an undirected
            edge; duplicates are summed. Or a sparse matrix of ``torch.sparse``, a :class:`hierpool.RaggedGraph`, which
            a data loader can build, or a :class:`hierpool.distributed.ShardedGraph`, with the rows of the nodes of the
            process in ``x`` and ``s``.
        s: assignment logits :math:`L`, ``[N, K]``.
        edge_weight: weights of the edges, ``[E]``; ``None``: 1. Gradients flow to them.
        batch: graph of each node, ``[N]``, sorted or not; ``None``: one graph.
        ptr: first node of each graph, ``[B + 1]``, instead of ``batch``.
        batch_size: number of graphs; ``None``: one more than the largest in ``batch``. Needed under
            ``torch.compile`` with ``batch``.
        num_clusters: number of clusters of each graph, ``[B]`` or an int; see :func:`hierpool.soft_pool`.
        temperature: :math:`T > 0`, a float or a 0-d tensor.
        link_loss: ``"frobenius"``; ``"bce"``, the cross-entropy of the original code (:func:`hierpool.link_bce`), with
            the same divisor :math:`c`; or ``None`` to skip the computation.
        entropy: whether to compute the entropy loss.
        normalize: the divisors of the losses. ``"pyg"``: :math:`c = B N_{max}^2` and :math:`c' = B N_{max}`, as
            ``dense_diff_pool`` on the batch padded to its largest graph. ``"valid"``: :math:`c = \sum_b n_b^2` and
            :math:`c' = N`. ``None``: 1.
        symmetric: whether every adjacency equals its transpose; ``None``: it is determined exactly.
        sparse_output: also return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries with at most this absolute value, which synchronises with the
            device; ``None``: return all :math:`B K^2` entries.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, link_loss, ent_loss, s, sparse)``; ``adj`` has the dtype of ``s``.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    check_choice("normalize", normalize, NORMALIZATIONS)
    check_choice("link_loss", link_loss, (None, "frobenius", "bce"))
    check_drop(drop, sparse_output)
    graph = graph_of(x, edge_index, edge_weight, batch, ptr, batch_size, symmetric)
    assignment, pooled, adj, *vectors, total_entropy, link_norm = pool_fields(
        _WITH_SIZES if sparse_output else _FIELDS,
        x,
        graph,
        s,
        num_clusters=num_clusters,
        temperature=temperature,
        link_loss="frobenius" if link_loss == "frobenius" else None,
        entropy=entropy,
        mean=normalize == "pyg",
        backend=backend,
    )
    if normalize == "valid":
        sizes = sizes_of(graph)
        link_norm = link_norm / sizes.square().sum().clamp(min=1)
        total_entropy = total_entropy / sizes.sum().clamp(min=1)
    assignment = graph.in_callers_order(assignment)
    if link_loss == "bce":
        divisor: Any = "numel" if normalize == "pyg" else normalize
        if isinstance(graph, ShardedGraph):
            raise TypeError("edge_index must not be a ShardedGraph with link_loss='bce'")
        link_norm = link_bce(assignment, graph, normalize=divisor, backend=backend)
    if not adj.dtype is s.dtype is x.dtype:  # a conversion to the same dtype takes time as well
        dtype = torch.promote_types(x.dtype, s.dtype)
        adj, link_norm, total_entropy = adj.to(s.dtype), link_norm.to(dtype), total_entropy.to(dtype)
    return DiffPoolResult(
        pooled,
        adj,
        link_norm if link_loss else None,
        total_entropy if entropy else None,
        assignment,
        sparse_pooled(pooled, adj, vectors[0].select(1, 0) > 0, drop, num_clusters)
        if sparse_output
        else None,
    )


_POOLED = ("x", "adj", "total_entropy", "link_norm")
_FIELDS = ("s", *_POOLED)
_WITH_SIZES = ("s", "x", "adj", "vectors", "total_entropy", "link_norm")


class MinCutPoolResult(NamedTuple):
    """The results of :func:`mincut_pool`. The first four are those of PyG's ``dense_mincut_pool``."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], without its diagonal, normalised by degrees
    mincut_loss: Tensor  # 0-d
    ortho_loss: Tensor  # 0-d
    s: Tensor  # [N, K]
    sparse: SparsePooled | None = None  # with sparse_output=True


def mincut_pool(
    x: Tensor,
    edge_index: Tensor | RaggedGraph | ShardedGraph,
    s: Tensor,
    edge_weight: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    batch_size: int | None = None,
    num_clusters: int | Tensor | None = None,
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    sparse_output: bool = False,
    drop: float | None = None,
    backend: str = "auto",
) -> MinCutPoolResult:
    r"""MinCut pooling on a batch of sparse graphs, without padding.

    .. math::
        S = \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = \hat D^{-1/2} \hat A \hat D^{-1/2}, \quad
        L_c = -\frac{1}{B} \sum_b \frac{\mathrm{tr}(S^T A S)}{\mathrm{tr}(S^T D S)}, \quad
        L_o = \frac{1}{B} \sum_b \Bigl\| \frac{S^T S}{\|S^T S\|_F} - \frac{I_K}{\sqrt K} \Bigr\|_F

    with :math:`D` the row sums of :math:`A`, :math:`\hat A` the matrix :math:`S^T A S` without its diagonal, and
    :math:`\hat D` the row sums of :math:`\hat A`. The values are those of :func:`hierpool.dense_mincut_pool` on the
    padded batch. Memory is :math:`O(E + N K)`.

    Args:
        x, edge_index, s, edge_weight, batch, ptr, batch_size: see :func:`diff_pool`.
        num_clusters, temperature, symmetric, backend: see :func:`diff_pool`.
        sparse_output: also return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries with at most this absolute value, which synchronises with the
            device; ``None``: return all :math:`B K^2` entries.

    Returns:
        ``(x, adj, mincut_loss, ortho_loss, s, sparse)``; ``adj`` has the dtype of ``s``.

    Raises:
        TypeError, ValueError: an argument is invalid; the message names it.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481).
    """
    check_drop(drop, sparse_output)
    graph = graph_of(x, edge_index, edge_weight, batch, ptr, batch_size, symmetric)
    check_tensor("s", s, FLOATS)
    wanted = ("x", "adj", "first", "ortho", "s", "size")[: 6 if sparse_output else 5]
    options: dict[str, Any] = {"num_clusters": num_clusters, "temperature": temperature, "backend": backend}
    pooled, adj, mincut_loss, ortho_loss, assignment, *size = cut_pool(
        Kind.MINCUT, wanted, x, graph, s, **options
    )
    sparse = sparse_pooled(pooled, adj, size[0] > 0, drop, num_clusters) if sparse_output else None
    assignment = graph.in_callers_order(assignment)
    return MinCutPoolResult(pooled, adj, mincut_loss, ortho_loss, assignment, sparse)
