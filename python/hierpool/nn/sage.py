"""GraphSAGE message passing, on padded batches with dense adjacency and on ragged batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.nn.by_hand import combine
from hierpool.nn.masking import select_valid
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.ops.spmm import spmm

AGGREGATIONS = ("mean", "sum")
NORMS = ("batch", "slot", None)

Aggregate = Callable[[Tensor], Tensor]


def aggregator(adj: Tensor | RaggedGraph, aggregation: str, dtype: torch.dtype) -> Aggregate:
    r"""The map :math:`X \mapsto D^{-1} A X`, prepared once for all layers that work on the same graphs.

    Args:
        adj: ``[B, N, N]`` in the dtype of ``X``, or a ragged graph.
        aggregation: ``"mean"`` with :math:`D = \max(1, A 1)` row-wise, or ``"sum"`` with :math:`D = I`.
        dtype: of ``X``.
    """
    if isinstance(adj, RaggedGraph):
        graph = adj
        if aggregation == "sum":
            return lambda x: spmm(graph, x)
        share = graph.degree.to(dtype).clamp(min=1).reciprocal()[:, None]  # [N, 1]
        return lambda x: spmm(graph, x) * share
    weights = adj / adj.sum(-1, keepdim=True).clamp(min=1) if aggregation == "mean" else adj
    return lambda x: weights @ x


class SAGEConv(nn.Module):
    r"""One GraphSAGE layer, :math:`Y = D^{-1} A X W_1 + X W_2 + b`.

    :math:`D = \max(1, A 1)` row-wise, as PyTorch Geometric has it: on a coarsened graph, whose weights are small
    real numbers, rows of degree below 1 are summed, not averaged. With ``aggregation="sum"`` there is no
    :math:`D`, with ``root=False`` no :math:`W_2`. The neighbours' features are summed before or after they are
    multiplied by :math:`W_1`, whichever is less work.

    Args:
        in_channels: features of a node.
        out_channels: features of the result.
        aggregation: ``"mean"`` or ``"sum"`` over neighbours.
        root: add the node's own features through :math:`W_2`.
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
        """Draw the weights anew."""
        self.lin_rel.reset_parameters()
        if self.lin_root is not None:
            self.lin_root.reset_parameters()

    def forward(self, x: Tensor, adj: Tensor | RaggedGraph, mask: Tensor | None = None) -> Tensor:
        """Pass messages from neighbours.

        Args:
            x: node features ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
            adj: ``[B, N, N]``, or a ragged graph; row i holds the weights with which node i hears the others.
            mask: valid nodes ``[B, N]``. Padding of ``x`` and ``adj`` (NaN and inf included) is not read, and
                padded rows of the result are 0. Without a mask every row is valid.

        Returns:
            ``[B, N, out_channels]``, or ``[N, out_channels]``.

        Raises:
            ValueError: shapes that disagree, or a mask beside a ragged graph.
        """
        x, adj, valid = select_valid(x, adj, mask)
        (y,) = propagate((self,), x, aggregator(adj, self.aggregation, x.dtype))
        return y if valid is None else torch.where(valid[..., None], y, 0)


def propagate(
    convs: Sequence[SAGEConv], x: Tensor, aggregate: Aggregate, *, relu: bool = False
) -> tuple[Tensor, ...]:
    """Several layers of one kind on the same batch, whose padding is already zero.

    They share the product with the adjacency, and their weights side by side make one product with the features.

    Args:
        convs: layers that differ in their weights and widths alone.
        x: their common input, ``[..., in_channels]``.
        aggregate: see :func:`aggregator`.
        relu: whether ReLU follows.

    Returns:
        Each layer's result; padded rows are finite, not zero.
    """
    relation, bias = _side_by_side([conv.lin_rel for conv in convs])
    root, root_bias = _side_by_side([conv.lin_root for conv in convs if conv.lin_root is not None])
    widths = tuple(conv.lin_rel.out_features for conv in convs)
    # Without a gradient to x, backward needs no product with the adjacency where it is applied to x itself.
    first = x.size(-1) * (2 if x.requires_grad else 1) <= 2 * sum(widths)
    return combine(
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
    """Weight and bias of one linear map whose result is the results of all, concatenated."""
    if len(linears) < 2:
        return (linears[0].weight, linears[0].bias) if linears else (None, None)
    weights: list[Tensor] = [linear.weight for linear in linears]
    biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
    return torch.cat(weights), torch.cat(biases) if biases else None


class SAGEStack(nn.Module):
    """GraphSAGE layers in a row, the outputs of all of them concatenated.

    Every layer but the last is followed by ReLU and a normalisation over the batch.

    Args:
        in_channels: features of a node.
        hidden_channels: features of every layer's result but the last.
        out_channels: features of the last layer's result.
        layers: how many, at least 1.
        aggregation, root, normalize: see :class:`SAGEConv`.
        norm: ``"batch"`` (:class:`MaskedBatchNorm`), ``"slot"`` (:class:`SlotBatchNorm`) or ``None``.

    Attributes:
        out_channels: features of the concatenation.

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
        """Embed the nodes of ``x [B, N, F]``, ``adj [B, N, N]``, ``mask [B, N]`` as ``[B, N, out_channels]``.

        Or those of a ragged graph: ``x [N, F]`` as ``[N, out_channels]``. Padding is not read and its rows of the
        result are 0.

        Raises:
            ValueError: shapes that disagree, a mask beside a ragged graph, or ``norm="slot"`` on one.
        """
        x, adj, valid = select_valid(x, adj, mask)
        return embed((self,), x, adj, valid)[0]


def embed(
    stacks: Sequence[SAGEStack], x: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None
) -> list[Tensor]:
    """What several stacks make of one batch, as :func:`select_valid` returns it.

    Their first layers, whose inputs are the same, share the product with the adjacency (:func:`propagate`).

    Args:
        stacks: of one aggregation and number of layers, with or without root alike.
        x: ``[B, N, F]``, or ``[N, F]`` with a ragged graph.
        adj: ``[B, N, N]`` in the dtype of ``x``, or a ragged graph.
        valid: bool ``[B, N]``, or ``None`` if every row is valid.
    """
    aggregate = aggregator(adj, stacks[0].aggregation, x.dtype)
    inner = len(stacks[0].convs) > 1
    firsts = propagate([cast(SAGEConv, stack.convs[0]) for stack in stacks], x, aggregate, relu=inner)
    return [
        _embed_from_second(stack, first, aggregate, valid)
        for stack, first in zip(stacks, firsts, strict=True)
    ]


def _embed_from_second(stack: SAGEStack, x: Tensor, aggregate: Aggregate, valid: Tensor | None) -> Tensor:
    """The rest of a stack after its first layer, whose result, and ReLU, is ``x``."""
    # Columns of padding are zero in the adjacency, so what a layer leaves in padded rows stays there.
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
