"""The clusters that a node may belong to, of a clustering that is refined by learned weights."""

from __future__ import annotations

import torch
from torch import Tensor

from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.values import ones_or_values
from hierpool.selection import _shared


def cluster_candidates(graph: RaggedGraph, cluster: Tensor, m: int) -> Tensor:
    r"""For each node its own cluster and the clusters that most of its edges lead to.

    With candidates, a soft assignment never has :math:`N K` elements; see :func:`hierpool.top_m_softmax`. As
    neighbouring nodes share candidates, the coarsened graph has few entries.

    Args:
        graph: :math:`A`; weights that are not stored are 1.
        cluster: of each node in its graph, int64 or int32 ``[N]``, as from :func:`hierpool.heavy_edge_clusters`; -1:
            none.
        m: candidates of a node at most.

    Returns:
        int64 ``[N, m]``: the cluster of node i, and then the clusters :math:`k` with the largest sums
        :math:`\sum_{j:\, c_j = k} a_{ij}`; of equal ones those with the smallest numbers. -1 where node i has no more.
        In the caller's order of nodes. Synchronises the device.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: ``cluster`` is invalid, ``m`` is less than 1, or a weight is NaN; the message names the argument.
    """
    _shared.check_graph(graph)
    m = _shared.check_count("m", m)
    clustered = Assignment.from_clusters(cluster, graph)
    own, n, device = clustered.clusters().cluster.long(), graph.num_nodes, graph.device
    node = torch.arange(n, device=device)
    ends = torch.stack([torch.cat([graph.row.long(), node]), torch.cat([own[graph.col], own])])
    weight = ones_or_values(graph, torch.float32).detach()
    weight = torch.cat([weight.to(torch.float64), weight.new_zeros(n, dtype=torch.float64)])
    stays = ends[1] >= 0
    size = max(n, clustered.num_clusters)
    pairs = RaggedGraph.from_edge_index(ends[:, stays], size, edge_weight=weight[stays], symmetric=False)
    found, row = pairs.col.long(), pairs.row.long()
    assert pairs.value is not None
    score = _shared.check_scores("graph.value", pairs.value, found.numel(), "edge", device)
    score = score.masked_fill(found == torch.cat([own, own.new_full((size - n,), -1)])[row], torch.inf)
    first, counts = pairs.rowptr.long(), pairs.rowptr.diff().long().clamp(max=m)
    best, _, _ = _shared.backend_of(score).topk(score, first, None, 1, 1, m)
    rank = torch.arange(best.numel(), device=device) - (counts.cumsum(0) - counts)[row[best]]
    out = torch.full((n, m), -1, dtype=torch.int64, device=device)
    out[row[best], rank] = found[best]
    out = torch.where(out < 0, -1, out - clustered.cluster_ptr[graph.graph_of_node()][:, None])
    return graph.in_callers_order(out)
