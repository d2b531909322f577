"""A perceptron on the features of each node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from hierpool.graph import RaggedGraph
from hierpool.graph.checks import check_size
from hierpool.ops._checks import FLOATS, check_tensor, valid_rows
from hierpool.ops.linear_maps import linear_maps, saves_work
from hierpool.reference.linear_maps import Map
from hierpool.selection._shared import check_probability

Activation = str | Callable[[Tensor], Tensor] | None


class MLP(nn.Module):
    r"""A sequence of linear maps, with an activation and dropout between them.

    Parameters have the names of PyTorch Geometric's ``MLP`` with ``norm=None`` (``lins.0.weight``, ``lins.0.bias``,
    ...). They are drawn uniformly from :math:`\pm 1 / \sqrt{F}`, with :math:`F` the number of inputs of a map, and are
    bitwise equal to PyTorch Geometric's for the same seed.

    Args:
        channels: number of features before the first map, between maps, and after the last map.
        act: activation between maps: the name of a function of ``torch.nn.functional`` or ``torch`` such as ``"relu"``,
            a function, or ``None``.
        dropout: probability of dropping a feature between maps.

    Raises:
        ValueError: there are fewer than two channels, a channel is not positive, the activation is unknown, or
            ``dropout`` is not in [0, 1].
    """

    def __init__(self, channels: Sequence[int], act: Activation = None, dropout: float = 0.0) -> None:
        super().__init__()
        if isinstance(channels, int) or len(found := channels_of("channels", channels)) < 2 or min(found) < 1:
            raise ValueError(f"channels must be at least two positive numbers, got {channels!r}")
        self.channels = tuple(found)
        self.act = activation(act)
        self.dropout = check_probability("dropout", dropout)
        self._saves_work = saves_work(self.channels)
        self.lins = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(self.channels))
        self.reset_parameters()

    @property
    def in_channels(self) -> int:
        return self.channels[0]

    @property
    def out_channels(self) -> int:
        return self.channels[-1]

    def reset_parameters(self) -> None:
        """Draw new parameters."""
        for lin in self._maps():
            # The last bit of the parameters depends on how the bound is computed.
            bound = math.sqrt(6 / ((1 + math.sqrt(5) ** 2) * lin.in_features))
            nn.init.uniform_(lin.weight, -bound, bound)
            bound = 1 / math.sqrt(lin.in_features)
            nn.init.uniform_(lin.bias, -bound, bound)

    def forward(
        self, x: Tensor, adj: Tensor | RaggedGraph | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Map ``x [.., channels[0]]`` to ``[.., channels[-1]]``; the graph is not used.

        Rows that are not valid in ``mask`` (``x.shape[:-1]``) affect neither the results of other rows nor gradients.
        """
        check_tensor("x", x, FLOATS)
        mask = valid_rows(mask, x.shape[:-1])
        maps = self.as_maps()
        if maps is not None:
            return linear_maps(x, maps, mask)
        if mask is not None:
            x = torch.where(mask[..., None], x, 0)
        for lin in self.lins[:-1]:
            x = lin(x)
            x = x if self.act is None else self.act(x)
            x = F.dropout(x, self.dropout, self.training)
        out: Tensor = self.lins[-1](x)
        return out

    def as_maps(self) -> list[Map] | None:
        """The linear maps, if nothing is between them and multiplying them with each other first saves work."""
        several = len(self.channels) > 2
        if not self._saves_work or (
            several and (self.act is not None or (self.training and self.dropout > 0))
        ):
            return None
        maps = []
        for lin in self._modules["lins"]._modules.values():  # type: ignore[union-attr]
            # Maps with hooks or of another class have to be called.
            if lin is None or not is_plain(lin, nn.Linear):
                return None
            # Reading attributes of modules takes longer than a small product.
            weight, bias = lin._parameters.get("weight"), lin._parameters.get("bias")
            if weight is None or bias is None:  # e.g. in a replica, whose parameters are plain attributes
                return None
            maps.append((weight, bias))
        return maps

    def _maps(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.lins))

    def extra_repr(self) -> str:
        return f"channels={list(self.channels)}, dropout={self.dropout}"


def channels_of(name: str, channels: Any) -> list[int]:
    """The numbers of features in an argument that is a number or a sequence of numbers."""
    if isinstance(channels, Integral):
        return [check_size(name, channels)]
    if not isinstance(channels, Sequence) or isinstance(channels, str):
        raise TypeError(f"{name} must be an int or a sequence of ints, got {type(channels).__name__}")
    return [check_size(name, channel) for channel in channels]


def is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether a module is of exactly this class and has no hooks."""
    return type(module) is kind and not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or _has_any_global_hook()
    )


def activation(act: Activation) -> Callable[[Tensor], Tensor] | None:
    """The function of an argument ``act``."""
    if act is None or callable(act):
        return act
    if not isinstance(act, str):
        raise TypeError(f"act must be the name of a function, a function or None, got {type(act).__name__}")
    found = getattr(F, act, None) or getattr(torch, act, None)
    if not callable(found):
        raise ValueError(f"act must name a function of torch.nn.functional or torch, got {act!r}")
    function: Callable[[Tensor], Tensor] = found
    return function
