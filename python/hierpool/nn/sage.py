"""GraphSAGE message passing for padded and ragged batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool._tracing import is_traced, is_transformed
from hierpool.graph import RaggedGraph
from hierpool.nn.masking import select_valid
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.ops.sage_update import sage_update
from hierpool.ops.spmm import spmm

AGGREGATIONS = ("mean", "sum")
NORMS = ("batch", "slot", None)

Aggregate = Callable[[Tensor], Tensor]


def aggregator(
    adj: Tensor | RaggedGraph, aggregation: str, dtype: torch.dtype, valid: Tensor | None
) -> Aggregate:
    r"""The map :math:`X \mapsto D^{-1} A X`, prepared once for all layers on the same graphs.

    Args:
        adj: ``[B, N, N]`` or ``[1, N, N]`` in the dtype of ``X``, or a ragged graph.
        aggregation: ``"mean"`` with :math:`D = \max(1, A 1)` row-wise, or ``"sum"`` with :math:`D = I`.
        dtype: dtype of ``X``.
        valid: bool ``[B, N]``, or ``None`` if every row is valid.
    """
    if isinstance(adj, RaggedGraph):
        graph = adj
        if aggregation == "sum":
            return lambda x: spmm(graph, x)
        degree = graph.degree.to(dtype).clamp(min=1)[:, None]  # [N, 1]
        # Not times the reciprocal, whose derivative has its square: that is 0 for weights of 1e23.
        return lambda x: spmm(graph, x) / degree
    if valid is not None and adj.shape[0] != valid.shape[0]:
        return _of_one_matrix(adj, aggregation, valid[..., None])
    weights = adj / adj.sum(-1, keepdim=True).clamp(min=1) if aggregation == "mean" else adj
    return lambda x: weights @ x


def _of_one_matrix(adj: Tensor, aggregation: str, valid: Tensor) -> Aggregate:
    """The map of graphs that share ``adj [1, N, N]``, each with its own padding, without a matrix for each graph."""

    def product(x: Tensor) -> Tensor:
        return torch.where(valid, adj @ torch.where(valid, x, 0), 0)

    if aggregation == "sum":
        return product
    share = product(adj.new_ones(())).clamp(min=1).reciprocal()  # [B, N, 1]
    return lambda x: product(x) * share


class SAGEConv(nn.Module):
    r"""One GraphSAGE layer, :math:`Y = D^{-1} A X W_1 + X W_2 + b`.

    :math:`D = \max(1, A 1)` row-wise, as in PyTorch Geometric. On a coarsened graph with small weights, rows with a
    degree less than 1 are summed, not averaged. ``aggregation="sum"`` leaves out :math:`D^{-1}`, and ``root=False``
    leaves out :math:`X W_2`. The product with :math:`A` is taken before or after that with :math:`W_1`, whichever is
    less work.

    Args:
        in_channels: number of input features.
        out_channels: number of output features.
        aggregation: ``"mean"`` or ``"sum"`` over neighbours.
        root: add :math:`X W_2`, the features of the node itself.
        normalize: divide each row of the result by its length.
        bias: add :math:`b`.

    Source: Hamilton et al., NeurIPS 2017 (arXiv:1706.02216).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        aggregation: str = "mean",
        root: bool = True,
        normalize: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation must be one of {AGGREGATIONS}, got {aggregation!r}")
        self.aggregation = aggregation
        self.normalize = normalize
        self.lin_rel = nn.Linear(in_channels, out_channels, bias=bias and not root)
        self.lin_root = nn.Linear(in_channels, out_channels, bias=bias) if root else None

    def reset_parameters(self) -> None:
        """Draw new weights."""
        self.lin_rel.reset_parameters()
        if self.lin_root is not None:
            self.lin_root.reset_parameters()

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Pass messages from neighbours.

        Args:
            x: node features ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
            adj: ``[B, N, N]``, or a ragged graph; row i holds the weights of the messages to node i. ``[N, N]`` or
                ``[1, N, N]`` is the matrix of all graphs; it is not copied for each.
            mask: valid nodes ``[B, N]``; ``None``: all are valid. Padding of ``x`` and ``adj`` is ignored, also if it
                is NaN or inf, and padded rows of the result are 0.

        Returns:
            ``[B, N, out_channels]``, or ``[N, out_channels]``.

        Raises:
            ValueError: shapes do not match, or a mask is given with a ragged graph.
        """
        x, adj, valid = select_valid(x, adj, mask)
        (y,) = propagate((self,), x, aggregator(adj, self.aggregation, x.dtype, valid))
        return y if valid is None else torch.where(valid[..., None], y, 0)


def propagate(
    convs: Sequence[SAGEConv], x: Tensor, aggregate: Aggregate, *, relu: bool = False
) -> tuple[Tensor, ...]:
    """Apply several layers to one batch, whose padding is already 0.

    The layers share the product with the adjacency, and their concatenated weights are multiplied with the features in
    one product.

    Args:
        convs: layers that differ only in their weights and numbers of output features.
        x: their common input, ``[..., in_channels]``.
        aggregate: see :func:`aggregator`.
        relu: whether to apply ReLU to the results.

    Returns:
        The result of each layer; padded rows are finite, not 0.
    """
    relation, bias = _side_by_side([conv.lin_rel for conv in convs])
    root, root_bias = _side_by_side([conv.lin_root for conv in convs if conv.lin_root is not None])
    widths = tuple(conv.lin_rel.out_features for conv in convs)
    # If x needs no gradient, aggregating x itself saves the product with the adjacency in the backward.
    first = x.size(-1) * (2 if x.requires_grad else 1) <= 2 * sum(widths)
    return sage_update(
        aggregate(x) if first else aggregate(F.linear(x, relation)),  # type: ignore[arg-type]
        None if root is None else x,
        relation if first else None,
        root,
        bias if root is None else root_bias,
        widths,
        convs[0].normalize,
        relu,
    )


def _side_by_side(linears: Sequence[nn.Linear]) -> tuple[Tensor | None, Tensor | None]:
    """Weight and bias of the linear map whose result is the concatenation of the results of all maps."""
    if len(linears) < 2:
        return (linears[0].weight, linears[0].bias) if linears else (None, None)
    weights: list[Tensor] = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    return torch.cat(weights), torch.cat(biases) if biases else None


class SAGEStack(nn.Module):
    """A stack of GraphSAGE layers, whose outputs are concatenated.

    ReLU and a normalisation over the batch follow every layer except the last.

    Args:
        in_channels: number of input features.
        hidden_channels: number of output features of every layer except the last.
        out_channels: number of output features of the last layer.
        layers: number of layers, at least 1.
        aggregation, root, normalize: see :class:`SAGEConv`.
        norm: ``"batch"`` (:class:`MaskedBatchNorm`), ``"slot"`` (:class:`SlotBatchNorm`) or ``None``.

    Attributes:
        out_channels: number of features of the concatenation.

    Source: Ying et al., NeurIPS 2018 (arXiv:1806.08804).
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        layers: int = 3,
        aggregation: str = "mean",
        root: bool = True,
        normalize: bool = True,
        norm: str | None = "batch",
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        sizes = [in_channels] + [hidden_channels] * (layers - 1) + [out_channels]
        self.convs = nn.ModuleList(
            SAGEConv(fan_in, fan_out, aggregation=aggregation, root=root, normalize=normalize)
            for fan_in, fan_out in pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            MaskedBatchNorm(hidden_channels) if norm == "batch" else SlotBatchNorm()
            for _ in range(layers - 1 if norm else 0)
        )
        self.aggregation = aggregation
        self.out_channels = sum(sizes[1:])

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Apply the layers.

        Args:
            x, adj, mask: see :meth:`SAGEConv.forward`.

        Returns:
            ``[B, N, out_channels]``, 0 in padding, or ``[N, out_channels]``.

        Raises:
            ValueError: shapes do not match, or a mask or ``norm="slot"`` is used with a ragged graph.
        """
        x, adj, valid = select_valid(x, adj, mask)
        return embed((self,), x, adj, valid)[0]


def embed(
    stacks: Sequence[SAGEStack], x: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None
) -> list[Tensor]:
    """Apply several stacks to one batch, as returned by :func:`select_valid`.

    Their first layers have the same input and share the product with the adjacency (:func:`propagate`).

    Args:
        stacks: stacks with equal aggregation, number of layers and ``root``.
        x: ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
        adj: ``[B, N, N]`` or ``[1, N, N]`` in the dtype of ``x``, or a ragged graph.
        valid: bool ``[B, N]``, or ``None`` if every row is valid.
    """
    aggregate = aggregator(adj, stacks[0].aggregation, x.dtype, valid)
    if valid is not None and _takes_rows(stacks, x):
        rows = _ValidRows(valid)
        found = _embed_rows(stacks, rows.of(x), lambda t: rows.of(aggregate(rows.padded(t))), None)
        return [rows.padded(t) for t in found]
    return _embed_rows(stacks, x, aggregate, valid)


def _takes_rows(stacks: Sequence[SAGEStack], x: Tensor) -> bool:
    """Whether to compute valid rows only. Where sizes cannot be read, padding is computed as well."""
    readable = x.device.type == "cpu" and not is_traced() and not is_transformed()
    return readable and not any(isinstance(norm, SlotBatchNorm) for stack in stacks for norm in stack.norms)


class _ValidRows:
    """The valid rows of a padded batch."""

    def __init__(self, valid: Tensor) -> None:
        self._shape = valid.shape
        self._place = valid.flatten().nonzero()[:, 0]

    def of(self, x: Tensor) -> Tensor:
        """``[M, F]`` of ``x [B, N, F]``."""
        return x.flatten(0, 1).index_select(0, self._place)

    def padded(self, rows: Tensor) -> Tensor:
        """``[B, N, F]`` of ``rows [M, F]``, 0 in padding."""
        b, n = self._shape
        return rows.new_zeros(b * n, rows.size(1)).index_copy(0, self._place, rows).view(b, n, rows.size(1))


def _embed_rows(
    stacks: Sequence[SAGEStack], x: Tensor, aggregate: Aggregate, valid: Tensor | None
) -> list[Tensor]:
    inner = len(stacks[0].convs) > 1
    firsts = propagate([cast(SAGEConv, stack.convs[0]) for stack in stacks], x, aggregate, relu=inner)
    return [
        _embed_from_second(stack, first, aggregate, valid)
        for stack, first in zip(stacks, firsts, strict=True)
    ]


def _embed_from_second(stack: SAGEStack, x: Tensor, aggregate: Aggregate, valid: Tensor | None) -> Tensor:
    """Apply a stack without its first layer to ``x``, the result of the first layer and ReLU."""
    # Columns of padding are 0 in the adjacency, so values in padded rows do not reach other rows.
    outputs = []
    for i, conv in enumerate(stack.convs):
        inner = i + 1 < len(stack.convs)
        if i > 0:
            (x,) = propagate((cast(SAGEConv, conv),), x, aggregate, relu=inner)
        if inner and stack.norms:
            x = stack.norms[i](x, valid)
        outputs.append(x)
    y = torch.cat(outputs, -1)
    return y if valid is None else torch.where(valid[..., None], y, 0)
