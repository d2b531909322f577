"""The workloads of a GPU: tensors on any device, and on "meta", which has shapes alone, for `bench.bytes`.

Edges have no weights and no duplicates and are sorted by row, both directions of each. Nodes of a large graph are in
random order: a gather finds nothing where it just was.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bench.operators import Problem
from bench.sparse import AnyBatch, SparseBatch, make_sparse, with_linear
from bench.verify import FLOAT32, Tolerance
from bench.workloads import Batch, draw, generator

AnyWork = AnyBatch | Problem
Build = Callable[[int, torch.device], AnyWork]


@dataclass(frozen=True)
class Precision:
    """An arithmetic: dtype of the tensors, how torch takes products of float32, class of its rate, what it may lose.

    Tolerances are relative to the largest element. The unit roundoff of a TF32 operand is 2^-11 where it is rounded
    and 2^-10 where it is cut off; that of bfloat16 is 2^-8, of the result too. The tolerances are about twice what
    the composition in torch loses when the operands of its products are cut so.
    """

    dtype: torch.dtype
    products: str  # of float32: "ieee" or "tf32"
    rate: str  # "half", "tf32" or "ieee"
    tolerance: Tolerance


IEEE = Precision(torch.float32, "ieee", "ieee", FLOAT32)
TF32 = Precision(torch.float32, "tf32", "tf32", Tolerance(3e-3, 4e-3))
BF16 = Precision(torch.bfloat16, "tf32", "half", Tolerance(8e-3, 1.6e-2))


@contextmanager
def in_force(precision: Precision) -> Iterator[None]:
    """Products of float32 as ``precision`` has them: those of torch, and those of our kernels."""
    from hierpool_kernels.target import VARIABLE

    before = torch.get_float32_matmul_precision(), os.environ.get(VARIABLE)
    torch.set_float32_matmul_precision({"ieee": "highest", "tf32": "high"}[precision.products])
    os.environ[VARIABLE] = precision.products
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        os.environ.pop(VARIABLE)
        if before[1] is not None:
            os.environ[VARIABLE] = before[1]


@dataclass(frozen=True)
class GpuWorkload:
    """A named batch in one precision.

    ``kind`` says which providers run on it; ``share`` is its part of the time of a run; ``replayed``: also as a CUDA
    graph.
    """

    name: str
    title: str
    kind: str
    precision: Precision
    build: Build
    share: int = 1
    replayed: bool = False
    symmetric: bool = True


def dense(graphs: int, nodes: int, clusters: int, features: int, dtype: torch.dtype) -> Build:
    """Graphs of equal size with uniform symmetric weights, none of which is 0."""

    def build(seed: int, device: torch.device) -> Batch:
        shape = (graphs, nodes, nodes)
        adj = 1 - torch.rand(shape, device=device, generator=generator(seed, device))
        adj = (adj.triu() + adj.triu(1).mT).to(dtype)
        x, logits, grads = draw((graphs, nodes), graphs, nodes, features, clusters, seed, device, dtype)
        sizes = (nodes,) * graphs
        return Batch(
            x.requires_grad_(), adj, logits.requires_grad_(), None, sizes, graphs * nodes**2, True, grads
        )

    return build


def scattered(nodes: int, degree: int, clusters: int, features: int, dtype: torch.dtype) -> Build:
    """One graph: every node is joined to ``degree`` others, at random distances on a ring of shuffled nodes."""

    def build(seed: int, device: torch.device) -> SparseBatch:
        # At least 1 and less than half of the ring, so that no two of the neighbours are one.
        steps = torch.tensor(random.Random(seed).sample(range(1, (nodes + 1) // 2), degree // 2))
        steps = torch.cat([steps, -steps]).to(device)
        order = torch.randperm(nodes, device=device, generator=generator(seed, device))
        place = torch.empty_like(order)
        place[order] = torch.arange(nodes, device=device)
        edges = torch.empty(2, nodes, degree, dtype=torch.int64, device=device)
        rows = max(1, (1 << 26) // degree)
        for first in range(0, nodes, rows):  # sorting a row takes several times its size
            row = torch.arange(first, min(first + rows, nodes), device=device)
            edges[0, row] = row[:, None].expand(-1, degree)
            edges[1, row] = order[(place[row][:, None] + steps) % nodes].sort(-1).values
        return make_sparse(edges.view(2, -1), (nodes,), features, clusters, True, seed, dtype)

    return build


def rings(graphs: int, smallest: int, largest: int, clusters: int, features: int) -> Build:
    """Graphs of all sizes between two, every node joined to the two nodes before and after it."""

    def build(seed: int, device: torch.device) -> SparseBatch:
        sizes = tuple(smallest + i % (largest - smallest + 1) for i in range(graphs))
        lengths = torch.tensor(sizes)
        first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)[
            :, None
        ]  # [N, 1], of each node's graph
        size = torch.repeat_interleave(lengths, lengths)[:, None]
        row = torch.arange(sum(sizes))[:, None]
        col = first + (row - first + torch.tensor([-2, -1, 1, 2])) % size
        edges = torch.stack([row.expand_as(col), col.sort(-1).values]).flatten(1)
        return make_sparse(edges.to(device), sizes, features, clusters, True, seed)

    return build


def input_bytes(batch: AnyWork) -> int:
    """Of everything that a batch holds; the graph of a problem is not counted."""
    own = batch.tensors if isinstance(batch, Problem) else {"x": batch.x} | tensors_of(batch)
    return sum(t.nbytes for t in (*own.values(), *batch.grads))


def tensors_of(batch: AnyBatch) -> dict[str, Tensor]:
    """What the work reads besides ``x``, by the name of its field."""
    if isinstance(batch, Batch):
        return {"adj": batch.adj, "logits": batch.logits}
    own = {"edge_index": batch.edge_index, "batch": batch.batch, "ptr": batch.ptr}
    return own if isinstance(batch.given, torch.nn.Linear) else own | {"given": batch.given}


def copied(batch: AnyWork) -> AnyWork:
    """The same values elsewhere in memory; the graph of a problem is shared."""
    if isinstance(batch, Problem):
        return batch.with_tensors(Tensor.clone)
    copies = {name: t.detach().clone() for name, t in ({"x": batch.x} | tensors_of(batch)).items()}
    for name in {"x", "logits", "given"} & set(copies):
        copies[name].requires_grad_()
    return replace(batch, **copies)


_DENSE = "B32 N1024 K256 F128 dense"
_MILLION = "N 1 000 000, E 16 000 000, K 64, F 64"
_SHAPE = (1_000_000, 16, 64, 64)

# In the order of what is wanted most, as time may run out.
_WORKLOADS = (
    GpuWorkload("dense-tf32", f"{_DENSE}, TF32", "dense", TF32, dense(32, 1024, 256, 128, torch.float32), share=3),
    GpuWorkload("dense-bf16", f"{_DENSE}, bf16", "dense", BF16, dense(32, 1024, 256, 128, torch.bfloat16), share=2),
    GpuWorkload("csr-1m", f"{_MILLION}, TF32", "large", TF32, scattered(*_SHAPE, torch.float32), share=2),
    GpuWorkload("graphs-1024", "1024 graphs of 20 to 46 nodes, K 8, F 64", "graphs", TF32, rings(1024, 20, 46, 8, 64),
                share=2, replayed=True),
    GpuWorkload("csr-40m", "N 40 000 000, E 160 000 000, K 64, F 64, bf16", "large", BF16,
                scattered(40_000_000, 4, 64, 64, torch.bfloat16), share=2),
    GpuWorkload("dense-ieee", f"{_DENSE}, IEEE float32", "dense", IEEE, dense(32, 1024, 256, 128, torch.float32),
                share=2),
    GpuWorkload("csr-1m-bf16", f"{_MILLION}, bf16", "large", BF16, scattered(*_SHAPE, torch.bfloat16)),
    GpuWorkload("csr-1m-linear", f"{_MILLION}, TF32, with a linear layer", "large-linear", TF32,
                with_linear(scattered(*_SHAPE, torch.float32))),
)  # fmt: skip
WORKLOADS: dict[str, GpuWorkload] = {w.name: w for w in _WORKLOADS}
