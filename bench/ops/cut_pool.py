"""The poolers of MinCut and DMoN on padded batches, against PyG's function and layer."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

import hierpool
from bench.harness.inputs import Call, Problem
from bench.harness.precision import TF32
from bench.harness.workload import Cost, Part, Request
from bench.ops.batches import Batch, builder
from bench.ops.calls import DENSE_TITLE, POOLED, POOLER, Build, normal, workload


def _communities(batch: Batch) -> Batch:
    """The batch with K communities that x and the logits tell of: in a graph without any, the modularity is 0, and what
    is left of it an error."""
    n, k, f = batch.adj.size(1), batch.clusters, batch.x.size(-1)
    own = torch.arange(n, device=batch.x.device) * k // n
    adj = batch.adj * torch.where(own[:, None] == own, 1.0, 0.01).to(batch.adj)
    logits = batch.logits.detach() + 4 * nn.functional.one_hot(own, k).to(batch.logits)
    x = batch.x.detach() + 4 * normal(batch.x, k, f)[own]
    return replace(batch, x=x.requires_grad_(), logits=logits.requires_grad_(), adj=adj)


def _pooling(
    batch: Batch, tensors: dict[str, Tensor], ours: Call, pyg: Call, names: tuple[str, ...]
) -> Problem:
    """A call that returns X', A' and losses; it needs the work of DiffPool's."""
    x, adj, _, _ = batch.grads
    losses = tuple(x.new_full((), float(len(x))) for _ in names[2:])
    return Problem((x, adj, *losses), tensors, ours, names, batch.work, batch.describe(), pyg)


@builder
def mincut(request: Request, build: Build) -> Problem:
    """``dense_mincut_pool``, told that A is symmetric."""
    batch = _communities(build(request))

    def pyg(x: Tensor, logits: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        from torch_geometric.nn import dense_mincut_pool

        return dense_mincut_pool(x, adj, logits)

    def ours(backend: str, x: Tensor, logits: Tensor, adj: Tensor) -> tuple[Tensor, ...]:
        return hierpool.dense_mincut_pool(x, adj, logits, symmetric=True, backend=backend)

    tensors = {"x": batch.x, "logits": batch.logits, "adj": batch.adj}
    return _pooling(batch, tensors, ours, pyg, ("x", "adj", "cut", "ortho"))


@builder
def dmon(request: Request, build: Build) -> Problem:
    """``DMoNPooling`` with one linear map, told that A is symmetric; without the cluster loss, where PyG's differs."""
    batch = _communities(build(request))
    k, f = batch.clusters, batch.x.size(-1)
    layer = cache(lambda kind, **options: kind(f, k, **options))  # made once

    def call(made: nn.Module, x: Tensor, weight: Tensor, bias: Tensor, adj: Tensor, **options: Any) -> Any:
        maps = {"mlp.lins.0.weight": weight, "mlp.lins.0.bias": bias}
        return tuple(torch.func.functional_call(made, maps, (x, adj), options))[1:5]

    def pyg(*tensors: Tensor) -> tuple[Tensor, ...]:
        from torch_geometric.nn import DMoNPooling

        return call(layer(DMoNPooling), *tensors)

    def ours(backend: str, *tensors: Tensor) -> tuple[Tensor, ...]:
        return call(layer(hierpool.DMoNPooling, backend=backend), *tensors, symmetric=True)

    weight, bias = normal(batch.x, k, f) / f**0.5, normal(batch.x, k)
    tensors = {
        "x": batch.x,
        "weight": weight.requires_grad_(),
        "bias": bias.requires_grad_(),
        "adj": batch.adj,
    }
    return _pooling(batch, tensors, ours, pyg, ("x", "adj", "spectral", "ortho"))


PART = Part((
    workload("mincut", f"MinCut, {DENSE_TITLE} K256 F128, TF32", mincut(POOLED), TF32, POOLER),
    workload("dmon", f"DMoN, {DENSE_TITLE} K256 F128, TF32", dmon(POOLED), TF32, POOLER),
))  # fmt: skip

COST = Cost("E K + N K (K + F)", "N K", "S, SᵀX, SᵀAS and the losses of MinCut and DMoN")
