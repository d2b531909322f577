"""Soft assignments of each node to a few clusters: the softmax over its largest logits, or over its candidates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.contract import accumulation_dtype, index_dtype
from hierpool.graph import Assignment, RaggedGraph, checks, pairs
from hierpool.ops import _checks


def top_m_softmax(
    logits: Tensor,
    graph: RaggedGraph | Tensor | None = None,
    m: int | None = None,
    *,
    candidates: Tensor | None = None,
    num_clusters: int | Tensor | None = None,
    mask: Tensor | None = None,
) -> Assignment:
    r"""A sparse soft assignment: of each node to the clusters with its ``m`` largest logits, or to its candidates.

    .. math::
        s_{ik} = \frac{e^{l_{ik}}}{\sum_{k' \in C_i} e^{l_{ik'}}} \ \text{ for } k \in C_i, \quad \text{else } 0

    With ``m``, :math:`C_i` are the columns of the ``m`` largest logits in row i. With ``candidates``, they are the
    clusters in row i of ``candidates``, so that no array has :math:`N K` elements.

    Args:
        logits: :math:`L`, floating ``[N, K]`` in the caller's order of nodes, or ``[B, N, K]`` for a padded batch; with
            ``candidates`` those of the candidates, ``[N, m]`` or ``[B, N, m]``.
        graph: the batch of graphs, or the first node of each graph, ``[B + 1]``; ``None`` for a padded batch.
        m: clusters of a node; of equal logits those of the first clusters are taken. ``None``: all.
        candidates: clusters in the graph of the node, int64 or int32, as from
            :func:`hierpool.selection.cluster_candidates`; different in each row, but for -1, which is none. ``m`` must
            be ``None``.
        num_clusters: clusters of each graph, an int or ``[B]``; ``None``: K, or one more than the largest candidate.
        mask: nodes of a padded batch that are valid, ``[B, N]``, any dtype; other nodes are left out, as of
            :meth:`hierpool.RaggedGraph.from_dense` with this mask.

    Returns:
        An assignment whose weights have the dtype of ``logits``. Gradients flow to ``logits``.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: a shape, device or value is invalid; the message names the argument.

    Source: the noisy top-k gating of Shazeer et al., "Outrageously Large Neural Networks", ICLR 2017
    (arXiv:1701.06538), without noise.
    """
    _checks.check_tensor("logits", logits, _checks.FLOATS)
    if candidates is not None:
        if m is not None:
            raise ValueError(f"m must be None with candidates, which have a column for each, got {m}")
        candidates = _check_candidates(candidates, logits)
    rows, logits, candidates = _rows(logits, graph, candidates, mask)
    if candidates is None:
        most = logits.size(1)
        counts = pairs.check_counts(most if num_clusters is None else num_clusters, rows, most)
        own, exists = _largest(logits.detach(), counts[rows.graph_of_node], m)
        cluster_ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return _assignment(logits.gather(1, own), own, exists, rows, cluster_ptr, int(cluster_ptr[-1]))
    own, place = candidates.sort(dim=1, stable=True)
    exists = own != -1
    if bool(((own[:, 1:] == own[:, :-1]) & exists[:, 1:]).any()):
        raise ValueError("candidates must be different in each row, got one of a node twice")
    node, _ = exists.nonzero(as_tuple=True)
    graph_of = rows.graph_of_node[node]
    cluster_ptr, total = pairs.cluster_pointers(own[exists], graph_of, rows, num_clusters, "candidates")
    return _assignment(logits.gather(1, place), own, exists, rows, cluster_ptr, total)


def _check_candidates(candidates: Any, logits: Tensor) -> Tensor:
    """Candidates as int64 in the shape of their logits."""
    if not isinstance(candidates, Tensor):
        raise TypeError(f"candidates must be a torch.Tensor, got {type(candidates).__name__}")
    if candidates.shape != logits.shape:
        raise ValueError(
            f"candidates must have the shape of logits, {tuple(logits.shape)}, got {tuple(candidates.shape)}"
        )
    checks.check_index("candidates", candidates, "like logits", candidates.dim())
    checks.check_device("candidates", candidates, "logits", logits)
    return candidates.to(torch.int64)


def _rows(
    logits: Tensor, graph: Any, candidates: Tensor | None, mask: Tensor | None
) -> tuple[pairs.Rows, Tensor, Tensor | None]:
    """The rows of the assignment, and logits and candidates in their order."""
    if logits.dim() == 3:
        if graph is not None:
            raise ValueError(f"graph must be None with logits of a padded batch, got {type(graph).__name__}")
        b, n, _ = logits.shape
        valid = _checks.valid_rows(mask, (b, n))
        if valid is None:
            valid = torch.ones(b, n, dtype=torch.bool, device=logits.device)
        ptr = torch.cat([valid.new_zeros(1, dtype=torch.int64), valid.sum(1).cumsum(0)])
        rows = pairs.Rows(ptr, None, int(ptr[-1]))
        return rows, logits[valid], None if candidates is None else candidates[valid]
    rows = pairs.rows_of(graph)
    _checks.check_absent(mask=mask)
    logits = pairs.check_dense(logits, rows, "logits")
    if rows.order is None:
        return rows, logits, candidates
    return rows, logits[rows.order], None if candidates is None else candidates[rows.order]


def _largest(logits: Tensor, counts: Tensor, m: int | None) -> tuple[Tensor, Tensor]:
    """Columns of the largest logits in ascending order, ``[N, m]``, and which of them exist."""
    n, k = logits.shape
    allowed = torch.arange(k, device=logits.device) < counts[:, None]
    if m is None or checks.check_size("m", m) >= k:
        return torch.arange(k, device=logits.device).expand(n, k), allowed
    kept = pairs.largest_of_rows(logits, allowed, m)
    size = kept.sum(1, keepdim=True)
    exists = torch.arange(m, device=logits.device) < size
    _, own = kept.nonzero(as_tuple=True)
    return torch.zeros(n, m, dtype=torch.int64, device=logits.device).masked_scatter(exists, own), exists


def _assignment(
    logits: Tensor, own: Tensor, exists: Tensor, rows: pairs.Rows, cluster_ptr: Tensor, total: int
) -> Assignment:
    """The softmax over the columns that exist; ``own``, ``[N, m]``, ascends in each row where it exists."""
    size = exists.sum(1)
    everywhere = bool(exists.all())
    if not everywhere:
        logits = logits.masked_fill(~exists & (size > 0)[:, None], -torch.inf)
    weight = logits.softmax(1, dtype=accumulation_dtype(logits)).to(logits.dtype)
    cluster = own + cluster_ptr[rows.graph_of_node][:, None]
    weight, cluster = (t.flatten() if everywhere else t[exists] for t in (weight, cluster))
    index = index_dtype(max(rows.num_nodes, total), cluster.numel())
    rowptr = torch.cat([size.new_zeros(1), size.cumsum(0)]).to(index)
    is_hard = not size.numel() or int(size.max()) <= 1
    cluster = cluster.to(index)
    return Assignment(rowptr, cluster, weight, rows.ptr, cluster_ptr, rows.order, total, is_hard)
