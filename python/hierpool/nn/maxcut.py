"""The pooler that keeps one side of a learned cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hierpool.contract import accumulation_dtype, sum_by_index
from hierpool.graph import Assignment, RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.gcn import inverse_root, loops_of
from hierpool.nn.hard_pooling import HardPooling, Selected
from hierpool.nn.mlp import Activation, activation, channels_of
from hierpool.ops.spmm import spmm
from hierpool.selection import propagate, topk
from hierpool.selection._shared import check_count, check_seed
from hierpool.selection.largest import check_ratio


class MaxCutScores(nn.Module):
    r"""The network of the scores: a linear map, layers of messages, a perceptron, and an activation.

    A layer of messages is :math:`\sigma(P^T X W + b)` with :math:`P = I - \delta (I - D^{-1/2} A D^{-1/2})`, of
    :math:`A` without self-loops; with :math:`\delta > 1`, differences between neighbours grow.

    Args:
        in_channels: number of features.
        mp_units: widths of the layers of messages.
        mp_act: their activation.
        mlp_units: widths of the inner layers of the perceptron.
        mlp_act: their activation.
        act: activation of the score.
        delta: :math:`\delta`.
    """

    def __init__(
        self,
        in_channels: int,
        mp_units: Sequence[int] = (32, 32, 32, 32),
        mp_act: Activation = "tanh",
        mlp_units: Sequence[int] = (16, 16),
        mlp_act: Activation = "relu",
        act: Activation = "tanh",
        delta: float = 2.0,
    ) -> None:
        super().__init__()
        mp_units, mlp_units = channels_of("mp_units", mp_units), channels_of("mlp_units", mlp_units)
        widths = [in_channels, *mp_units, *mlp_units]
        self.initial_layer = nn.Linear(in_channels, in_channels)
        pairs = list(pairwise(widths))
        self.mp_convs = nn.ModuleList(_Messages(a, b) for a, b in pairs[: len(mp_units)])
        self.mlp = nn.ModuleList(nn.Linear(a, b) for a, b in pairs[len(mp_units) :])
        self.final_layer = nn.Linear(widths[-1], 1)
        self.mp_act, self.mlp_act, self.act = map(_function, (mp_act, mlp_act, act))
        self.delta = delta

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for layer in (self.initial_layer, *self.mp_convs, *self.mlp, self.final_layer):
            layer.reset_parameters()

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """The score of each node, ``[N]``."""
        loops = loops_of(graph)
        degree = (graph.degree - loops).to(accumulation_dtype(x, graph.value))
        scale = inverse_root(degree).to(x.dtype)[:, None]
        loops = loops.to(x.dtype)[:, None]

        def messages(h: Tensor) -> Tensor:
            scaled = scale * h
            neighbours = scale * (spmm(graph, scaled, transpose=True) - loops * scaled)
            return (1 - self.delta) * h + self.delta * neighbours

        x = self.initial_layer(x)
        for conv in self.mp_convs:
            x = self.mp_act(messages(conv.lin(x)) + conv.bias)  # type: ignore[operator]
        for lin in self.mlp:
            x = self.mlp_act(lin(x))
        return self.act(self.final_layer(x))[:, 0]


def _function(act: Activation) -> Callable[[Tensor], Tensor]:
    found = activation(act)
    return found if found is not None else lambda x: x


class _Messages(nn.Module):
    """The parameters of a layer of messages, with the names of PyTorch Geometric's."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.lin.weight.numel():
            nn.init.xavier_uniform_(self.lin.weight)
        nn.init.zeros_(self.bias)


