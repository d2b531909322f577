"""The networks of ``proteins_pyg.py`` with the same parameters on ``edge_index``, without padding and N x N tensors."""

from __future__ import annotations

from typing import Any

import torch
from proteins_pyg import DiffPoolNet, DMoNNet, MinCutNet, Output
from torch import Tensor, nn

import hierpool
from hierpool import RaggedGraph
from hierpool.nn import SAGEConv


class SparseDiffPoolNet(DiffPoolNet):
    """DiffPool on sparse batches. Batch norm averages over nodes only; that of the padded network includes padding."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__(in_channels, classes, conv=SAGEConv)

    def forward(self, data: Any) -> Output:
        graph = RaggedGraph.from_pyg(data)
        s, z = self.assign1(data.x, graph), self.embed1(data.x, graph)
        x, adj, link1, entropy1, *_ = hierpool.diff_pool(z, graph, s)
        s, z = self.assign2(x, adj), self.embed2(x, adj)
        x, adj, link2, entropy2 = hierpool.dense_diff_pool(z, adj, s)
        return self.classify(self.embed3(x, adj)), {"link": link1 + link2, "entropy": entropy1 + entropy2}


class GCN(nn.Module):
    r"""PyTorch Geometric's ``GCNConv``, :math:`\hat D^{-1/2} (A + I) \hat D^{-1/2} X W + b`, on a ragged graph."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        scale = (graph.degree + 1).rsqrt()[:, None]
        x = scale * self.lin(x)
        return scale * (hierpool.spmm(graph, x) + x) + self.bias


class SparseMinCutNet(MinCutNet):
    """MinCut pooling on sparse batches."""

    def __init__(self, in_channels: int, classes: int, mean_nodes: int) -> None:
        super().__init__(in_channels, classes, mean_nodes, conv=GCN)

    def forward(self, data: Any) -> Output:
        graph = RaggedGraph.from_pyg(data)
        x = self.conv1(data.x, graph).relu()
        x, adj, cut1, ortho1, *_ = hierpool.mincut_pool(x, graph, self.pool1(x))
        x = self.conv2(x, adj).relu()
        x, adj, cut2, ortho2 = hierpool.dense_mincut_pool(x, adj, self.pool2(x))
        return self.classify(self.conv3(x, adj)), {"cut": cut1 + cut2, "ortho": ortho1 + ortho2}


class SparseDMoNNet(DMoNNet):
    """DMoN pooling on sparse batches."""

    def __init__(self, in_channels: int, classes: int, mean_nodes: int) -> None:
        super().__init__(in_channels, classes, mean_nodes, conv=GCN)

    def pooling(self, hidden: int, k: int) -> nn.Module:
        return hierpool.DMoNPooling([hidden, hidden], k)

    def forward(self, data: Any) -> Output:
        graph = RaggedGraph.from_pyg(data)
        x = self.conv1(data.x, graph).relu()
        _, x, adj, spectral1, _, cluster1 = self.pool1(x, edge_index=graph)
        x = self.conv2(x, adj).relu()
        _, x, adj, spectral2, _, cluster2 = self.pool2(x, adj)
        return self.classify(self.conv3(x, adj)), {
            "spectral": spectral1 + spectral2,
            "cluster": cluster1 + cluster2,
        }
