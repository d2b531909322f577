"""Pooling functions in the style of PyTorch Geometric, on sparse graphs."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hierpool import finish
from hierpool.connect import SparsePooled, sparse_pooled
from hierpool.graph import RaggedGraph
from hierpool.graph.arguments import graph_of
from hierpool.ops._checks import check_choice
from hierpool.ops.link_bce import link_bce
from hierpool.ops.soft_pool import pool_fields

NORMALIZATIONS = ("pyg", "valid", None)


class DiffPoolResult(NamedTuple):
    """What :func:`diff_pool` returns; it begins as what PyG's ``dense_diff_pool`` returns."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K]
    link_loss: Tensor | None  # 0-d, or None if it was not asked for
    ent_loss: Tensor | None  # 0-d, or None if it was not asked for
    s: Tensor  # [N, K]
    sparse: SparsePooled | None = None  # with sparse_output=True


def diff_pool(
    x: Tensor,
    edge_index: Tensor | RaggedGraph,
    s: Tensor,
    edge_weight: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    batch_size: int | None = None,
    temperature: float | Tensor = 1.0,
    link_loss: Literal["frobenius", "bce"] | None = "frobenius",
    entropy: bool = True,
    normalize: Literal["pyg", "valid"] | None = "pyg",
    symmetric: bool | None = None,
    sparse_output: bool = False,
    drop: float | None = None,
    backend: str = "auto",
) -> DiffPoolResult:
    r"""DiffPool on a batch of sparse graphs: no padding, no ``N x N``, no ``E x K``, memory :math:`O(E + N K)`.

    .. math::
        S = \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = S^T A S, \quad
        L_{LP} = \frac{1}{c} \Bigl( \sum_b \| A_b - S_b S_b^T \|_F^2 \Bigr)^{1/2}, \quad
        L_E = \frac{1}{c'} \sum_i H(s_i)

    Args:
        x: node features, ``[N, F]``, of all graphs of the batch.
        edge_index: ends of each edge, int64 ``[2, E]``, as PyTorch Geometric has them, both directions of an
            undirected edge; duplicates are summed. Or a sparse matrix of ``torch.sparse``. Or a
            :class:`hierpool.RaggedGraph`, which a loader can have made.
        s: assignment logits :math:`L`, ``[N, K]``.
        edge_weight: weights of the edges, ``[E]``; ``None``: 1. Gradients flow to them.
        batch: graph of each node, ``[N]``, sorted or not; ``None``: one graph.
        ptr: first node of each graph, ``[B + 1]``, instead of ``batch``.
        batch_size: number of graphs; ``None``: one more than the largest in ``batch``. Needed under
            ``torch.compile`` with ``batch``.
        temperature: :math:`T > 0`, a float or a 0-d tensor.
        link_loss: ``"frobenius"``; ``"bce"``, the cross-entropy of the original code (see :func:`hierpool.link_bce`),
            whose divisor is :math:`B N_{max}^2` or :math:`\sum_b n_b^2` as well; or ``None`` to skip it.
        entropy: whether to compute the entropy loss.
        normalize: the divisors of the losses. ``"pyg"``: those of ``dense_diff_pool`` on the batch padded to its
            largest graph, :math:`c = B N_{max}^2`, :math:`c' = B N_{max}`; changing from dense to sparse changes no
            value. ``"valid"``: :math:`c = \sum_b n_b^2`, :math:`c' = N`. ``None``: 1.
        symmetric: whether every adjacency equals its transpose; ``None`` finds out, exactly.
        sparse_output: also return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries of absolute value at most this, which waits for the device;
            ``None``: all :math:`B K^2` entries are returned.
        backend: see :func:`hierpool.soft_pool`.

    Returns:
        ``(x, adj, link_loss, ent_loss, s, sparse)``; ``adj`` has the dtype of ``s``.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """
    check_choice("normalize", normalize, NORMALIZATIONS)
    check_choice("link_loss", link_loss, (None, "frobenius", "bce"))
    if drop is not None and not sparse_output:
        raise ValueError(f"drop has a meaning with sparse_output=True only, got drop={drop}")
    graph = graph_of(x, edge_index, edge_weight, batch, ptr, batch_size, symmetric)
    assignment, pooled, adj, *vectors, total_entropy, link_norm = pool_fields(
        _WITH_SIZES if sparse_output else _FIELDS,
        x,
        graph,
        s,
        temperature=temperature,
        link_loss="frobenius" if link_loss == "frobenius" else None,
        entropy=entropy,
        mean=normalize == "pyg",
        backend=backend,
    )
    if normalize == "valid":
        link_norm = link_norm / graph.ptr.diff().square().sum().clamp(min=1)
        total_entropy = total_entropy / max(graph.num_nodes, 1)
    assignment = graph.in_callers_order(assignment)
    if link_loss == "bce":
        divisor: Any = "numel" if normalize == "pyg" else normalize
        link_norm = link_bce(assignment, graph, normalize=divisor, backend=backend)
    dtype = torch.promote_types(x.dtype, s.dtype)
    adj = adj.to(s.dtype)
    return DiffPoolResult(
        pooled,
        adj,
        link_norm.to(dtype) if link_loss else None,
        total_entropy.to(dtype) if entropy else None,
        assignment,
        sparse_pooled(pooled, adj, vectors[0].select(1, 0) > 0, drop) if sparse_output else None,
    )


