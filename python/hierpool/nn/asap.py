"""The pooler that shares every node among the clusters around its neighbours."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.contract import Csr, softmax_by_index, sum_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.ops import spmm_max
from hierpool.ops._contraction import not_triton
from hierpool.ops.sparse_pool import pooled_rows, sparse_pool
from hierpool.ops.spmm import spmm
from hierpool.selection import Kept, topk
from hierpool.selection._shared import check_count
from hierpool.selection.largest import check_ratio


class ASAPool(HardPooling, name="asap"):
    r"""Form a cluster around every node by attention, and keep the best clusters.

    .. math::
        s_{ji} = \mathrm{softmax}_{j:\, (j, i)} \sigma(w^T [W \max_j z_j + b, z_i] + c), \qquad
        x'_i = f_i \sum_j s_{ji} x_j, \qquad A' = S^T \hat A S

    :math:`\hat A` is :math:`A`, where nodes without a self-loop get one of weight 1, and sums and maxima are over its
    entries in column i; :math:`\sigma` is a leaky ReLU. The fitness :math:`f` is the sigmoid of a convolution of
    :math:`\sum_j s_{ji} x_j` that compares a node with its neighbours. Of S, the columns of the nodes with the largest
    fitness are kept, so that a node belongs to all kept clusters it is next to; the weights of the assignment are
    :math:`s_{ji} f_i`. Results are those of PyTorch Geometric's layer, which multiplies the fitness by a random weight
    before it selects: if that is negative, it keeps the worst clusters. Without weights of edges, it returns none.

    :math:`S^T \hat A S` may have many entries: nodes become neighbours that were three steps apart. It is refused above
    ``max_entries`` of :func:`hierpool.sparse_pool`. Features of edges are pooled as the weights are, by
    :math:`S^T A_r S` for each feature r; a self-loop that is added has none.

    Args:
        in_channels: number of features.
        ratio: part of the nodes of each graph to keep, rounded up. Not used if ``k`` is given.
        k: number of nodes of each graph to keep.
        gnn: module called as ``gnn(x, graph)`` that returns z, ``[N, in_channels]``; ``None``: :math:`z = x`.
        dropout: dropout probability of S.
        negative_slope: of the leaky ReLU.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: Ranjan, Sanyal, Talukdar, "ASAP: Adaptive Structure Aware Pooling for Learning Hierarchical Graph
    Representations", AAAI 2020 (arXiv:1911.07979).
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float = 0.5,
        *,
        k: int | None = None,
        gnn: nn.Module | None = None,
        dropout: float = 0.0,
        negative_slope: float = 0.2,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.in_channels = check_size("in_channels", in_channels)
        self.ratio = ratio if k is not None else check_ratio(ratio, "; give k for a number of nodes")
        self.k = None if k is None else check_count("k", k)
        self.dropout, self.negative_slope = dropout, negative_slope
        self.gnn = gnn
        self.lin = nn.Linear(in_channels, in_channels)
        self.att = nn.Linear(2 * in_channels, 1)
        self.gnn_score = _Fitness(in_channels)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for layer in (self.lin, self.att, *self.gnn_score.children(), self.gnn):
            reset = getattr(layer, "reset_parameters", None)
            if reset is not None:
                reset()

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The clusters with the largest fitness."""
        looped = with_loops(graph)
        share = self._shares(x if self.gnn is None else self.gnn(x, graph), looped)
        shared = spmm(looped.with_value(share, symmetric=False), x, transpose=True)
        fitness = self.gnn_score(shared, looped)
        nodes = self._kept(fitness, graph).nodes
        chosen = Assignment.from_kept(nodes, graph)
        place = chosen.clusters().cluster.long()[looped.col.long()]
        kept = (place >= 0).nonzero()[:, 0]
        node = looped.row.index_select(0, kept).long()
        own = place[kept] - chosen.cluster_ptr[:-1][looped.graph_of_node()[node]]
        node = node if graph.order is None else graph.order[node]
        counts = chosen.cluster_ptr.diff()
        shares = Assignment.from_coo(node, own, graph, share.index_select(0, kept), counts)
        assert shares.weight is not None
        of_entry = fitness.index_select(0, nodes).index_select(0, shares.cluster)
        return Selected(shares.with_weight(shares.weight * of_entry), fitness, of_graph=(looped, shares))

    def pool(self, x: Tensor, graph: RaggedGraph, selected: Selected) -> tuple[Tensor, RaggedGraph]:
        """Sums over the nodes of each cluster, and the graph of the clusters, which fitness does not count for."""
        if selected.of_graph is None:
            return super().pool(x, with_loops(graph), selected)
        looped, shares = selected.of_graph
        rows = pooled_rows(looped.in_graph_order(x), selected.assignment, self.reduce, self.backend)
        loops: Any = "drop" if self.remove_self_loops else "keep"
        how: dict[str, Any] = {"degree_norm": self.degree_norm, "edge_weight_norm": self.edge_weight_norm}
        return rows, sparse_pool(None, looped, shares, loops=loops, **how, backend=self.backend).graph

    def _kept(self, fitness: Tensor, graph: RaggedGraph) -> Kept:
        if self.k is not None:
            return topk(fitness, graph, k=self.k)
        return topk(fitness, graph, ratio=self.ratio)

    def _shares(self, z: Tensor, looped: RaggedGraph) -> Tensor:
        """S of the entries of the graph with loops, ``[E]``."""
        z = looped.in_graph_order(z)
        row, col = looped.row.long(), looped.col.long()
        query = self.lin(_column_maxima(z, looped, self.backend))
        of_query, of_row = self.att.weight[0].chunk(2)
        # Two numbers for each node instead of 2 F for each entry.
        raw = (query @ of_query).index_select(0, col) + (z @ of_row).index_select(0, row) + self.att.bias
        share = softmax_by_index(F.leaky_relu(raw, self.negative_slope), col, looped.num_nodes)
        return F.dropout(share, self.dropout, self.training)

    def extra_repr(self) -> str:
        kept = f"ratio={self.ratio}" if self.k is None else f"k={self.k}"
        return f"{kept}, {super().extra_repr()}"


class _Fitness(nn.Module):
    """The sigmoid of :math:`\\sum_j (a_j - b_i) + c_i` over the entries (j, i), of linear maps a, b and c of x.

    Parameters have the names of PyTorch Geometric's ``LEConv``, whose results these are.
    """

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(in_channels, 1)
        self.lin2 = nn.Linear(in_channels, 1, bias=False)
        self.lin3 = nn.Linear(in_channels, 1)

    def forward(self, x: Tensor, looped: RaggedGraph) -> Tensor:
        row, col, n = looped.row.long(), looped.col.long(), looped.num_nodes
        x = looped.in_graph_order(x)
        count = torch.bincount(col, minlength=n).to(x.dtype)
        sums = sum_by_index(self.lin1(x)[:, 0].index_select(0, row), col, n)
        score = sums - count * self.lin2(x)[:, 0] + self.lin3(x)[:, 0]
        return looped.in_callers_order(score.sigmoid())


def with_loops(graph: RaggedGraph) -> RaggedGraph:
    """The graph, where nodes without a self-loop get one of weight 1."""
    row, col, n = graph.row.long(), graph.col.long(), graph.num_nodes
    has_one = torch.zeros(n, dtype=torch.bool, device=row.device).index_fill(0, row[row == col], True)
    new = (~has_one).nonzero()[:, 0]
    if not new.numel():
        return graph
    ends = torch.stack([torch.cat([row, new]), torch.cat([col, new])])
    value = graph.value
    weight = None if value is None else torch.cat([value, value.new_ones(new.numel())])
    symmetric = True if graph.is_symmetric else None
    attr = graph.edge_attr
    attr = None if attr is None else torch.cat([attr, attr.new_zeros(new.numel(), attr.size(1))])
    given: dict[str, Any] = {"edge_weight": weight, "edge_attr": attr, "ptr": graph.ptr}
    found = RaggedGraph.from_edge_index(ends, n, **given, symmetric=symmetric)
    looped = RaggedGraph(found.rowptr, found.col, found.value, graph.ptr, graph.order, symmetric)
    return looped._with_attr(found.edge_attr)


def _column_maxima(z: Tensor, looped: RaggedGraph, backend: str) -> Tensor:
    """The largest of the rows of z over the entries of each column, ``[N, F]``, in the order of the matrix."""
    rowptr, col = looped.rowptr, looped.col
    turned = (rowptr, col) if looped.is_symmetric else looped.transposed()[:2]
    matrix = Csr(None, rowptr, col, *turned)
    (largest,) = spmm_max.OPERATOR(spmm_max.Call(z, matrix, spmm_max.Options(False, not_triton(backend))))
    return largest
