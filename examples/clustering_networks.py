"""Networks that cluster the nodes of one sparse graph, with the layers of the code of each paper."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool import RaggedGraph, spmm
from hierpool.nn import (
    AsymCheegerCutPool,
    DMoNPool,
    GTVConv,
    HOSCPool,
    JustBalancePool,
    MinCutPool,
    PoolingOutput,
    SoftPooling,
)


class SparseFeatures:
    """Features ``X [N, F]`` with few non-zeros, and their products with weights ``[F, H]``."""

    def __init__(self, x: Tensor) -> None:
        self.channels = x.size(1)
        # CSR for the product, CSC for its gradient.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
            self.csr, self.csc = x.to_sparse_csr(), x.t().to_sparse_csr()
        self.dense = x if x.count_nonzero() > 0.05 * x.numel() else None

    def __matmul__(self, weight: Tensor) -> Tensor:
        if self.dense is not None and weight.size(1) > 100:  # a dense product is faster
            return self.dense @ weight
        return _SparseProduct.apply(weight, self)


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: SparseFeatures) -> Tensor:
        ctx.x = x
        return x.csr @ weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.x.csc @ grad, None


class Inputs(NamedTuple):
    """A graph and its features. No tensor is larger than the features or the edges."""

    x: SparseFeatures
    graph: RaggedGraph  # A
    normalised: RaggedGraph  # D^(-1/2) A D^(-1/2)

    @classmethod
    def of(cls, x: Tensor, graph: RaggedGraph) -> Inputs:
        """Divide every row of the features by its sum, and normalise the adjacency matrix."""
        x = x / x.sum(1, keepdim=True).clamp(min=1e-12)
        scale = graph.degree.clamp(min=1).rsqrt()
        weights = scale[graph.row] * scale[graph.col]
        weights = weights if graph.value is None else weights * graph.value
        return cls(SparseFeatures(x), graph, graph.with_value(weights, symmetric=True))


class SkipConv(nn.Module):
    r"""A graph convolution with a skip connection, :math:`\sigma(\tilde A X W + X V + b)`."""

    def __init__(self, in_channels: int, out_channels: int, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.weights = nn.Parameter(torch.empty(in_channels, 2 * out_channels))  # W and V
        nn.init.kaiming_normal_(self.weights, mode="fan_out")  # torch calls the first dimension fan out
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: SparseFeatures, graph: RaggedGraph) -> Tensor:
        xw, xv = (x @ self.weights).chunk(2, 1)
        return self.act(spmm(graph, xw.contiguous()) + xv + self.bias)


class ScaledSkipConv(nn.Module):
    r"""The layer of DMoN, :math:`\mathrm{selu}(\hat A X W + X W \, \mathrm{diag}(v) + b)` with the
    normalised :math:`\hat A` of :math:`A + I`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_channels, out_channels)))
        self.scale = nn.Parameter(torch.ones(out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: SparseFeatures, graph: RaggedGraph) -> Tensor:
        x = x @ self.weight
        root = (graph.degree + 1).rsqrt()[:, None]
        scaled = root * x
        return F.selu(root * (spmm(graph, scaled) + scaled) + x * self.scale + self.bias)


class Smoothing(nn.Module):
    r"""The layer of Just Balance, :math:`\mathrm{relu}((I - \delta L) X W + b)` with :math:`L = I - \tilde A`."""

    def __init__(self, in_channels: int, out_channels: int, delta: float = 0.85) -> None:
        super().__init__()
        self.delta = delta
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(in_channels, out_channels)))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor | SparseFeatures, graph: RaggedGraph) -> Tensor:
        x = x @ self.weight
        step = self.delta * (graph.degree > 0)[:, None].to(x.dtype)  # L is 0 for a node without edges
        return (torch.lerp(x, spmm(graph, x), step) + self.bias).relu()


def glorot(net: nn.Module) -> None:
    """Initialise the linear layers of the pooler as Keras does, which the authors used."""
    for layer in net.pool.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class CutNet(nn.Module):
    """One convolution with 16 features, and a pooler on the normalised graph."""

    def __init__(self, in_channels: int, pool: SoftPooling) -> None:
        super().__init__()
        self.conv = SkipConv(in_channels, 16, F.elu)
        self.pool = pool
        glorot(self)

    def forward(self, data: Inputs) -> PoolingOutput:
        return self.pool(self.conv(data.x, data.normalised), data.normalised)


def mincut(in_channels: int, k: int) -> nn.Module:
    """The network of MinCutPool for clustering."""
    return CutNet(in_channels, MinCutPool(16, k, symmetric=True))


def hosc(in_channels: int, k: int) -> nn.Module:
    """The same network with HOSC, whose code has no clustering. The weights of its terms are those of MinCut."""
    return CutNet(in_channels, HOSCPool(16, k, mu=1 / k, alpha=0.5, symmetric=True))


class DMoN(nn.Module):
    """One convolution with 64 features, and DMoN with dropout of the logits.

    The loss is that of the paper. Its code has half the modularity, with half the null model.
    """

    def __init__(self, in_channels: int, k: int) -> None:
        super().__init__()
        self.conv = ScaledSkipConv(in_channels, 64)
        self.assign = nn.Linear(64, k)
        nn.init.orthogonal_(self.assign.weight)
        nn.init.zeros_(self.assign.bias)
        self.pool = DMoNPool(64, k, assignment=self.assign, symmetric=True)

    def forward(self, data: Inputs) -> PoolingOutput:
        x = self.conv(data.x, data.graph)
        return self.pool(x, data.graph, logits=F.dropout(self.assign(x), 0.5, self.training))


class JustBalance(nn.Module):
    """Ten smoothing convolutions with 64 features, a perceptron, and Just Balance."""

    def __init__(self, in_channels: int, k: int) -> None:
        super().__init__()
        self.smooth = nn.ModuleList(Smoothing(64 if i else in_channels, 64) for i in range(10))
        self.pool = JustBalancePool([64, 16], k, act="relu", symmetric=True)
        glorot(self)

    def forward(self, data: Inputs) -> PoolingOutput:
        x: Any = data.x
        for layer in self.smooth:
            x = layer(x, data.normalised)
        return self.pool(x, data.normalised)


class TVGNN(nn.Module):
    """Two convolutions that decrease the total variation, and the asymmetric Cheeger cut."""

    def __init__(self, in_channels: int, k: int, hidden: tuple[int, int] = (512, 256)) -> None:
        super().__init__()
        self.first = GTVConv(in_channels, hidden[0], delta_coeff=0.311, act="elu")
        self.second = GTVConv(*hidden, delta_coeff=0.311, act="elu")
        options: dict[str, Any] = {"totvar_coeff": 0.785, "balance_coeff": 0.514, "act": "relu"}
        self.pool = AsymCheegerCutPool([hidden[1]] * 2, k, symmetric=True, **options)
        glorot(self)

    def forward(self, data: Inputs) -> PoolingOutput:
        x = self.first.propagate(data.x @ self.first.weight, data.graph)
        return self.pool(self.second(x, data.graph), data.graph)
