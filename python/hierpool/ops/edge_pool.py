"""``hierpool::edge_pool``: rows of nodes that are merged in pairs, times a function of a linear map of both."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends, reference
from hierpool.contract import ranges_of, softmax_by_index
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    activation: str  # "softmax" over the entries with the same column, "tanh" or "sigmoid"
    shift: float  # added to its results
    backend: str


class Call(NamedTuple):
    """The arguments. Indices have one dtype; columns ascend in each row."""

    x: Tensor  # [N, F]
    weight: Tensor  # [2 F] or [1, 2 F]
    bias: Tensor  # [1]
    known: Tensor  # [E], of :func:`known_scores`, by which nodes were paired; no gradient flows to it
    rowptr: Tensor  # [N + 1]
    col: Tensor  # [E]
    mate: Tensor  # [N], the other node of the pair of each node, which may be itself; -1: none
    first: Tensor  # [K + 1]; a pair is a cluster, and so is every other node
    node: Tensor  # [N]
    options: Options


class Out(NamedTuple):
    """The results."""

    y: Tensor  # [K, F]
    score: Tensor  # [E]
    factor: Tensor  # [N], the larger score of the two entries of the pair; 1 without one


class Upstream(NamedTuple):
    """Their gradients."""

    y: Tensor
    score: Tensor
    factor: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    weight: Any
    bias: Any


class EdgePool(Operator):
    """The operator of rows pooled in pairs."""

    def shapes(self, call: Call) -> Out:
        x, known = call.x, call.known
        y = x.new_empty(call.first.numel() - 1, x.size(1))
        return Out(y, known.new_empty(known.numel()), known.new_empty(x.size(0)))

    def composite(self, call: Call) -> Out:
        x, weight, bias, _, rowptr, col, mate, first, node, options = call
        score = scores_of(x, weight, bias, rowptr, col, options.activation) + options.shift
        row = ranges_of(rowptr, col.numel()).long()
        chosen = mate.index_select(0, row) == col
        # Of nodes without an entry to their mate: -inf.
        place = torch.full_like(mate, col.numel(), dtype=torch.int64)
        entries = torch.arange(col.numel(), device=col.device)
        place = place.scatter_reduce(0, row, torch.where(chosen, entries, col.numel()), "amin")
        own = torch.cat([score, score.new_full((1,), -torch.inf)]).index_select(0, place)
        other = own.index_select(0, mate.long().clamp(min=0))
        largest = torch.maximum(own, other)
        factor = torch.where((mate < 0) | (largest == -torch.inf), 1, largest)
        y = reference.spmm(first, node, factor.index_select(0, node), x, rows=first.numel() - 1)
        return Out(y, score, factor)


OPERATOR = EdgePool()


def scores_of(
    x: Tensor, weight: Tensor, bias: Tensor, rowptr: Tensor, col: Tensor, activation: str
) -> Tensor:
    """The activation of the linear map of the features of both ends of each entry, ``[E]``."""
    source, target = weight.view(-1).chunk(2)
    row = ranges_of(rowptr, col.numel())
    # Two numbers for each node instead of 2 F for each entry.
    raw = (x @ source).index_select(0, row) + (x @ target).index_select(0, col) + bias
    return _activated(raw, col, x.size(0), activation)


def known_scores(
    x: Tensor, weight: Tensor, bias: Tensor, rowptr: Tensor, col: Tensor, options: Options
) -> Tensor:
    """:func:`scores_of` without gradients, with the linear map of a backend; all in float32 or all in float64."""
    module: Any = backends.module("edge_pool", x.device.type, options.backend)
    with torch.no_grad():
        if module is None:
            return scores_of(x, weight, bias, rowptr, col, options.activation)
        raw = module.linear(x.detach(), weight.detach(), bias.detach(), rowptr, col)
        return _activated(raw, col, x.size(0), options.activation)


def _activated(raw: Tensor, col: Tensor, num_nodes: int, activation: str) -> Tensor:
    if activation == "softmax":
        return softmax_by_index(raw, col, num_nodes)
    return raw.tanh() if activation == "tanh" else raw.sigmoid()