_FIELDS = ("s", "x", "adj", "total_entropy", "link_norm")
_WITH_SIZES = ("s", "x", "adj", "vectors", "total_entropy", "link_norm")


class MinCutPoolResult(NamedTuple):
    """What :func:`mincut_pool` returns; it begins as what PyG's ``dense_mincut_pool`` returns."""

    x: Tensor  # [B, K, F]
    adj: Tensor  # [B, K, K], without its diagonal, normalised by degrees
    mincut_loss: Tensor  # 0-d
    ortho_loss: Tensor  # 0-d
    s: Tensor  # [N, K]
    sparse: SparsePooled | None = None  # with sparse_output=True


def mincut_pool(
    x: Tensor,
    edge_index: Tensor | RaggedGraph,
    s: Tensor,
    edge_weight: Tensor | None = None,
    batch: Tensor | None = None,
    *,
    ptr: Tensor | None = None,
    batch_size: int | None = None,
    temperature: float | Tensor = 1.0,
    symmetric: bool | None = None,
    sparse_output: bool = False,
    drop: float | None = None,
    backend: str = "auto",
) -> MinCutPoolResult:
    r"""MinCut pooling of a batch of sparse graphs: :func:`hierpool.dense_mincut_pool` of the padded batch, not padded.

    .. math::
        S = \mathrm{softmax}(L / T), \quad X' = S^T X, \quad A' = \hat D^{-1/2} \hat A \hat D^{-1/2}, \quad
        L_c = -\frac{1}{B} \sum_b \frac{\mathrm{tr}(S^T A S)}{\mathrm{tr}(S^T D S)}, \quad
        L_o = \frac{1}{B} \sum_b \Bigl\| \frac{S^T S}{\|S^T S\|_F} - \frac{I_K}{\sqrt K} \Bigr\|_F

    with :math:`D` the row sums of :math:`A`, :math:`\hat A` the matrix :math:`S^T A S` without its diagonal and
    :math:`\hat D` its row sums. Memory :math:`O(E + N K)`.

    Args:
        x, edge_index, s, edge_weight, batch, ptr, batch_size, temperature, symmetric, backend: see :func:`diff_pool`.
        sparse_output: also return the coarsened graphs as ``edge_index``, weights and ``batch``.
        drop: with ``sparse_output``, leave out entries of absolute value at most this, which waits for the device;
            ``None``: all :math:`B K^2` entries are returned.

    Returns:
        ``(x, adj, mincut_loss, ortho_loss, s, sparse)``; ``adj`` has the dtype of ``s``.

    Raises:
        TypeError, ValueError: an argument is wrong; the message names it.

    Source: Bianchi, Grattarola, Alippi, ICML 2020 (arXiv:1907.00481).
    """
    if drop is not None and not sparse_output:
        raise ValueError(f"drop has a meaning with sparse_output=True only, got drop={drop}")
    graph = graph_of(x, edge_index, edge_weight, batch, ptr, batch_size, symmetric)
    pooled = finish.mincut(x, graph, s, nodes=True, temperature=temperature, backend=backend)
    assert pooled.s is not None
    assert pooled.size is not None
    mincut_loss, ortho_loss = pooled.losses
    return MinCutPoolResult(
        pooled.x,
        pooled.adj,
        mincut_loss,
        ortho_loss,
        graph.in_callers_order(pooled.s),
        sparse_pooled(pooled.x, pooled.adj, pooled.size > 0, drop) if sparse_output else None,
    )
