"""Graph U-Net: an encoder and a decoder of nodes, joined level by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hierpool._tracing import is_traced
from hierpool.contract import Loops, ranges_of
from hierpool.graph import Assignment, RaggedGraph, pairs
from hierpool.graph.checks import check_sizes
from hierpool.graph.values import ones_or_values
from hierpool.nn.gcn import GCNConv
from hierpool.nn.hard_pooling import kept_rows
from hierpool.nn.mlp import Activation, activation
from hierpool.nn.score_pooling import TopKPool
from hierpool.ops._checks import check_features
from hierpool.ops._product import gram_of
from hierpool.ops.sparse_pool import sparse_lift
from hierpool.selection._shared import LARGEST, check_count
from hierpool.selection.largest import check_ratio


class GraphUNet(nn.Module):
    r"""Node features from several scales: convolutions and poolings down, convolutions and unpoolings up.

    .. math:: A' = \mathrm{offdiag}\bigl((\bar A + I)^2\bigr)_{\mathrm{kept}, \mathrm{kept}}

    Before each pooling, nodes at a distance of two become neighbours; :math:`\bar A` is :math:`A` without self-loops.
    Of the square, only the rows and columns of nodes that are kept are computed. Going up, nodes that were dropped are
    0, and the features of the same level going down are added.

    Results and names of parameters are those of PyTorch Geometric's model, whose state dict this model loads.

    Args:
        in_channels: number of node features.
        hidden_channels: width of all layers.
        out_channels: number of output features.
        depth: number of poolings.
        pool_ratios: part of the nodes of each graph that each pooling keeps; one number or ``depth`` of them.
        sum_res: add the features of the way down; otherwise concatenate them.
        act: activation after every layer but the last.

    Raises:
        ValueError: an argument is out of range.

    Source: Gao and Ji, "Graph U-Nets", ICML 2019 (arXiv:1905.05178).
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        depth: int = 3,
        pool_ratios: float | Sequence[float] = 0.5,
        sum_res: bool = True,
        act: Activation = "relu",
    ) -> None:
        super().__init__()
        depth = check_count("depth", depth)
        ratios = list(pool_ratios) if isinstance(pool_ratios, Sequence) else [pool_ratios] * depth
        if len(ratios) != depth:
            raise ValueError(f"pool_ratios must be one number or depth={depth} of them, got {ratios}")
        self.depth, self.sum_res, self.act = depth, sum_res, activation(act)
        (width,) = check_sizes(hidden_channels=hidden_channels)
        self.down_convs = nn.ModuleList(
            GCNConv(width if level else in_channels, width, improved=True) for level in range(depth + 1)
        )
        ratios = [check_ratio(ratio, name="pool_ratios") for ratio in ratios]
        self.pools = nn.ModuleList(TopKPool(width, ratio) for ratio in ratios)
        joined = width if sum_res else 2 * width
        self.up_convs = nn.ModuleList(
            GCNConv(joined, width if level else out_channels, improved=True)
            for level in reversed(range(depth))
        )
        self.register_load_state_dict_pre_hook(_own_names)

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for layer in (*self.down_convs, *self.pools, *self.up_convs):
            layer.reset_parameters()

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """New features of the nodes.

        Args:
            x: node features ``[N, in_channels]``, in the caller's order of nodes.
            graph: the batch of graphs. Gradients flow to its weights.

        Returns:
            ``[N, out_channels]``.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it.
        """
        check_features(graph, x)
        x = self._activated(self.down_convs[0](x, graph))
        levels: list[tuple[Tensor, RaggedGraph, Assignment]] = []
        for pool, conv in zip(self.pools, self.down_convs[1:], strict=True):
            assert isinstance(pool, TopKPool)
            kept = pool.select(x, graph).assignment
            levels.append((x, graph, kept))
            x, graph = kept_rows(x, kept), two_step_graph(graph, kept)
            x = self._activated(conv(x, graph))
        for conv, (skipped, graph, kept) in zip(self.up_convs, reversed(levels), strict=True):
            up = sparse_lift(x, kept, mode="gather")
            x = conv(skipped + up if self.sum_res else torch.cat([skipped, up], -1), graph)
            x = x if conv is self.up_convs[-1] else self._activated(x)
        return x

    def _activated(self, x: Tensor) -> Tensor:
        return x if self.act is None else self.act(x)


def _own_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the parameters of PyTorch Geometric's poolings."""
    for name in list(state):
        if name.startswith(f"{prefix}pools.") and name.endswith(".select.weight"):
            state[name.replace(".select.weight", ".weight")] = state.pop(name)


def two_step_graph(graph: RaggedGraph, kept: Assignment) -> RaggedGraph:
    r"""The entries of :math:`(\bar A + I)^2` between different nodes that are kept; :math:`\bar A`: without loops.

    The time is that of the paths of two edges, or of one edge and a pause, between nodes that are kept. So is the
    memory of a graph that is not symmetric, or is traced.
    """
    if is_traced() or not graph.is_symmetric:
        return _by_paths(graph, kept)
    steps = _steps_to_kept(graph, kept)
    assert steps.weight is not None
    return gram_of(steps, steps.weight, LARGEST, loops=Loops.DROP)


def _steps_to_kept(graph: RaggedGraph, kept: Assignment) -> Assignment:
    """The columns of :math:`\\bar A + I` of the nodes that are kept, as an assignment."""
    row, col, place = (t.long() for t in (graph.row, graph.col, kept.clusters().cluster))
    entry = ((place[col] >= 0) & (row != col)).nonzero()[:, 0]
    pauses = torch.arange(kept.num_clusters, device=row.device)
    node = torch.cat([row[entry], kept.clusters().node.long()])
    cluster = torch.cat([place[col[entry]], pauses])
    value = ones_or_values(graph, torch.float32)
    weight = torch.cat([value.index_select(0, entry), value.new_ones(pauses.numel())])
    rows = pairs.rows_of(graph)
    return Assignment._of_pairs(node, cluster, weight, rows, kept.cluster_ptr, kept.num_clusters)


def _by_paths(graph: RaggedGraph, kept: Assignment) -> RaggedGraph:
    """:func:`two_step_graph` of any graph, as the sum of all its paths."""
    n = graph.num_nodes
    nodes = torch.arange(n, device=graph.device)
    edges = graph.row != graph.col
    value = ones_or_values(graph, torch.float32)
    row, col = graph.row[edges].long(), graph.col[edges].long()
    # A + I, whose entries are in the order of rows.
    order = torch.cat([row, nodes]).argsort(stable=True)
    row, col = torch.cat([row, nodes])[order], torch.cat([col, nodes])[order]
    value = torch.cat([value[edges], value.new_ones(n)])[order]
    place = kept.clusters().cluster.long()
    first, second = (place[row] >= 0).nonzero()[:, 0], (place[col] >= 0).nonzero()[:, 0]
    middle = torch.searchsorted(row[second], torch.arange(n + 1, device=row.device))
    count = middle.diff()[col[first]]
    start = torch.cat([count.new_zeros(1), count.cumsum(0)])
    total = int(start[-1])
    step = ranges_of(start, total)  # of each path
    other = second[middle[col[first]][step] + torch.arange(total, device=row.device) - start[step]]
    one = first[step]
    ends = torch.stack([place[row[one]], place[col[other]]])
    joins = ends[0] != ends[1]
    weight = value[one[joins]] * value[other[joins]]
    return RaggedGraph.from_edge_index(
        ends[:, joins], kept.num_clusters, edge_weight=weight, ptr=kept.cluster_ptr
    )
