"""``hierpool::scored_pool``: rows that are multiplied by a function of their projection, and summed by cluster."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool import reference
from hierpool.ops._operator import Operator
from hierpool.reference.scored_pool import scores_of


class Options(NamedTuple):
    """Arguments that are not tensors."""

    activation: str  # "tanh" or "sigmoid"
    is_unit: bool  # the weight is divided by its norm
    multiplier: float  # of the pooled rows
    backend: str


class Call(NamedTuple):
    """The arguments. Clusters are those of :class:`hierpool.contract.Clusters`; indices have one dtype."""

    x: Tensor  # [N, F]
    weight: Tensor  # [F] or [1, F]
    bias: Tensor | None  # [1]
    score: Tensor  # [N], by which rows were assigned to clusters; no gradient flows to it
    cluster: Tensor  # [N]
    first: Tensor  # [K + 1]
    node: Tensor  # [M]
    options: Options


class Out(NamedTuple):
    """The results."""

    y: Tensor  # [K, F]
    score: Tensor  # [N]


class Upstream(NamedTuple):
    """Their gradients."""

    y: Tensor
    score: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    weight: Any
    bias: Any


class ScoredPool(Operator):
    """The operator of rows pooled by their scores."""

    def shapes(self, call: Call) -> Out:
        clusters = call.first.numel() - 1
        return Out(call.x.new_empty(clusters, call.x.size(1)), call.score.new_empty(call.x.size(0)))

    def composite(self, call: Call) -> Out:
        x, weight, bias, _, _, first, node, options = call
        score = scores_of(x, weight, bias, options.activation, options.is_unit)
        value = (score * options.multiplier).index_select(0, node)
        return Out(reference.spmm(first, node, value, x, rows=first.numel() - 1), score)


OPERATOR = ScoredPool()
