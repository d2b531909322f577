"""``hierpool::triple_product``: the values of S^T A S for a sparse S, in places that are known."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import reference
from hierpool.contract import Csr, Loops
from hierpool.ops._operator import Operator


class Options(NamedTuple):
    """Arguments that are not tensors."""

    loops: int  # a number of Loops; separate ones are elements of the result behind those of the entries
    symmetric: bool  # A equals its transpose: the result does so, bit for bit
    backend: str


class Call(NamedTuple):
    """The arguments. Indices have one dtype."""

    weight: Tensor  # [M], entries of S
    adj: Csr  # A, with its transpose if it is not symmetric and S needs a gradient
    s_rowptr: Tensor  # [N + 1]
    cluster: Tensor  # [M]
    first: Tensor  # [K + 1], in node: first node of each cluster
    node: Tensor  # [M], nodes by cluster
    entry: Tensor  # [M], and their entries of S
    product_rowptr: Tensor  # [K + 1]
    product_col: Tensor  # [E']
    options: Options


class Out(NamedTuple):
    """The result."""

    value: Tensor  # [E'] or, with separate loops, [E' + K]


class Upstream(NamedTuple):
    """Its gradient."""

    value: Tensor


class Leaves(NamedTuple):
    """Arguments that may need a gradient."""

    weight: Any
    value: Any


class TripleProduct(Operator):
    """The operator of S^T A S."""

    def shapes(self, call: Call) -> Out:
        count = call.product_col.numel()
        if call.options.loops == Loops.SEPARATE:
            count = count + call.product_rowptr.numel() - 1
        return Out(call.weight.new_empty(count, dtype=result_dtype(call.weight, call.adj.value)))

    def composite(self, call: Call) -> Out:
        weight, (value, rowptr, col, *_), s_rowptr, cluster, _, _, _, *product, options = call
        s, places = Csr(None, s_rowptr, cluster), Csr(None, *product)
        loops = Loops(options.loops)
        return Out(reference.triple_product(value, weight, rowptr, col, s, places, loops, options.symmetric))


OPERATOR = TripleProduct()


def result_dtype(weight: Tensor, value: Tensor | None) -> torch.dtype:
    """The dtype of products of both."""
    return weight.dtype if value is None else torch.promote_types(weight.dtype, value.dtype)
