"""Helpers of the losses: sums over graphs, and quotients and roots whose value and gradient at 0 are 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hierpool.contract import sum_of_ranges
from hierpool.record import SoftPoolRecord, SparsePoolRecord

Record = SoftPoolRecord | SparsePoolRecord
BATCH_REDUCTIONS = ("mean", "sum")


def check_choice(argument: str, given: str | None, choices: tuple[str | None, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, choices))}, got {given!r}")


def computed(record: Record, field: str, option: str) -> Any:
    """A field that is there if the record was made with an option."""
    value = getattr(record, field)
    if value is None:
        how = "sparse_soft_pool" if isinstance(record, SparsePoolRecord) else "soft_pool"
        raise ValueError(f"record must have {field}, got None; call {how} with {option}")
    return value


def padded(record: Record) -> tuple[int, int | Tensor]:
    """The number of graphs, and padded rows of each; for ragged graphs a 0-d tensor, which avoids a synchronisation."""
    if isinstance(record, SoftPoolRecord) and record.s.dim() == 3:
        return record.s.size(0), record.s.size(1)
    graphs = record.num_nodes.size(0)
    return graphs, record.num_nodes.detach().amax() if graphs else 0


def cluster_count(record: Record) -> int | Tensor:
    """:math:`K`, or ``[B]`` in the dtype of sums if it is a number for each graph."""
    if record.num_clusters is None:
        return record.size.size(-1)
    return record.num_clusters.to(record.size.dtype)


def cluster_share(record: Record) -> float | Tensor:
    """:math:`1 / K` of all graphs, or of each, ``[B]``."""
    count = cluster_count(record)
    return reciprocal(count) if isinstance(count, int) else count.reciprocal()


def trace(record: Record) -> Tensor:
    """:math:`\\mathrm{tr}(S^T A S)` of each graph, ``[B]`` or ``[B, R]``."""
    if isinstance(record, SparsePoolRecord):
        return record.trace
    return record.adj.diagonal(dim1=-2, dim2=-1).sum(-1)


def over_clusters(record: Record, values: Tensor) -> Tensor:
    """Sums over the clusters of each graph, ``[B, ...]``, of a value for each, ``[B, ..., K]`` or ``[K]``."""
    return (
        sum_of_ranges(values, record.s.cluster_ptr)
        if isinstance(record, SparsePoolRecord)
        else values.sum(-1)
    )


def at_clusters(record: Record, values: Tensor) -> Tensor:
    """Values of graphs, ``[B]`` or ``[B, R]``, at their clusters; see :func:`over_clusters`."""
    return values[record.s.batch] if isinstance(record, SparsePoolRecord) else values[..., None]


def over_graphs(values: Tensor, batch_reduction: str) -> Tensor:
    """Mean or sum over graphs of ``[B]``, or of the sums over edge types of ``[B, R]``."""
    check_choice("batch_reduction", batch_reduction, BATCH_REDUCTIONS)
    total = values.sum()
    return total if batch_reduction == "sum" else over(total, values.size(0))


def over(value: Tensor, count: int | Tensor) -> Tensor:
    """``value / count``, and 0 for an empty batch."""
    return divide(value, count) if isinstance(count, Tensor) else value * reciprocal(count)


def reciprocal(count: int) -> float:
    """1 / count, and 0 for an empty batch."""
    return 1.0 / count if count else 0.0


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient that is 0, with gradient 0, where the denominator is 0."""
    nonzero = denominator != 0
    quotient = numerator / torch.where(nonzero, denominator, 1)
    return torch.where(nonzero, quotient, 0)


def root(square: Tensor) -> Tensor:
    """Square root with gradient 0 at 0."""
    zero = square == 0
    return torch.where(zero, 0, torch.where(zero, 1, square).sqrt())
