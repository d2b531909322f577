"""What is timed on a GPU beside soft pooling: operators on the graphs of `bench.gpu.workloads`, and two poolers.

Least work (a multiply-add is 2 flops): A is read once, as it is stored, and rows that the entries of a sparse A gather
as often as the L2 cache cannot hold them. Absolute differences are no products: they count 0 flops. The backward reads
the inputs again and writes the gradients. A pooling call needs what DiffPool's does (`bench.floors`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import hierpool
from bench.bytes import least_work
from bench.costs import gathered_bytes, size
from bench.floors import Work
from bench.gpu.workloads import IEEE, TF32, Build, GpuWorkload, dense, scattered
from bench.operators import Call, Problem
from bench.workloads import generator

Make = Callable[[int, torch.device], Problem]


def _normal(like: Tensor, *shape: int) -> Tensor:
    gen = generator(1, like.device)
    return torch.randn(shape, generator=gen, device=like.device, dtype=like.dtype)


def _assignment(batch: Any) -> Tensor:
    return batch.logits.detach().softmax(-1).requires_grad_()


# ---- on the entries of a sparse A ------------------------------------------------------------------------------------


def _on_graph(
    build: Build, call: Callable[[Any, Tensor, str], Tensor], rows_of: Callable[[Any], Tensor],
    shape: Callable[[Tensor, int], tuple[int, ...]], multiplies: bool = False,
) -> Make:  # fmt: skip
    """``call(graph, rows, backend)`` with rows of the nodes of a graph that is made before.

    ``shape(rows, entries)`` is that of the output; ``multiplies``: the rows, by the entries.
    """

    def make(seed: int, device: torch.device) -> Problem:
        batch: Any = build(seed, device)
        rows, entries = rows_of(batch), batch.entries
        graph = hierpool.RaggedGraph.from_edge_index(
            batch.edge_index, len(rows), ptr=batch.ptr, symmetric=batch.symmetric, is_coalesced=True
        )
        grad = _normal(rows, *shape(rows, entries))
        flops = 2 * entries * rows.size(1) if multiplies else 0

        def work(l2_bytes: int) -> tuple[Work, Work]:
            moved = batch.adjacency_bytes + gathered_bytes(rows, entries, l2_bytes) + size(grad)
            return Work(moved, flops), Work(moved + size(rows), flops)

        return Problem(
            {"rows": rows}, lambda backend, rows: (call(graph, rows, backend),), ("output",), (grad,), work,
            {"nodes": len(rows), "entries": entries, "columns": rows.size(1)},
        )  # fmt: skip

    return make


def spmm(build: Build) -> Make:
    """A X."""
    return _on_graph(
        build, lambda graph, x, backend: hierpool.spmm(graph, x, backend=backend), lambda batch: batch.x,
        lambda x, entries: tuple(x.shape), multiplies=True,
    )  # fmt: skip


def edge_distances(build: Build) -> Make:
    """The distance between the rows of X at both ends of every edge."""
    return _on_graph(
        build, lambda graph, x, backend: hierpool.edge_distances(graph, x, backend=backend),
        lambda batch: batch.x, lambda x, entries: (entries,),
    )  # fmt: skip


def total_variation(build: Build) -> Make:
    """Of S over the edges."""
    return _on_graph(
        build, lambda graph, s, backend: hierpool.total_variation(s, graph, backend=backend).variation,
        _assignment, lambda s, entries: (1,),
    )  # fmt: skip


# ---- on dense batches ------------------------------------------------------------------------------------------------


def _sizes(s: Tensor) -> dict[str, int]:
    return {"graphs": len(s), "nodes": s.numel() // s.size(-1), "clusters": s.size(-1)}


def asymmetric_norm(build: Build) -> Make:
    """Of S about the quantiles of its columns."""

    def make(seed: int, device: torch.device) -> Problem:
        s = _assignment(build(seed, device))
        return Problem(
            {"s": s}, lambda backend, s: (hierpool.asymmetric_norm(s, backend=backend),), ("output",),
            (_normal(s, len(s)),), lambda l2_bytes: (Work(size(s), 0), Work(2 * size(s), 0)), _sizes(s),
        )  # fmt: skip

    return make


def _on_pairs(
    build: Build, call: Callable[[Tensor, Tensor, str], Tensor], graphwise: bool, flops: int
) -> Make:
    """``call(s, adj, backend)`` with a number for each graph, or one; ``flops`` of a cluster and two nodes, forward."""

    def make(seed: int, device: torch.device) -> Problem:
        batch: Any = build(seed, device)
        s, adj = _assignment(batch), batch.adj
        products = flops * adj.numel() * s.size(-1)
        grad = _normal(s, len(s)) if graphwise else _normal(s)
        return Problem(
            {"s": s, "adj": adj}, lambda backend, s, adj: (call(s, adj, backend),), ("output",), (grad,),
            lambda l2_bytes: (Work(size(s, adj), products), Work(size(s, adj, s), 2 * products)), _sizes(s),
        )  # fmt: skip

    return make


def dense_total_variation(build: Build) -> Make:
    """Of S over the entries of A."""
    return _on_pairs(
        build, lambda s, adj, backend: hierpool.total_variation(s, adj, backend=backend).variation,
        graphwise=True, flops=0,
    )  # fmt: skip


def link_bce(build: Build) -> Make:
    """The cross-entropy of A and S S^T, of which one half is enough."""
    return _on_pairs(
        build, lambda s, adj, backend: hierpool.link_bce(s, adj, symmetric=True, backend=backend),
        graphwise=False, flops=1,
    )  # fmt: skip


# ---- poolers ---------------------------------------------------------------------------------------------------------


def _communities(batch: Any) -> Any:
    """The batch with K communities that x and the logits tell of: in a graph without any, the modularity is 0, and what
    is left of it an error."""
    n, k, f = batch.adj.size(1), batch.clusters, batch.x.size(-1)
    own = torch.arange(n, device=batch.x.device) * k // n
    adj = batch.adj * torch.where(own[:, None] == own, 1.0, 0.01).to(batch.adj)
    logits = batch.logits.detach() + 4 * nn.functional.one_hot(own, k).to(batch.logits)
    x = batch.x.detach() + 4 * _normal(batch.x, k, f)[own]
    return replace(batch, x=x.requires_grad_(), logits=logits.requires_grad_(), adj=adj)


def _pooling(
    batch: Any, tensors: dict[str, Tensor], ours: Call, pyg: Call, names: tuple[str, ...]
) -> Problem:
    """A call that returns X', A' and losses."""
    x, adj, _, _ = batch.grads
    losses = tuple(x.new_full((), float(len(x))) for _ in names[2:])

    def work(l2_bytes: int) -> tuple[Work, Work]:
        least = least_work(batch, l2_bytes)
        return least["forward"], least["backward"]

    return Problem(tensors, ours, names, (x, adj, *losses), work, batch.describe(), pyg)


def mincut(build: Build) -> Make:
    """``dense_mincut_pool``, told that A is symmetric."""

    def pyg(x: Tensor, logits: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        from torch_geometric.nn import dense_mincut_pool

        return dense_mincut_pool(x, adj, logits)

    def ours(backend: str, x: Tensor, logits: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        return hierpool.dense_mincut_pool(x, adj, logits, symmetric=True, backend=backend)

    def make(seed: int, device: torch.device) -> Problem:
        batch = _communities(build(seed, device))
        tensors = {"x": batch.x, "logits": batch.logits, "adj": batch.adj}
        return _pooling(batch, tensors, ours, pyg, ("x", "adj", "cut", "ortho"))

    return make


def dmon(build: Build) -> Make:
    """``DMoNPooling`` with one linear map, told that A is symmetric; without the cluster loss, where PyG's differs."""

    layer = cache(lambda kind, *sizes, **options: kind(*sizes, **options))  # made once

    def call(made: nn.Module, x: Tensor, weight: Tensor, bias: Tensor, adj: Tensor, **options: Any) -> Any:
        maps = {"mlp.lins.0.weight": weight, "mlp.lins.0.bias": bias}
        return tuple(torch.func.functional_call(made, maps, (x, adj), options))[1:5]

    def pyg(x: Tensor, weight: Tensor, bias: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        from torch_geometric.nn import DMoNPooling

        return call(layer(DMoNPooling, x.size(-1), len(bias)), x, weight, bias, adj)

    def ours(backend: str, x: Tensor, weight: Tensor, bias: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        made = layer(hierpool.DMoNPooling, x.size(-1), len(bias), backend=backend)
        return call(made, x, weight, bias, adj, symmetric=True)

    def make(seed: int, device: torch.device) -> Problem:
        batch = _communities(build(seed, device))
        k, f = batch.clusters, batch.x.size(-1)
        weight = (_normal(batch.x, k, f) / f**0.5).requires_grad_()
        tensors = {
            "x": batch.x,
            "weight": weight,
            "bias": _normal(batch.x, k).requires_grad_(),
            "adj": batch.adj,
        }
        return _pooling(batch, tensors, ours, pyg, ("x", "adj", "spectral", "ortho"))

    return make


# ---- workloads -------------------------------------------------------------------------------------------------------

_MILLION, _EDGES = scattered(1_000_000, 16, 64, 64, torch.float32), "N 1 000 000, E 16 000 000"
_PAIRS, _DENSE = dense(32, 1024, 64, 64, torch.float32), "B32 N1024"
_POOLED = dense(32, 1024, 256, 128, torch.float32)

# In the order of what is wanted most, as time may run out.
_OPERATORS = (
    GpuWorkload("mincut", f"MinCut, {_DENSE} K256 F128, TF32", "pooler", TF32, mincut(_POOLED)),
    GpuWorkload("dmon", f"DMoN, {_DENSE} K256 F128, TF32", "pooler", TF32, dmon(_POOLED)),
    GpuWorkload("spmm", f"spmm, {_EDGES}, F 64", "operator", IEEE, spmm(_MILLION)),
    GpuWorkload("variation", f"total_variation, {_EDGES}, K 64", "operator", IEEE, total_variation(_MILLION)),
    GpuWorkload("norm", f"asymmetric_norm, {_DENSE} K256", "operator", IEEE, asymmetric_norm(_POOLED)),
    GpuWorkload("link-bce", f"link_bce, {_DENSE} K64, TF32", "operator", TF32, link_bce(_PAIRS)),
    GpuWorkload("distances", f"edge_distances, {_EDGES}, F 64", "operator", IEEE, edge_distances(_MILLION)),
    GpuWorkload("variation-dense", f"total_variation, {_DENSE} K64, dense", "operator", IEEE,
                dense_total_variation(_PAIRS)),
)  # fmt: skip
OPERATORS: dict[str, GpuWorkload] = {w.name: w for w in _OPERATORS}
