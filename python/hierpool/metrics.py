"""Quality of a clustering: modularity, conductance, and mutual information with known labels.

Everything is computed in float64. Time is linear in entries and nodes, and temporary memory is bounded. With a sharded
graph, all processes call a function with the labels of their nodes, and get the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.distributed import ShardedGraph
from hierpool.graph import RaggedGraph

_CHUNK = 1 << 19  # entries at a time


class _Volumes(NamedTuple):
    """Sums of weights by cluster, float64 ``[K]``."""

    inside: Tensor  # entries with both nodes in the cluster
    out: Tensor  # entries whose row is in the cluster
    into: Tensor  # entries whose column is in the cluster


def modularity(graph: RaggedGraph | ShardedGraph, labels: Tensor) -> float:
    r"""Modularity of a clustering,

    .. math:: Q = \sum_c \Big( \frac{w_c}{W} - \frac{o_c \, i_c}{W^2} \Big)

    where :math:`W` is the weight of all entries of the adjacency matrix, :math:`w_c` that of entries inside cluster
    :math:`c`, :math:`o_c` that of entries whose row is in :math:`c`, and :math:`i_c` that of entries whose column is in
    :math:`c`. For an undirected graph :math:`o_c = i_c`. A self-loop is one entry. The result is 0 without edges.

    Args:
        graph: one graph; weights are not negative.
        labels: cluster of each node, integers from 0, ``[N]``, in the caller's order of nodes.

    Raises:
        TypeError, ValueError: ``labels`` is not an integer tensor of that shape.

    Source: Newman, Girvan, "Finding and evaluating community structure in networks", Physical Review E 69, 2004;
    Leicht, Newman, "Community structure in directed networks", Physical Review Letters 100, 2008.
    """
    labels = _check_labels("labels", labels)
    volumes = _volumes(graph, labels if isinstance(graph, ShardedGraph) else _renumber(labels))
    total = volumes.out.sum()
    if total == 0:
        return 0.0
    return float((volumes.inside / total - volumes.out / total * (volumes.into / total)).sum())


def conductance(graph: RaggedGraph | ShardedGraph, labels: Tensor) -> Tensor:
    r"""Conductance of every cluster,

    .. math:: \phi_c = \frac{v_c - 2 w_c}{\min(v_c,\, 2W - v_c)}, \qquad v_c = o_c + i_c

    in the symbols of :func:`modularity`. 0 is best. The entries of a directed graph count in both directions.

    Args:
        graph: one graph; weights are not negative.
        labels: cluster of each node, integers from 0, ``[N]``, in the caller's order of nodes.

    Returns:
        float64 ``[K]``, where K is one more than the largest label. NaN for a cluster with no edges or all edges.

    Raises:
        TypeError, ValueError: ``labels`` is not an integer tensor of that shape.

    Source: Kannan, Vempala, Vetta, "On clusterings: good, bad and spectral", Journal of the ACM 51, 2004.
    """
    volumes = _volumes(graph, labels)
    volume = volumes.out + volumes.into
    return (volume - 2 * volumes.inside) / torch.minimum(volume, volume.sum() - volume)


def normalized_mutual_information(
    first: Tensor, second: Tensor, *, graph: ShardedGraph | None = None
) -> float:
    r"""Mutual information of two clusterings, divided by the mean of their entropies,

    .. math:: \mathrm{NMI} = \frac{2 I(a; b)}{H(a) + H(b)}, \qquad
              I(a; b) = \sum_{kl} p_{kl} \log \frac{p_{kl}}{p_k p_l}

    The result is 1 for clusterings that are equal up to the numbers of the clusters, and close to 0 for independent
    clusterings. It is 1 if both have a single cluster.

    Args:
        first, second: cluster of each item, integers from 0, ``[N]``.
        graph: a graph whose processes have some of the items each; all call the function, and get the same result.

    Raises:
        TypeError, ValueError: the arguments are not integer tensors of the same shape with at least one item.

    Source: Strehl, Ghosh, "Cluster ensembles", JMLR 3, 2002; with the arithmetic mean, as in scikit-learn.
    """
    a, b = _check_labels("first", first), _check_labels("second", second)
    if a.shape != b.shape or (a.numel() == 0 and graph is None):
        raise ValueError(
            f"first and second must have the same shape [N], N at least 1, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b, count = _pairs(a, b, graph)
    p = count / count.sum()
    pa, pb = (index.bincount(p) for index in (a, b))
    information = (p * (p / (pa[a] * pb[b])).log()).sum()
    entropies = -torch.special.xlogy(pa, pa).sum() - torch.special.xlogy(pb, pb).sum()
    return float(2 * information / entropies) if entropies > 0 else 1.0


def _pairs(a: Tensor, b: Tensor, graph: ShardedGraph | None) -> tuple[Tensor, Tensor, Tensor]:
    """The different pairs of numbers of two clusterings, and how often each occurs, float64."""
    if graph is None:
        a, b = _renumber(a), _renumber(b)  # so that the numbers of pairs are in range
    widest = int(b.max()) + 1 if b.numel() else 1
    if graph is not None:
        widest = max(graph.ranks.objects(widest))
    pair, count = (a * widest + b).unique(return_counts=True)
    if graph is not None:
        lengths = [int(length) for length in graph.ranks.objects(pair.numel())]
        pair, count = (graph.ranks.gather(t, lengths) for t in (pair, count))
        pair, place = pair.unique(return_inverse=True)
        count = place.bincount(count.double())
    return _renumber(pair // widest), _renumber(pair % widest), count.double()


def _check_labels(name: str, labels: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"{name} must have an integer dtype, got {labels.dtype}")
    if labels.dim() != 1:
        raise ValueError(f"{name} must have shape [N], got {tuple(labels.shape)}")
    if labels.numel() and int(labels.min()) < 0:
        raise ValueError(f"{name} must not be negative, got {int(labels.min())}")
    return labels.long()


def _renumber(labels: Tensor) -> Tensor:
    """Labels without gaps, so that sums by label are as short as there are labels."""
    found: Tensor = labels.unique(return_inverse=True)[1]
    return found


def pooled_weights(graph: RaggedGraph | ShardedGraph, labels: Tensor, k: int) -> Tensor:
    """The adjacency matrix of the pooled graph: sums of weights between clusters, float64 ``[K, K]``.

    Raises:
        TypeError, ValueError: ``labels`` are no integers from 0 to ``k - 1``, one for each node.
    """
    labels = _check_labels("labels", labels)
    if labels.numel() != graph.num_nodes:
        raise ValueError(f"labels must have shape [N] = [{graph.num_nodes}], got {tuple(labels.shape)}")
    if labels.numel() and int(labels.max()) >= k:
        raise ValueError(f"labels must be less than k = {k}, got {int(labels.max())}")
    weights = torch.zeros(k * k, dtype=torch.float64)
    for i, j, weight in _entries(graph, labels):
        weights += (i * k + j).bincount(weight, minlength=k * k)
    weights = graph.total(weights) if isinstance(graph, ShardedGraph) else weights
    return weights.view(k, k)


def _volumes(graph: RaggedGraph | ShardedGraph, labels: Tensor) -> _Volumes:
    labels = _check_labels("labels", labels)
    if labels.numel() != graph.num_nodes:
        raise ValueError(f"labels must have shape [N] = [{graph.num_nodes}], got {tuple(labels.shape)}")
    k = int(labels.max()) + 1 if labels.numel() else 0
    k = max(graph.ranks.objects(k)) if isinstance(graph, ShardedGraph) else k
    sums = torch.zeros(3, k, dtype=torch.float64)
    for i, j, weight in _entries(graph, labels):
        sums[0] += i.bincount(weight * (i == j), minlength=k)
        sums[1] += i.bincount(weight, minlength=k)
        sums[2] += j.bincount(weight, minlength=k)
    return _Volumes(*(graph.total(sums) if isinstance(graph, ShardedGraph) else sums))


def _entries(graph: RaggedGraph | ShardedGraph, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The clusters of row and column, and the weights, of blocks of entries."""
    labels = graph.in_graph_order(labels)
    if isinstance(graph, RaggedGraph):
        yield from _blocks(graph.rowptr, graph.col, graph.value, labels, labels)
        return
    blocks = graph.blocks
    inner, outer = blocks.parts(graph.value)
    yield from _blocks(blocks.inner.rowptr, blocks.inner.col, inner, labels, labels)
    halo = graph.halo.rows(labels)
    yield from _blocks(blocks.outer.rowptr, blocks.outer.col, outer, labels[blocks.border], halo)


def _blocks(
    rowptr: Tensor, col: Tensor, value: Tensor | None, of_row: Tensor, of_col: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for start in range(0, col.numel(), _CHUNK):
        stop = min(start + _CHUNK, col.numel())
        row = torch.searchsorted(rowptr, torch.arange(start, stop, dtype=rowptr.dtype), right=True) - 1
        weight = torch.ones(stop - start, dtype=torch.float64)
        if value is not None:
            weight = value[start:stop].detach().double()
        yield of_row[row], of_col[col[start:stop].long()], weight
