"""A perceptron on the features of nodes, whatever their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hierpool.graph import RaggedGraph

Activation = str | Callable[[Tensor], Tensor] | None


class MLP(nn.Module):
    """Linear maps one after another, an activation and dropout between them.

    Its parameters have the names and, from the same seed, the first values of those of PyTorch Geometric's ``MLP`` with
    ``norm=None``.

    Args:
        channels: features before the first map, between maps, and after the last.
        act: activation between maps: a name of ``torch.nn.functional`` such as ``"relu"``, a function, or ``None``.
        dropout: probability, between maps alone.

    Raises:
        ValueError: fewer than two channels, an unknown activation, or a dropout outside [0, 1].
    """

    def __init__(self, channels: Sequence[int], act: Activation = None, dropout: float = 0.0) -> None:
        super().__init__()
        if len(channels) < 2:
            raise ValueError(f"channels must have at least two numbers, got {list(channels)}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout must be in [0, 1], got {dropout}")
        self.channels = tuple(channels)
        self.act = activation(act)
        self.dropout = dropout
        self.lins = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(self.channels))

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        for lin in self.lins:
            cast(nn.Linear, lin).reset_parameters()

    def forward(
        self, x: Tensor, adj: Tensor | RaggedGraph | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """``[.., channels[-1]]`` of ``x [.., channels[0]]``."""
        for lin in self.lins[:-1]:
            x = lin(x)
            x = x if self.act is None else self.act(x)
            x = F.dropout(x, self.dropout, self.training)
        out: Tensor = self.lins[-1](x)
        return out

    def extra_repr(self) -> str:
        return f"channels={list(self.channels)}, dropout={self.dropout}"


def activation(act: Activation) -> Callable[[Tensor], Tensor] | None:
    """The function that an argument ``act`` means."""
    if act is None or callable(act):
        return act
    found = getattr(F, act.lower(), None) or getattr(torch, act.lower(), None)
    if not callable(found):
        raise ValueError(f"act must name a function of torch.nn.functional, got {act!r}")
    function: Callable[[Tensor], Tensor] = found
    return function
