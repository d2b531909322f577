"""Single operators as workloads: how a call becomes a problem, and the providers that run problems.

Least work: A is read once, as it is stored, and rows that the entries of a sparse A gather as often as the L2 cache
cannot hold them. Absolute differences are no products: they count 0 flops. The backward reads the inputs again and
writes the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import hierpool
from bench.harness.floors import Work, gathered_bytes, size
from bench.harness.inputs import Problem
from bench.harness.precision import IEEE, Precision
from bench.harness.workload import Kind, Part, Pool, Provider, Request, Workload
from bench.ops.batches import SparseBatch, builder, generator
from bench.ops.graphs import dense, scattered
from bench.ops.soft_pool import load_pyg, ours

Build = Callable[[Request], Any]
Make = Callable[[Request], Problem]

# The graphs of the workloads.
MILLION, MILLION_TITLE = scattered(1_000_000, 16, 64, 64), "N 1 000 000, E 16 000 000"
PAIRS, POOLED = dense(32, 1024, 64, 64), dense(32, 1024, 256, 128)
DENSE_TITLE = "B32 N1024"


def normal(like: Tensor, *shape: int) -> Tensor:
    """Random numbers of the dtype and on the device of ``like``."""
    gen = generator(1, like.device)
    return torch.randn(shape, generator=gen, device=like.device, dtype=like.dtype)


def features(batch: SparseBatch) -> Tensor:
    return batch.x


def assignment(batch: Any) -> Tensor:
    """S of the logits of a batch, as a leaf."""
    return batch.logits.detach().softmax(-1).requires_grad_()


@builder
def on_graph(
    request: Request, build: Build, call: Callable[[Any, Tensor, str], Tensor], rows_of: Callable[[Any], Tensor],
    shape: Callable[[Tensor, int], tuple[int, ...]], multiplies: bool = False,
) -> Problem:  # fmt: skip
    """``call(graph, rows, backend)`` with rows of the nodes of a graph that is made before.

    ``shape(rows, entries)`` is that of the output; ``multiplies``: rows are multiplied by the entries.
    """
    batch: SparseBatch = build(request)
    rows, entries = rows_of(batch), batch.entries
    graph = hierpool.RaggedGraph.from_edge_index(
        batch.edge_index, len(rows), ptr=batch.ptr, symmetric=batch.symmetric, is_coalesced=True
    )
    grad = normal(rows, *shape(rows, entries))
    flops = 2 * entries * rows.size(1) if multiplies else 0

    def work(l2_bytes: int | None) -> tuple[Work, Work]:
        row, whole = size(rows[0]), size(rows)
        gathered = whole if l2_bytes is None else gathered_bytes(entries, row, whole, l2_bytes)
        moved = batch.adjacency_bytes + gathered + size(grad)
        return Work(moved, flops), Work(moved + whole, flops)

    return Problem(
        (grad,), {"rows": rows}, lambda backend, rows: (call(graph, rows, backend),), ("output",), work,
        {"nodes": len(rows), "entries": entries, "columns": rows.size(1)},
    )  # fmt: skip


@builder
def on_assignment(
    request: Request, build: Build, call: Callable[..., Tensor], graphwise: bool = True, pairs: bool = False,
    flops: int = 0,
) -> Problem:  # fmt: skip
    """``call(s, backend)``, or ``call(s, adj, backend)`` of ``pairs`` of nodes, with a number for each graph or one.

    ``flops`` of a cluster and two nodes, forward.
    """
    batch = build(request)
    s = assignment(batch)
    given = {"s": s, "adj": batch.adj} if pairs else {"s": s}
    grad = normal(s, len(s)) if graphwise else normal(s)
    moved, products = size(*given.values()), flops * batch.adj.numel() * s.size(-1)
    sizes = {"graphs": len(s), "nodes": s.numel() // s.size(-1), "clusters": s.size(-1)}
    return Problem(
        (grad,), given, lambda backend, *tensors: (call(*tensors, backend),), ("output",),
        lambda l2_bytes: (Work(moved, products), Work(moved + size(s), 2 * products)), sizes,
    )  # fmt: skip


def load_ours(device: torch.device, backend: str | None = None) -> Pool:
    """Our side of a problem."""
    name = ours(device, "spmm", backend)  # no operator has fewer backends
    return lambda problem: problem.ours(name, *problem.tensors().values())


def load_theirs(device: torch.device) -> Pool:
    """PyG's side of a problem."""
    load_pyg(device)  # raises if PyG is missing
    return lambda problem: problem.pyg(*problem.tensors().values())


_CALL = "the call; a sparse graph built before, not counted"
_BOTH = ("operator", "pooler")
OPERATOR = Kind("operator", ("hierpool-call-reference", "hierpool-call"), ("hierpool-call-reference",))
POOLER = Kind("pooler", ("pyg-call", *OPERATOR.baselines), OPERATOR.truths)


def workload(
    name: str, title: str, make: Make, precision: Precision = IEEE, kind: Kind = OPERATOR
) -> Workload:
    """A workload of a GPU."""
    return Workload(name, title, kind, make, precision=precision, device="cuda")


PART = Part(
    providers=(
        Provider("hierpool-call", "hierpool call", _CALL, load_ours, _BOTH),
        Provider("pyg-call", "PyG call", _CALL, load_theirs, ("pooler",)),
        Provider("hierpool-call-reference", "hierpool reference call", f"{_CALL}, in plain PyTorch",
                 partial(load_ours, backend="reference"), _BOTH),
    ),
)  # fmt: skip
