"""Graph convolution on ragged batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hierpool.contract import accumulation_dtype, sum_by_index
from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.graph.values import ones_or_values
from hierpool.ops._checks import check_features
from hierpool.ops.spmm import spmm


class GCNConv(nn.Module):
    r"""One layer of graph convolution, :math:`Y = \hat D^{-1/2} \hat A^T \hat D^{-1/2} X W + b`.

    :math:`\hat A = A + w I`, where nodes with a self-loop keep its weight instead, and :math:`\hat D` are the column
    sums of :math:`\hat A`. Messages go along the edges, from rows to columns. Results and the names of parameters are
    those of PyTorch Geometric's layer, but for ``improved``, which that layer ignores on graphs without weights.

    Args:
        in_channels: number of input features.
        out_channels: number of output features.
        improved: :math:`w = 2` instead of 1.
        bias: add :math:`b`.

    Source: Kipf and Welling, ICLR 2017 (arXiv:1609.02907).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, improved: bool = False, bias: bool = True
    ) -> None:
        super().__init__()
        check_size("in_channels", in_channels), check_size("out_channels", out_channels)
        self.improved = improved
        self.lin = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        if self.lin.weight.numel():
            nn.init.xavier_uniform_(self.lin.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, graph: RaggedGraph) -> Tensor:
        """Pass messages along the edges.

        Args:
            x: node features ``[N, in_channels]``, in the caller's order of nodes.
            graph: the batch of graphs.

        Returns:
            ``[N, out_channels]``.

        Raises:
            TypeError, ValueError: an argument is invalid; the message names it.
        """
        check_features(graph, x)
        own, dtype = self.added_loops(graph), accumulation_dtype(x, graph.value)
        scale = inverse_root(column_sums(graph).to(dtype) + own).to(x.dtype)[:, None]
        h = self.lin(x) * scale
        y = scale * (spmm(graph, h, transpose=True) + own.to(x.dtype)[:, None] * h)
        return y if self.bias is None else y + self.bias

    def added_loops(self, graph: RaggedGraph) -> Tensor:
        """The weights of the self-loops that nodes without one get, ``[N]`` in the caller's order."""
        row = graph.row.long()
        loops = row[graph.row == graph.col]
        has_one = torch.zeros(graph.num_nodes, dtype=torch.bool, device=row.device).index_fill(0, loops, True)
        return graph.in_callers_order(torch.where(has_one, 0.0, 2.0 if self.improved else 1.0))

    def extra_repr(self) -> str:
        return f"improved={self.improved}"


def column_sums(graph: RaggedGraph) -> Tensor:
    """:math:`A^T 1`, ``[N]``, in the caller's order of nodes; float32 without values."""
    if graph.value is None and graph.is_symmetric:
        return graph.degree  # of values, the gradients of rows are others
    value = ones_or_values(graph, torch.float32)
    return graph.in_callers_order(sum_by_index(value, graph.col, graph.num_nodes))


def loops_of(graph: RaggedGraph) -> Tensor:
    """The weight of the self-loop of each node, ``[N]``, in the caller's order; 0 of nodes without one."""
    value = ones_or_values(graph, torch.float32)
    loops = torch.where(graph.row == graph.col, value, 0)
    return graph.in_callers_order(sum_by_index(loops, graph.row, graph.num_nodes))


def inverse_root(degree: Tensor) -> Tensor:
    r""":math:`d^{-1/2}`, and 0 where d is not positive."""
    positive = degree > 0
    # Not rsqrt, whose derivative has the cube of the result: it overflows for weights of 1e-26.
    return torch.where(positive, torch.where(positive, degree, 1).sqrt().reciprocal(), 0)
