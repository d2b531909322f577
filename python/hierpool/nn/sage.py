"""GraphSAGE message passing for padded and ragged batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import cast

import torch
from torch import Tensor, nn

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_sizes
from hierpool.nn.masking import checked_batch
from hierpool.nn.mlp import is_plain
from hierpool.nn.norm import MaskedBatchNorm, SlotBatchNorm
from hierpool.ops.sage_stack import Layer, Normalisation, sage_stack
from hierpool.selection._shared import check_count

AGGREGATIONS = ("mean", "sum")
NORMS = ("batch", "slot", None)


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
        in_channels, out_channels = check_sizes(in_channels=in_channels, out_channels=out_channels)
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
        x, adj, valid = checked_batch(x, adj, mask)
        return _convolved((self,), (), x, adj, valid)


def _convolved(
    convs: Sequence[SAGEConv],
    norms: Sequence[MaskedBatchNorm],
    x: Tensor,
    adj: Tensor | RaggedGraph,
    valid: Tensor | None,
) -> Tensor:
    """Apply a stack of layers whose options are equal to a batch, as returned by :func:`checked_batch`."""
    layers = [_layer(conv, norm) for conv, norm in zip_longest(convs, norms)]
    mean, normalize = convs[0].aggregation == "mean", convs[0].normalize
    if not norms:
        return sage_stack(x, adj, valid, layers, mean=mean, normalize=normalize)[0]
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    running = torch.stack(buffers).view(len(norms), 2, -1)
    norm = Normalisation(running, norms[0].training, norms[0].momentum, norms[0].eps)
    y, updated = sage_stack(x, adj, valid, layers, mean=mean, normalize=normalize, norm=norm)
    if updated is not None:
        for buffer, new in zip(buffers, updated.flatten(0, 1).unbind(), strict=True):
            buffer.copy_(new)
    return y


def _layer(conv: SAGEConv, norm: MaskedBatchNorm | None) -> Layer:
    root = conv.lin_root
    bias = conv.lin_rel.bias if root is None else root.bias
    gain, shift = (None, None) if norm is None else (norm.weight, norm.bias)
    return Layer(conv.lin_rel.weight, None if root is None else root.weight, bias, gain, shift)


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
        layers = check_count("layers", layers)
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {NORMS}, got {norm!r}")
        first, inner, last = check_sizes(
            in_channels=in_channels, hidden_channels=hidden_channels, out_channels=out_channels
        )
        sizes = [first] + [inner] * (layers - 1) + [last]
        self.convs = nn.ModuleList(
            SAGEConv(fan_in, fan_out, aggregation=aggregation, root=root, normalize=normalize)
            for fan_in, fan_out in pairwise(sizes)
        )
        self.norms = nn.ModuleList(
            MaskedBatchNorm(inner) if norm == "batch" else SlotBatchNorm()
            for _ in range(layers - 1 if norm else 0)
        )
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
        return self.embed(*checked_batch(x, adj, mask))

    def embed(self, x: Tensor, adj: Tensor | RaggedGraph, valid: Tensor | None) -> Tensor:
        """Apply the layers to a batch, as returned by :func:`checked_batch`."""
        convs = cast("Sequence[SAGEConv]", self.convs)
        if self._is_uniform():
            return _convolved(convs, cast("Sequence[MaskedBatchNorm]", self.norms), x, adj, valid)
        inside = valid
        reads_padding = any(isinstance(norm, SlotBatchNorm) for norm in self.norms)
        if reads_padding and valid is not None and isinstance(adj, Tensor):
            # It reads padding: rows of zeros that no other row reads, but computed like the others.
            x, inside = torch.where(valid[..., None], x, 0), None
            adj = torch.where(valid[:, None] & valid[..., None], adj, 0)
        outputs = []
        for i, conv in enumerate(convs):
            x = _convolved((conv,), (), x, adj, inside)
            if i + 1 < len(convs):
                x = x.relu()
                x = self.norms[i](x, inside) if len(self.norms) else x
            outputs.append(x)
        y = torch.cat(outputs, -1)
        return y if valid is None else torch.where(valid[..., None], y, 0)

    def _is_uniform(self) -> bool:
        """Whether one operator applies all layers: they have the same options, and the norms are those over batches."""
        if not all(is_plain(conv, SAGEConv) for conv in self.convs):
            return False
        if not all(is_plain(norm, MaskedBatchNorm) for norm in self.norms):
            return False
        convs, norms = cast("Sequence[SAGEConv]", self.convs), cast("Sequence[MaskedBatchNorm]", self.norms)
        of_convs = {(conv.aggregation, conv.normalize, conv.lin_root is None) for conv in convs}
        if any(norm.ranks is not None for norm in norms):  # statistics of several processes
            return False
        of_norms = {(norm.training, norm.momentum, norm.eps) for norm in norms}
        return len(of_convs) == 1 and len(of_norms) <= 1
