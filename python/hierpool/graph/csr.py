"""Building blocks of sparse matrices in compressed rows, and ``hierpool::csr_build`` and ``csr_transpose`` for tracing.

Eager code asks a backend for them and lets data decide on sizes: duplicate edges are merged, sorted batches recognised.
Under a compiler sizes must not depend on data: the registered operators keep one entry for every edge.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import backends

_LIB = torch.library.Library("hierpool", "FRAGMENT")
_LIB.define(
    "csr_build(Tensor row, Tensor col, Tensor? batch, Tensor? ptr, SymInt num_nodes, SymInt num_graphs)"
    " -> (Tensor rowptr, Tensor col, Tensor ptr, Tensor slot)"
)
_LIB.define("csr_transpose(Tensor rowptr, Tensor col) -> (Tensor rowptr, Tensor col, Tensor source)")


class Edges(NamedTuple):
    """Edges as they were given, checked but for their values."""

    row: Tensor  # [E] int64 or int32
    col: Tensor  # [E] same dtype
    weight: Tensor | None  # [E] floating, without autograd
    batch: Tensor | None  # [N] int64
    ptr: Tensor | None  # [B + 1] int64
    num_nodes: int
    num_graphs: int | None  # None: what batch says


class Options(NamedTuple):
    """What is to be built of them.

    Attributes:
        compact: merge duplicates into one entry; otherwise their sum stands in the first, and zero in the others.
        want_slot: whether the entry that each edge went to is wanted.
        symmetric: what is known of symmetry; ``None``: find out.
        coalesced: the edges are promised to be sorted by row and column and to differ.
        validate: check values on devices other than the CPU, too.
    """

    compact: bool = True
    want_slot: bool = False
    symmetric: bool | None = None
    coalesced: bool = False
    validate: bool = False


class Built(NamedTuple):
    """A matrix in compressed rows over the nodes in graph order."""

    rowptr: Tensor  # [N + 1] int32 or int64
    col: Tensor  # [E'] same dtype; ascending within a row
    value: Tensor | None  # [E'], the sum of the weights, or of ones; None: all ones
    ptr: Tensor  # [B + 1] int64
    order: Tensor | None  # [N] int64, the caller's number of each node; None: the same
    slot: Tensor | None  # [E] dtype of col, if wanted: the entry of each edge; None: the same
    symmetric: bool


def index_dtype(num_nodes: int, num_edges: int) -> torch.dtype:
    """int32 where node numbers and entry numbers fit in it, else int64."""
    # Under a compiler a comparison of the two would be a guard.
    return torch.int32 if num_nodes < 2**31 and num_edges < 2**31 else torch.int64


def _filler(device: torch.device) -> ModuleType:
    return backends.select("csr", device.type).filler("csr")


def build(edges: Edges, options: Options) -> Built:
    """Sort edges into rows.

    Raises:
        ValueError: a value is out of range, or an edge joins two graphs.
    """
    return _filler(edges.row.device).build(edges, options)


def transpose(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns of the transpose, and the entry that each of its entries comes from."""
    return _filler(rowptr.device).transpose(rowptr, col)


def is_symmetric(rowptr: Tensor, col: Tensor, value: Tensor | None) -> bool:
    """Whether the matrix equals its transpose, exactly; its columns ascend and differ."""
    return _filler(rowptr.device).is_symmetric(rowptr, col, value)


def is_canonical(rowptr: Tensor, col: Tensor, ptr: Tensor) -> bool:
    """Whether the columns of every row ascend and differ.

    Raises:
        ValueError: the arrays are no matrix in compressed rows with one block for every graph.
    """
    return _filler(rowptr.device).is_canonical(rowptr, col, ptr)


def rows(rowptr: Tensor, entries: int) -> Tensor:
    """The row of each entry, ``[E]``, the dtype of ``rowptr``."""
    nodes = torch.arange(rowptr.numel() - 1, dtype=rowptr.dtype, device=rowptr.device)
    return torch.repeat_interleave(nodes, rowptr.diff(), output_size=entries)


def sum_by_slot(weight: Tensor, slot: Tensor, entries: int) -> Tensor:
    """The sum of the weights that go to each entry, rounded once, ``[entries]``; differentiable.

    On the CPU it is taken in the order of the weights.
    """
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    total = torch.zeros(entries, dtype=wide, device=weight.device)
    return total.index_add(0, slot, weight.to(wide)).to(weight.dtype)


class EntryValues(torch.autograd.Function):
    """The values that were built of edge weights, which get the gradients of their entries."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, built: Built) -> Tensor:
        assert built.value is not None
        ctx.slot = built.slot
        return built.value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.index_select(0, ctx.slot), None


def _build_op(
    row: Tensor, col: Tensor, batch: Tensor | None, ptr: Tensor | None, num_nodes: int, num_graphs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    edges = Edges(row, col, None, batch, ptr, num_nodes, num_graphs)
    built = build(edges, Options(compact=False, want_slot=True, symmetric=False))
    if built.order is not None:
        raise ValueError("batch must be sorted under torch.compile, where sizes cannot depend on its values")
    slot = built.slot
    if slot is None:
        slot = torch.arange(built.col.numel(), dtype=built.col.dtype, device=built.col.device)
    return built.rowptr, built.col, built.ptr.clone() if built.ptr is ptr else built.ptr, slot


def _build_fake(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    row, _, _, _, num_nodes, num_graphs = args
    dtype = index_dtype(num_nodes, row.numel())
    return (
        row.new_empty(num_nodes + 1, dtype=dtype),
        row.new_empty(row.numel(), dtype=dtype),
        row.new_empty(num_graphs + 1, dtype=torch.int64),
        row.new_empty(row.numel(), dtype=dtype),
    )


def _transpose_fake(rowptr: Tensor, col: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(rowptr), torch.empty_like(col), torch.empty_like(col)


for _key in ("CPU", "CUDA"):
    _LIB.impl("csr_build", _build_op, _key)
    _LIB.impl("csr_transpose", transpose, _key)
torch.library.register_fake("hierpool::csr_build", _build_fake, lib=_LIB)
torch.library.register_fake("hierpool::csr_transpose", _transpose_fake, lib=_LIB)
