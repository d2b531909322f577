"""Products of a sharded graph with rows of nodes: in own columns while the halo travels, then in those of the halo."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hierpool import backends, reference
from hierpool.contract import Csr, accumulation_dtype, ranges_of
from hierpool.distributed import ShardedGraph
from hierpool.distributed.halo import Blocks
from hierpool.ops import _checks


def product(block: Csr, rows: Tensor, backend: str, *, transpose: bool = False) -> Tensor:
    """A matrix, or its transpose, times rows; by the backend of :func:`hierpool.spmm`, without autograd."""
    from hierpool.ops.spmm import Call, Options

    module = _module(block, rows, backend)
    if module is None:
        rowptr, col, value = block.factor(transpose)
        return reference.spmm(rowptr, col, value, rows, False, rowptr.numel() - 1)
    out: Tensor = module.forward(Call(rows, block, Options(transpose, backend)))[0]
    return out


def _module(block: Csr, rows: Tensor, backend: str) -> Any:
    wide = rows.dtype is torch.float64 or (block.value is not None and block.value.dtype is torch.float64)
    return backends.module("spmm", rows.device.type, backend, wide)


def times(graph: ShardedGraph, blocks: Blocks, rows: Tensor, backend: str) -> tuple[Tensor, Tensor]:
    """The own rows of :math:`A X` in the dtype of sums, and the rows of the halo; ``rows`` travel in their dtype."""
    acc = accumulation_dtype(rows, blocks.inner.value)
    pending = graph.halo.start(rows)
    out = product(blocks.inner, rows.to(acc), backend)
    halo = pending.wait()
    if blocks.border.numel():
        out.index_add_(0, blocks.border, product(blocks.outer, halo.to(acc), backend))
    return out, halo


def times_transpose(graph: ShardedGraph, blocks: Blocks, rows: Tensor, backend: str) -> Tensor:
    """The own rows of :math:`A^T X` in the dtype of sums. Blocks have their transposes."""
    rows = rows.to(accumulation_dtype(rows, blocks.inner.value))
    parts = product(blocks.outer, rows[blocks.border], backend, transpose=True)
    pending = graph.halo.start_return(parts)
    out = product(blocks.inner, rows, backend, transpose=True)
    graph.halo.add(out, pending.wait())
    return out


class Products:
    """Products of a sharded graph with many columns, a few at a time, without gradients.

    They take less memory and processor time than :func:`hierpool.spmm`, but nothing is computed while the halo
    travels: the rows of the process are one matrix, and its own rows and those of the halo lie in one buffer.

    Args:
        graph: the graph.
        columns: the largest number of columns.
        backend: backend of the products.
    """

    def __init__(self, graph: ShardedGraph, columns: int, backend: str) -> None:
        self.halo, self.backend, self.nodes = graph.halo, backend, graph.num_nodes
        value = None if graph.value is None else graph.value.detach().float()
        self.matrix = graph.blocks.joined(value, graph.halo.size)
        # Of the allocator's own, with sizes that change, as much memory again would lie in gaps.
        like: dict[str, Any] = {"dtype": torch.float32, "device": graph.device}
        self.buffer = torch.empty((graph.num_nodes + graph.halo.size) * columns, **like)
        self.sent = torch.empty(graph.halo.index.numel() * columns, **like)

    def own(self, columns: int) -> Tensor:
        """The own rows of X, float32 ``[n, columns]``, a part of the buffer, which the caller fills."""
        return self._rows(columns)[: self.nodes]

    def product(self, columns: int) -> Tensor:
        """The own rows of :math:`A X`, a new tensor, where the processes have filled their rows of X."""
        rows, index = self._rows(columns), self.halo.index
        sent = self.sent[: index.numel() * columns].view(-1, columns)
        torch.index_select(rows[: self.nodes], 0, index, out=sent)
        self.halo.ranks.start(sent, self.halo.send, self.halo.receive, rows[self.nodes :]).wait()
        return product(self.matrix, rows, self.backend)

    def _rows(self, columns: int) -> Tensor:
        height = self.nodes + self.halo.size
        return self.buffer[: height * columns].view(height, columns)


def sampled(blocks: Blocks, left: Tensor, right: Tensor, halo: Tensor, backend: str) -> Tensor:
    """``left_i . right_j`` at every entry (i, j) of this process; ``halo`` has the rows of ``right`` in the halo."""
    inner = _sampled(blocks.inner, left, right, backend)
    return torch.cat([inner, _sampled(blocks.outer, left[blocks.border], halo, backend)])


def _sampled(block: Csr, left: Tensor, right: Tensor, backend: str) -> Tensor:
    module = _module(block, left, backend)
    if module is not None:
        out: Tensor = module.sampled_product(block, left, right)
        return out
    row = ranges_of(block.rowptr, block.col.numel()).long()
    return (left[row] * right[block.col.long()]).sum(-1)


class _Spmm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graph: ShardedGraph, x: Tensor, value: Tensor | None, transpose: bool, backend: str
    ) -> Tensor:
        acc = accumulation_dtype(x, value)
        directed = not graph.is_symmetric
        blocks = graph.values_of_blocks(acc, transposed=directed)
        ctx.state = graph, transpose, backend
        learned = value is not None and value.requires_grad
        if transpose and directed:
            out, halo = times_transpose(graph, blocks, x, backend), None
        else:
            out, halo = times(graph, blocks, x, backend)
        ctx.save_for_backward(x if learned else None, halo if learned else None)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        graph, transpose, backend = ctx.state
        x, halo = ctx.saved_tensors
        _, needs_x, needs_value, *_ = ctx.needs_input_grad
        directed = not graph.is_symmetric
        blocks = graph.values_of_blocks(accumulation_dtype(dy, graph.value), transposed=directed)
        dx = dvalue = dy_halo = None
        # All processes take the same branches, because they agree on what needs a gradient.
        if needs_x and directed and not transpose:
            dx = times_transpose(graph, blocks, dy, backend)
        elif needs_x:
            dx, dy_halo = times(graph, blocks, dy, backend)
        if needs_value:
            acc = accumulation_dtype(dy, x, graph.value)
            left, right = (x, dy) if transpose else (dy, x)
            if transpose:
                halo = dy_halo if dy_halo is not None else graph.halo.rows(dy)
            elif halo is None:
                halo = graph.halo.rows(x)
            dvalue = sampled(blocks, left.to(acc), right.to(acc), halo.to(acc), backend).to(graph.value.dtype)
        return None, None if dx is None else dx.to(dy.dtype), dvalue, None, None


def sharded_spmm(graph: ShardedGraph, x: Tensor, transpose: bool, backend: str) -> Tensor:
    """The own rows of :math:`A X` or :math:`A^T X`; see :func:`hierpool.spmm`."""
    x = local_rows(x)

    def check() -> dict[str, Any]:
        backends.check_name(backend)
        check_rows("x", x, graph)
        _checks.check_flag("transpose", transpose)
        return {"features": x.size(1), "dtype of x": x.dtype, "transpose": transpose} | gradients_of(
            x=x, value=graph.value
        )

    agree_once(graph, ("spmm", transpose, x.shape[1:], x.dtype), check)
    out: Tensor = _Spmm.apply(graph, x, graph.value, transpose, backend)
    return out


class _ToRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: ShardedGraph, t: Tensor) -> Tensor:
        ctx.graph = graph
        return t.view_as(t)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, ctx.graph.total(grad)


def to_rows(graph: ShardedGraph, t: Tensor) -> Tensor:
    """A tensor that all processes have, for use with rows of nodes: its gradient is summed over the processes."""
    out: Tensor = _ToRows.apply(graph, t)
    return out


def local_rows(t: Any) -> Any:
    """The rows of this process of a ``DTensor``; any other argument is itself."""
    to_local = getattr(t, "to_local", None)
    return t if to_local is None else to_local()


def check_rows(name: str, t: Any, graph: ShardedGraph) -> None:
    """Check a tensor with the rows of this process."""
    _checks.check_tensor(name, t, _checks.FLOATS)
    n = graph.num_nodes
    if t.dim() != 2 or t.size(0) != n:
        raise ValueError(
            f"{name} must have a row for each of the {n} nodes of the process, got shape {list(t.shape)}"
        )
    if t.device != graph.device:
        raise ValueError(f"{name} must be on the device of the graph, {graph.device}, got {t.device}")


def gradients_of(**tensors: Tensor | None) -> dict[str, bool]:
    """Which tensors need a gradient."""
    enabled = torch.is_grad_enabled()
    return {
        f"gradient of {name}": enabled and t is not None and t.requires_grad for name, t in tensors.items()
    }


def agree_once(graph: ShardedGraph, call: tuple[Any, ...], check: Any) -> None:
    """Compare the arguments of a call in all processes, the first time that it is made with a graph.

    Later calls with the same signature are checked in the process alone, without communication.
    """
    if call in graph.agreed:
        check()
        return
    graph.ranks.agree(check)
    graph.agreed.add(call)