class MaxCutPool(HardPooling, name="maxcut"):
    r"""Keep the best nodes by a score that differs between neighbours, and merge all others into those near them.

    .. math::
        x'_k = \sum_{i:\, c_i = k} s_i x_i, \qquad
        L = \frac{1}{B} \sum_b \frac{s_b^T A_b s_b}{1^T A_b 1}

    A network (:class:`hierpool.nn.maxcut.MaxCutScores`) makes the scores :math:`s_i`. The loss, ``"maxcut_loss"``, is
    small if neighbours have scores of different signs; a graph without edges adds 0. The nodes of each graph with the
    largest scores are kept, and :func:`hierpool.selection.propagate` assigns the others to them; supernodes are in the
    order of these nodes. With ``assign_all_nodes=False`` they are in descending order of scores.

    Args:
        in_channels: number of features.
        ratio: part of the nodes of each graph to keep, rounded up. Not used if ``k`` is given.
        k: number of nodes of each graph to keep.
        assign_all_nodes: merge the other nodes; otherwise they are dropped.
        max_iter: rounds of the assignment.
        loss_coeff: factor of the loss.
        mp_units, mp_act, mlp_units, mlp_act, act, delta: see :class:`hierpool.nn.maxcut.MaxCutScores`.
        edge_weight_norm: as in :class:`hierpool.nn.HardPooling`.
        seed: selects the supernodes of nodes that the assignment does not reach.
        options: see :class:`hierpool.nn.HardPooling`.

    Source: Abate and Bianchi, ICLR 2025 (arXiv:2409.05100).
    """

    def __init__(
        self,
        in_channels: int,
        ratio: float = 0.5,
        *,
        k: int | None = None,
        assign_all_nodes: bool = True,
        max_iter: int = 5,
        loss_coeff: float = 1.0,
        mp_units: Sequence[int] = (32, 32, 32, 32),
        mp_act: Activation = "tanh",
        mlp_units: Sequence[int] = (16, 16),
        mlp_act: Activation = "relu",
        act: Activation = "tanh",
        delta: float = 2.0,
        edge_weight_norm: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(edge_weight_norm=edge_weight_norm, **options)
        self.in_channels = check_size("in_channels", in_channels)
        self.ratio = ratio if k is not None else check_ratio(ratio, "; give k for a number of nodes")
        self.k = None if k is None else check_count("k", k)
        self.assign_all_nodes, self.max_iter = assign_all_nodes, check_count("max_iter", max_iter)
        self.loss_coeff, self.seed = loss_coeff, check_seed(seed)
        self.score_net = MaxCutScores(in_channels, mp_units, mp_act, mlp_units, mlp_act, act, delta)

    def reset_parameters(self) -> None:
        """Draw new weights for the scores."""
        self.score_net.reset_parameters()

    def select(self, x: Tensor, graph: RaggedGraph) -> Selected:
        """The best nodes, and those that are merged into them."""
        score = self.score_net(x, graph)
        kept = topk(score, graph, ratio=self.ratio) if self.k is None else topk(score, graph, k=self.k)
        if not self.assign_all_nodes:
            chosen = Assignment.from_kept(kept.nodes, graph, score.index_select(0, kept.nodes))
        else:
            chosen = Assignment.from_kept(kept.nodes.sort()[0], graph)
            first = chosen.cluster_ptr[:-1][graph.graph_of_node()]
            cluster = chosen.clusters().cluster
            label = graph.in_callers_order(torch.where(cluster < 0, -1, cluster - first))
            label = propagate(graph, label, hops=self.max_iter, seed=self.seed)
            chosen = Assignment.from_clusters(label, graph, score, chosen.cluster_ptr.diff())
        return Selected(chosen, score, {"maxcut_loss": self.loss_coeff * maxcut_loss(score, graph)})

    def extra_repr(self) -> str:
        kept = f"ratio={self.ratio}" if self.k is None else f"k={self.k}"
        return f"{kept}, assign_all_nodes={self.assign_all_nodes}, {super().extra_repr()}"


def maxcut_loss(score: Tensor, graph: RaggedGraph) -> Tensor:
    r"""The mean over graphs of :math:`s^T A s / 1^T A 1`, 0-d, where a sum of weights that is 0 is taken as 1."""
    products = score * spmm(graph, score[:, None])[:, 0]
    per_graph = sum_by_index(products, graph.batch, graph.num_graphs)
    volume = sum_by_index(graph.degree, graph.batch, graph.num_graphs).to(per_graph.dtype)
    return (per_graph / torch.where(volume == 0, 1, volume)).sum() / max(graph.num_graphs, 1)
