"""Inputs of one pooling step: padded batches with a dense adjacency, and batches of all nodes with ``edge_index``.

Least work per graph of n nodes with E non-zeros, K clusters, F features, in elements and flops:

    forward   flops  2 E K [A S] + 2 n K (F + K + K/2) [S^T X, S^T M, half of S^T S]
              moved  A, L, X read, S and M = A S written
    backward  flops  2 n K F [dX] + 2 n K (F + 2K) [dS]
              moved  S, X, M read, dL and dX written
    directed  A^T S adds 2 E K and 2 n K K flops and one more reading of A to the backward
    linear    a layer of P weights that makes the logits adds 2 n P flops to the forward, 4 n P to the backward

A dense A is n n elements whatever its share of zeros; in compressed rows it is E + n + 1 numbers of 4 bytes. Making the
rows of ``edge_index`` is not counted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, TypeAlias, TypeVar

import torch
from torch import Tensor

from bench.harness.floors import Work, gathered_bytes
from bench.harness.inputs import Inputs
from bench.harness.workload import CPU, Request

T = TypeVar("T")
P = ParamSpec("P")
Upstream: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Pooling(Inputs):
    """What both forms share: features ``x``, sizes of the graphs, non-zeros of A and whether it is symmetric."""

    x: Tensor
    sizes: tuple[int, ...]
    entries: int
    symmetric: bool

    @property
    def output_names(self) -> tuple[str, ...]:
        return "x", "adj", "link", "entropy"

    @property
    def clusters(self) -> int:
        return self.grads[0].size(1)

    @property
    def padded_entries(self) -> int:
        """B N N, N the nodes of the largest graph: PyG divides the link loss by it."""
        return len(self.sizes) * max(self.sizes) ** 2

    @property
    def parameters(self) -> int:
        """Elements of a layer that is part of the work."""
        return 0

    @property
    @abstractmethod
    def adjacency_bytes(self) -> int:
        """Bytes of the real part of A."""

    def gathered(self, l2_bytes: int | None) -> float:
        """Bytes of the rows of S that the entries of A gather, beyond what a cache holds."""
        return 0

    def work(self, l2_bytes: int | None = None) -> tuple[Work, Work]:
        k, f, n, size = self.clusters, self.x.size(-1), sum(self.sizes), self.x.element_size()
        forward = Work(
            self.adjacency_bytes + size * (n * (k + f) + 2 * n * k) + self.gathered(l2_bytes),
            2 * self.entries * k + 2 * n * k * (f + 1.5 * k),
        )
        backward = Work(size * (n * (2 * k + f) + n * (k + f)), 2 * n * k * f + 2 * n * k * (f + 2 * k))
        if not self.symmetric:
            moved = self.adjacency_bytes + self.gathered(l2_bytes)
            backward += Work(moved, 2 * self.entries * k + 2 * n * k * k)
        p = self.parameters
        return forward + Work(size * p, 2 * n * p), backward + Work(2 * size * p, 4 * n * p)

    def describe(self) -> dict[str, int | bool]:
        return {
            "graphs": len(self.sizes), "padded_nodes": max(self.sizes), "features": self.x.size(-1),
            "clusters": self.clusters, "nodes": sum(self.sizes), "entries": self.entries, "symmetric": self.symmetric,
        }  # fmt: skip


@dataclass(frozen=True)
class Batch(Pooling):
    """``x [B, N, F]``, ``logits [B, N, K]``, ``adj [B, N, N]``; ``mask [B, N]`` is None when no row is padding."""

    logits: Tensor
    adj: Tensor
    mask: Tensor | None = None

    @property
    def adjacency_bytes(self) -> int:
        return self.adj.element_size() * sum(n * n for n in self.sizes)


@dataclass(frozen=True)
class SparseBatch(Pooling):
    """Inputs on the nodes of all graphs.

    ``x [N, F]``, ``edge_index [2, E]`` int64, ``batch [N]``, ``ptr [B + 1]``; ``given [N, K]`` are the logits, or None
    when they are ``x weight^T + bias``, computed in every step. ``coalesced``: edges are sorted by row and column.
    """

    edge_index: Tensor
    batch: Tensor
    ptr: Tensor
    given: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    coalesced: bool = False

    @property
    def logits(self) -> Tensor:
        """The assignment logits, by the linear layer if there is one."""
        if self.given is not None:
            return self.given
        assert self.weight is not None
        return torch.nn.functional.linear(self.x, self.weight, self.bias)

    @property
    def leaf_names(self) -> tuple[str, ...]:
        return tuple("logits" if name == "given" else name for name in super().leaf_names)

    @property
    def parameters(self) -> int:
        return sum(t.numel() for t in (self.weight, self.bias) if t is not None)

    @property
    def adjacency_bytes(self) -> int:
        return 4 * (self.entries + sum(self.sizes) + 1)

    def gathered(self, l2_bytes: int | None) -> float:
        row = self.clusters * self.x.element_size()
        whole = sum(self.sizes) * row
        if l2_bytes is None or whole <= l2_bytes:
            return 0
        return gathered_bytes(self.entries, row, whole, l2_bytes)


class PerBatch(Generic[T]):
    """What comes with a batch before the step: made at its first use, and kept until another batch is used."""

    def __init__(self, make: Callable[[SparseBatch], T]) -> None:
        self.make = make
        self.batch: SparseBatch | None = None

    def __call__(self, batch: SparseBatch) -> T:
        if batch is not self.batch:
            self.batch, self.made = batch, self.make(batch)
        return self.made


# ---- making them ----------------------------------------------------------------------------------------------------


def builder(make: Callable[Concatenate[Request, P], T]) -> Callable[P, Callable[[Request], T]]:
    """``make(request, ...)`` as a function of the other arguments, which returns ``build(request)``."""

    @wraps(make)
    def with_arguments(*args: P.args, **options: P.kwargs) -> Callable[[Request], T]:
        return lambda request: make(request, *args, **options)

    return with_arguments


def generator(seed: int, device: torch.device = CPU) -> torch.Generator | None:
    """A generator of random numbers on ``device``; none for "meta", which has shapes alone."""
    return None if device.type == "meta" else torch.Generator(device).manual_seed(seed)


def draw(
    nodes: tuple[int, ...], graphs: int, largest: int, features: int, clusters: int, request: Request,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Upstream]:  # fmt: skip
    """Features ``[*nodes, F]``, logits ``[*nodes, K]`` and upstream gradients, normally distributed.

    The gradients undo the losses' division by ``B N N`` and ``B N``, so that each of the four outputs moves the
    gradients visibly.
    """
    gen, empty = generator(request.seed, request.device), torch.empty(0, device=request.device, dtype=dtype)

    def normal(*shape: int) -> Tensor:
        made = empty.new_empty(shape)
        return made if gen is None else made.normal_(generator=gen)

    x, logits = normal(*nodes, features), normal(*nodes, clusters)
    grads = (
        normal(graphs, clusters, features),
        normal(graphs, clusters, clusters),
        empty.new_tensor(float(graphs * largest * largest)),
        empty.new_tensor(float(graphs * largest)),
    )
    return x, logits.requires_grad_(), grads


def make_batch(
    adj: Tensor, sizes: Sequence[int], features: int, clusters: int, symmetric: bool, seed: int
) -> Batch:
    """Complete an adjacency ``[B, N, N]`` on the CPU with features, logits, mask and upstream gradients."""
    b, n, _ = adj.shape
    mask = torch.arange(n) < torch.tensor(sizes).unsqueeze(1)  # [B, N]
    x, logits, grads = draw((b, n), b, n, features, clusters, Request(seed))
    x = (x * mask.unsqueeze(-1)).requires_grad_()
    entries = int(adj.count_nonzero())
    return Batch(
        grads, x, tuple(sizes), entries, symmetric, logits, adj, mask=mask if min(sizes) < n else None
    )


def make_sparse(
    edge_index: Tensor, sizes: Sequence[int], features: int, clusters: int, symmetric: bool, seed: int,
    dtype: torch.dtype = torch.float32, coalesced: bool = False,
) -> SparseBatch:  # fmt: skip
    """Complete a block-diagonal ``edge_index`` with features, logits and upstream gradients, on its device."""
    b, n, device = len(sizes), max(sizes), edge_index.device
    x, logits, grads = draw((sum(sizes),), b, n, features, clusters, Request(seed, device), dtype)
    lengths = torch.tensor(sizes, device=device)
    ptr = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    batch = torch.repeat_interleave(torch.arange(b, device=device), lengths, output_size=sum(sizes))
    return SparseBatch(
        grads, x.requires_grad_(), tuple(sizes), edge_index.size(1), symmetric, edge_index, batch, ptr, given=logits,
        coalesced=coalesced,
    )  # fmt: skip


@builder
def of_dense(request: Request, build: Callable[[Request], Batch]) -> SparseBatch:
    """The real nodes and the non-zeros of a padded batch, with its gradients."""
    dense = build(request)
    lengths = torch.tensor(dense.sizes)
    real = torch.arange(dense.adj.size(1)) < lengths.unsqueeze(1)
    graph, row, col = dense.adj.nonzero(as_tuple=True)
    first = lengths.cumsum(0) - lengths
    edge_index = torch.stack([first[graph] + row, first[graph] + col])
    made = make_sparse(edge_index, dense.sizes, 1, 1, dense.symmetric, request.seed)
    x, logits = (t.detach()[real].requires_grad_() for t in dense.leaves)
    return replace(made, x=x, given=logits, grads=dense.grads)


@builder
def with_linear(request: Request, build: Callable[[Request], SparseBatch]) -> SparseBatch:
    """The same batch with logits from a linear layer of the features."""
    batch = build(request)
    gen, f = generator(request.seed, request.device), batch.x.size(1)
    weight, bias = batch.x.new_empty(batch.clusters, f), batch.x.new_empty(batch.clusters)
    for parameter in (weight, bias) if gen is not None else ():
        parameter.normal_(std=f**-0.5, generator=gen)
    return replace(batch, given=None, weight=weight.requires_grad_(), bias=bias.requires_grad_())
