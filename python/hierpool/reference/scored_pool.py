"""Scores of rows by a linear map, and what is pooled by them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hierpool.contract import Assigned, Contracted

ACTIVATIONS = {"tanh": torch.tanh, "sigmoid": torch.sigmoid}


class Scored(NamedTuple):
    """Rows, the map that scores them, and the factors of the pooled rows, which are the scores times ``multiplier``."""

    x: Tensor  # [N, F]
    weight: Tensor  # [F] or [1, F]
    bias: Tensor | None  # [1]
    activation: str  # a name in ACTIVATIONS
    is_unit: bool = False  # the weight is divided by its norm
    multiplier: float = 1.0


class Selected(NamedTuple):
    """Clusters of rows that were selected by their scores."""

    score: Tensor  # [N]
    # [K, F]: the sums of the rows of each cluster, times their scores and the multiplier; None: not computed
    y: Tensor | None
    assigned: Assigned | None  # None: a score is NaN
    contracted: Contracted | None  # the graph of the clusters; None: the same
    of_entry: Tensor | None = (
        None  # [E], scores of entries, by which pairs were selected; those of nodes follow from them
    )
    mate: Tensor | None = None  # [N], the other node of the pair of each node, or -1, in the dtype of columns


def scores_of(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, is_unit: bool) -> Tensor:
    """The scores of rows, ``[N]``."""
    weight = weight.view(-1)
    if is_unit:
        weight = weight / torch.linalg.vector_norm(weight).clamp(min=torch.finfo(weight.dtype).tiny)
    projected = x @ weight
    return ACTIVATIONS[activation](projected if bias is None else projected + bias)
