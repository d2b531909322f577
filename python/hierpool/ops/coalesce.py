"""``hierpool::coalesce``: the values of entries that several entries of another matrix are merged into."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from hierpool import reference
from hierpool.contract import Reduce
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    reduce: int  # a number of Reduce
    loops: bool  # the result has an element for the self-loop of each cluster behind those of the entries
    symmetric: bool  # the matrix of the values equals its transpose: that of the result does so, bit for bit
    backend: str


class Call(NamedTuple):
    """The arguments: values, and what :func:`contract` of a backend made of their matrix. Indices have one dtype."""

    value: Tensor  # [E] or [E, R]
    slot: Tensor  # [E], element of the result; -1: none
    rowptr: Tensor  # [N + 1], of the matrix of the values
    first: Tensor  # [K + 1], in node: first node of each cluster
    node: Tensor  # nodes by cluster
    merged_rowptr: Tensor  # [K + 1]
    merged_col: Tensor  # [E']
    options: Options


class Out(NamedTuple):
    """The result."""

    value: Tensor  # [E'] or, with loops, [E' + K]; with R columns if the values have them
    source: Tensor  # of value, dtype of slot: number of entries, or of extremes the entry that counts


class Upstream(NamedTuple):
    """Its gradient."""

    value: Tensor


class Saved(NamedTuple):
    """The fields of ``Out`` that the backward reads."""

    source: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    value: Any


class Coalesce(Operator):
    """The operator of merged entries."""

    def shapes(self, call: Call) -> Out:
        count = call.merged_col.numel()
        if call.options.loops:
            count = count + call.merged_rowptr.numel() - 1
        shape = (count, *call.value.shape[1:])
        return Out(call.value.new_empty(shape), call.slot.new_empty(shape))

    def composite(self, call: Call) -> Out:
        value, slot, _, _, _, rowptr, col, (reduce, loops, symmetric, _) = call
        out, source = reference.coalesce(value, slot, rowptr, col, Reduce(reduce), loops, symmetric)
        return Out(out, source.to(slot.dtype))


OPERATOR = Coalesce()
