"""The networks of PyTorch Geometric's examples on PROTEINS: DiffPool, MinCut and DMoN, on padded batches.

This module does not use hierpool. Layers, sizes and the order of operations are those of ``proteins_diff_pool.py``,
``proteins_mincut_pool.py`` and ``proteins_dmon_pool.py`` in PyTorch Geometric's repository.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import (
    DenseGraphConv,
    DenseSAGEConv,
    DMoNPooling,
    GCNConv,
    dense_diff_pool,
    dense_mincut_pool,
)
from torch_geometric.utils import to_dense_adj, to_dense_batch

MAX_NODES = 150  # DiffPool's network is trained on smaller graphs only

# Class scores [B, C], and auxiliary losses by name.
Output = tuple[Tensor, dict[str, Tensor]]


class SAGEBlock(nn.Module):
    """Three GraphSAGE layers with ReLU and batch norm, concatenated, and optionally a linear layer."""

    def __init__(
        self, fan_in: int, hidden: int, fan_out: int, *, linear: bool, conv: Any = DenseSAGEConv
    ) -> None:
        super().__init__()
        self.conv1 = conv(fan_in, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.conv2 = conv(hidden, hidden)
        self.bn2 = nn.BatchNorm1d(hidden)
        self.conv3 = conv(hidden, fan_out)
        self.bn3 = nn.BatchNorm1d(fan_out)
        self.linear = nn.Linear(2 * hidden + fan_out, fan_out) if linear else None

    def forward(self, x: Tensor, adj: Any, mask: Tensor | None = None) -> Tensor:
        outputs = []
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = conv(x, adj, mask).relu()
            x = norm(x.flatten(0, -2)).view_as(x)
            outputs.append(x)
        x = torch.cat(outputs, -1)
        return x if self.linear is None else self.linear(x).relu()


class DiffPoolNet(nn.Module):
    """Two levels of DiffPool with GraphSAGE blocks; each keeps a quarter of the nodes."""

    def __init__(self, in_channels: int, classes: int, *, conv: Any = DenseSAGEConv) -> None:
        super().__init__()
        k1 = ceil(0.25 * MAX_NODES)
        k2 = ceil(0.25 * k1)
        self.assign1 = SAGEBlock(in_channels, 64, k1, linear=True, conv=conv)
        self.embed1 = SAGEBlock(in_channels, 64, 64, linear=False, conv=conv)
        self.assign2 = SAGEBlock(3 * 64, 64, k2, linear=True, conv=conv)
        self.embed2 = SAGEBlock(3 * 64, 64, 64, linear=False, conv=conv)
        self.embed3 = SAGEBlock(3 * 64, 64, 64, linear=False, conv=conv)
        self.lin1 = nn.Linear(3 * 64, 64)
        self.lin2 = nn.Linear(64, classes)

    def forward(self, data: Any) -> Output:
        x, adj, mask = data.x, data.adj, data.mask
        s, z = self.assign1(x, adj, mask), self.embed1(x, adj, mask)
        x, adj, link1, entropy1 = dense_diff_pool(z, adj, s, mask)
        s, z = self.assign2(x, adj), self.embed2(x, adj)
        x, adj, link2, entropy2 = dense_diff_pool(z, adj, s)
        return self.classify(self.embed3(x, adj)), {"link": link1 + link2, "entropy": entropy1 + entropy2}

    def classify(self, x: Tensor) -> Tensor:
        x = self.lin1(x.mean(1)).relu()
        return F.log_softmax(self.lin2(x), -1)


class MinCutNet(nn.Module):
    """A GCN layer and two levels of MinCut pooling, to a half and a quarter of the mean number of nodes."""

    def __init__(self, in_channels: int, classes: int, mean_nodes: int, *, conv: Any = GCNConv) -> None:
        super().__init__()
        hidden = 32
        k1 = ceil(0.5 * mean_nodes)
        k2 = ceil(0.5 * k1)
        self.conv1 = conv(in_channels, hidden)
        self.pool1 = self.pooling(hidden, k1)
        self.conv2 = DenseGraphConv(hidden, hidden)
        self.pool2 = self.pooling(hidden, k2)
        self.conv3 = DenseGraphConv(hidden, hidden)
        self.lin1 = nn.Linear(hidden, hidden)
        self.lin2 = nn.Linear(hidden, classes)

    def pooling(self, hidden: int, k: int) -> nn.Module:
        return nn.Linear(hidden, k)

    def forward(self, data: Any) -> Output:
        x = self.conv1(data.x, data.edge_index).relu()
        x, mask = to_dense_batch(x, data.batch)
        adj = to_dense_adj(data.edge_index, data.batch)
        x, adj, cut1, ortho1 = dense_mincut_pool(x, adj, self.pool1(x), mask)
        x = self.conv2(x, adj).relu()
        x, adj, cut2, ortho2 = dense_mincut_pool(x, adj, self.pool2(x))
        return self.classify(self.conv3(x, adj)), {"cut": cut1 + cut2, "ortho": ortho1 + ortho2}

    def classify(self, x: Tensor) -> Tensor:
        x = self.lin1(x.mean(1)).relu()
        return F.log_softmax(self.lin2(x), -1)


class DMoNNet(MinCutNet):
    """The same network with DMoN pooling."""

    def pooling(self, hidden: int, k: int) -> nn.Module:
        return DMoNPooling([hidden, hidden], k)

    def forward(self, data: Any) -> Output:
        x = self.conv1(data.x, data.edge_index).relu()
        x, mask = to_dense_batch(x, data.batch)
        adj = to_dense_adj(data.edge_index, data.batch)
        _, x, adj, spectral1, _, cluster1 = self.pool1(x, adj, mask)
        x = self.conv2(x, adj).relu()
        _, x, adj, spectral2, _, cluster2 = self.pool2(x, adj)
        return self.classify(self.conv3(x, adj)), {
            "spectral": spectral1 + spectral2,
            "cluster": cluster1 + cluster2,
        }
