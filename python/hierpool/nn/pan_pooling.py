"""The pooler that keeps the nodes with the best sums of features and of paths."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.nn.gcn import column_sums, inverse_root
from hierpool.nn.score_pooling import ScorePooling
from hierpool.ops.spmm import spmm


class PANPool(ScorePooling, name="pan"):
    r"""Keep the best nodes by a projection of their features and the weights of the paths that end in them.

    .. math::
        \mathrm{score} = \beta_0 X p + \beta_1 M^T 1, \qquad
        M = Z^{-1/2} \sum_{n=0}^{L} w_n A^n Z^{-1/2}, \qquad Z = \operatorname{diag}\Bigl(\sum_n w_n A^n 1\Bigr)

    Neither a power of :math:`A` nor :math:`M` is stored: the sums take :math:`2 L` products of :math:`A` with a vector.
    :math:`Z^{-1/2}` is 0 where :math:`Z` is not positive. PyTorch Geometric's ``PANConv`` divides by the numbers of
    stored entries of the rows of M instead of :math:`Z`, which are those of the paper, and its ``PANPooling`` keeps the
    entries of M: that is the pooler with ``filter_size=None`` on the graph M.

    Args:
        in_channels: number of features.
        ratio, options: see :class:`hierpool.nn.ScorePooling`.
        filter_size: :math:`L`; ``None``: the graph is :math:`M`.

    Source: Ma et al., "Path Integral Based Convolution and Pooling for Graph Neural Networks", NeurIPS 2020
    (arXiv:2006.16811).
    """

    def __init__(
        self, in_channels: int, ratio: float = 0.5, *, filter_size: int | None = 3, **options: Any
    ) -> None:
        super().__init__(ratio, **options)
        self.in_channels = check_size("in_channels", in_channels)
        self.filter_size = None if filter_size is None else check_size("filter_size", filter_size)
        self.p = nn.Parameter(torch.empty(in_channels))
        self.beta = nn.Parameter(torch.empty(2))
        self.weight = None if filter_size is None else nn.Parameter(torch.empty(filter_size + 1))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set all parameters to the values of the original code: :math:`p = 1`, :math:`\\beta = w = 0.5`."""
        nn.init.ones_(self.p)
        nn.init.constant_(self.beta, 0.5)
        if self.weight is not None:
            nn.init.constant_(self.weight, 0.5)

    def scores(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """The weighted sum of both."""
        return self.beta[0] * (x @ self.p) + self.beta[1] * self.paths(graph, x.dtype)

    def paths(self, graph: RaggedGraph, dtype: torch.dtype) -> Tensor:
        """:math:`M^T 1`, ``[N]``, in the caller's order of nodes."""
        if self.weight is None:
            return column_sums(graph).to(dtype)
        ones = self.weight.new_ones(graph.num_nodes, dtype=dtype)
        root = inverse_root(self._sum(graph, ones, False))
        return root * self._sum(graph, root, True)

    def _sum(self, graph: RaggedGraph, v: Tensor, transpose: bool) -> Tensor:
        """:math:`\\sum_n w_n A^n v` by Horner's rule."""
        assert self.weight is not None
        weight = self.weight.to(v.dtype)
        total = weight[-1] * v
        for n in range(weight.numel() - 2, -1, -1):
            total = spmm(graph, total[:, None], transpose=transpose)[:, 0] + weight[n] * v
        return total

    def extra_repr(self) -> str:
        return f"filter_size={self.filter_size}, {super().extra_repr()}"
