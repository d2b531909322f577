"""``hierpool::spmm_max``: the largest or smallest of the rows that a sparse matrix gathers."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool import reference
from hierpool.contract import Csr
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    smallest: bool
    backend: str


class Call(NamedTuple):
    """The arguments: row k of the result is the extreme of a_ik x_i. A matrix that is not square has its transpose."""

    x: Tensor  # [N, F]
    adj: Csr  # [N, K]
    options: Options


class Out(NamedTuple):
    """The result."""

    y: Tensor  # [K, F], 0 for a column of A without entries
    source: Tensor  # [K, F], the dtype of adj.col: row of x that each element came from; N: none


class Upstream(NamedTuple):
    """Its gradient."""

    y: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    source: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    x: Any
    value: Any


class SpmmMax(Operator):
    """The operator of extremes over columns."""

    def shapes(self, call: Call) -> Out:
        shape = call.adj.factor(True)[0].numel() - 1, call.x.size(1)
        return Out(call.x.new_empty(shape), call.adj.col.new_empty(shape))

    def composite(self, call: Call) -> Out:
        x, adj, options = call
        rows = adj.factor(True)[0].numel() - 1
        y, source = reference.spmm_max(adj.rowptr, adj.col, adj.value, x, rows, options.smallest)
        return Out(y, source.to(adj.col.dtype))


OPERATOR = SpmmMax()
