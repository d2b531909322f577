"""``hierpool::scored_pool``: rows that are multiplied by a function of their projection, and summed by cluster."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool import backends, reference
from hierpool._tracing import is_traced
from hierpool.ops._operator import Operator
from hierpool.reference import scored_pool


class Options(NamedTuple):
    """Arguments that are not tensors."""

    activation: str  # "tanh" or "sigmoid"
    is_unit: bool  # the weight is divided by its norm
    multiplier: float  # of the pooled rows
    backend: str


class Call(NamedTuple):
    """The arguments. Clusters are those of :class:`hierpool.contract.Clusters`; indices have one dtype."""

    x: Tensor  # [N, F]
    weight: Tensor  # [F]
    bias: Tensor | None  # [1]
    score: (
        Tensor  # [N], of :func:`scores_of`, by which rows were assigned to clusters; no gradient flows to it
    )
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
        score = scores_of(x, weight, bias, options)
        value = (score * options.multiplier).index_select(0, node)
        return Out(reference.spmm(first, node, value, x, rows=first.numel() - 1), score)


OPERATOR = ScoredPool()


def scores_of(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """The scores of rows, ``[N]``."""
    return scored_pool.scores_of(x, weight, bias, options.activation, options.is_unit)


def known_scores(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    """:func:`scores_of` by a backend, without autograd."""
    module: Any = backends.module("scored_pool", x.device.type, options.backend)
    if module is None or is_traced():
        return scores_of(x, weight, bias, options)
    found: Tensor = module.scores(x, weight, bias, options)
    return found
