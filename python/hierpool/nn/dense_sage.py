"""GraphSAGE message passing on padded batches with dense adjacency."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from hierpool.nn.masking import select_valid
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm, l2_normalize

AGGREGATIONS = ("mean", "sum")
NORMS = ("batch", "slot", None)


class DenseSAGEConv(nn.Module):
    r"""One GraphSAGE layer, :math:`Y = D^{-1} A X W_1 + X W_2 + b`.

    :math:`D = \max(1, A 1)` row-wise, as PyTorch Geometric has it: on a coarsened graph, whose weights are small
    real numbers, rows of degree below 1 are summed, not averaged. With ``aggregation="sum"`` there is no
    :math:`D`, with ``root=False`` no :math:`W_2`.

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

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pass messages from neighbours.

        Args:
            x: node features ``[B, N, F]``.
            adj: ``[B, N, N]``; row i holds the weights with which node i hears the others.
            mask: valid nodes ``[B, N]``. Padding of ``x`` and ``adj`` (NaN and inf included) is not read, and
                padded rows of the result are 0. Without a mask every row is valid.

        Returns:
            ``[B, N, out_channels]``.

        Raises:
            ValueError: shapes that disagree.
        """
        x, adj, valid = select_valid(x, adj, mask)
        y = self.propagate(x, adj)
        return y if valid is None else torch.where(valid[..., None], y, 0)

    def propagate(self, x: Tensor, adj: Tensor) -> Tensor:
        """The layer on a batch whose padding is already zero; padded rows of the result are finite, not zero."""
        y = adj @ x
        if self.aggregation == "mean":
            y = y / adj.sum(-1, keepdim=True).clamp(min=1)
        y = self.lin_rel(y)
        if self.lin_root is not None:
            y = y + self.lin_root(x)
        return l2_normalize(y) if self.normalize else y


class DenseSAGEStack(nn.Module):
    """GraphSAGE layers in a row, the outputs of all of them concatenated.

    Every layer but the last is followed by ReLU and a normalisation over the batch.

    Args:
        in_channels: features of a node.
        hidden_channels: features of every layer's result but the last.
        out_channels: features of the last layer's result.
        layers: how many, at least 1.
        aggregation, root, normalize: see :class:`DenseSAGEConv`.
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
            DenseSAGEConv(fan_in, fan_out, aggregation=aggregation, root=root, normalize=normalize)
            for fan_in, fan_out in pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            MaskedBatchNorm(hidden_channels) if norm == "batch" else SlotBatchNorm()
            for _ in range(layers - 1 if norm else 0)
        )
        self.out_channels = sum(sizes[1:])

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embed the nodes of ``x [B, N, F]``, ``adj [B, N, N]``, ``mask [B, N]`` as ``[B, N, out_channels]``.

        Padding is not read and its rows of the result are 0.

        Raises:
            ValueError: shapes that disagree.
        """
        x, adj, valid = select_valid(x, adj, mask)
        return self.propagate(x, adj, valid)

    def propagate(self, x: Tensor, adj: Tensor, valid: Tensor | None) -> Tensor:
        """The stack on a batch whose padding is already zero (as :func:`select_valid` returns it)."""
        # Columns of padding are zero in adj, so what a layer leaves in padded rows stays there.
        outputs = []
        for i, conv in enumerate(self.convs):
            x = cast(DenseSAGEConv, conv).propagate(x, adj)
            if i + 1 < len(self.convs):
                x = x.relu()
                if self.norms:
                    x = self.norms[i](x, valid)
            outputs.append(x)
        y = torch.cat(outputs, -1)
        return y if valid is None else torch.where(valid[..., None], y, 0)
