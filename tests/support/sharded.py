"""Drawn graphs, sharded among processes and whole, and the comparison of what is computed of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from hierpool import RaggedGraph, SoftPoolRecord, soft_pool
from hierpool.distributed import ShardedGraph

F, K = 3, 4
FIELDS = ("x", "adj", "gram", "size", "volume", "num_nodes", "entropy", "cut_degree", "adj_norm", "total_degree",
          "link", "link_norm", "total_entropy")  # fmt: skip


class Drawn(NamedTuple):
    """A graph in float64, the same in all processes."""

    graph: RaggedGraph
    x: Tensor
    s: Tensor
    parts: Tensor | None
    options: dict[str, Any]

    def cast(self, dtype: torch.dtype) -> Drawn:
        graph = self.graph if self.graph.value is None else self.graph.to(dtype=dtype)
        return self._replace(graph=graph, x=self.x.to(dtype), s=self.s.to(dtype))


def draw(seed: int, processes: int) -> Drawn:
    """Directed and not, weighted and not, with hubs, without edges, of several graphs, in every partition."""
    generator = torch.Generator().manual_seed(seed)

    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    sizes = [below(14) for _ in range(1 + below(3))] if seed % 3 else [2 + below(40)]
    sizes = [[1], [2], [0], [3, 0, 2]][seed % 4] if seed % 10 == 9 else sizes
    n, density = sum(sizes), (0.0, 0.1, 0.3, 0.6)[below(4)]
    adj = torch.zeros(n, n, dtype=torch.float64)
    start = 0
    for size in sizes:
        block = (torch.rand(size, size, generator=generator) < density).double()
        if size > 3 and below(2):
            block[0] = 1  # a hub
        block *= torch.rand(size, size, generator=generator, dtype=torch.float64) + 0.1 if below(2) else 1
        adj[start : start + size, start : start + size] = block if below(2) else block + block.t()
        start += size
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    edges = adj.nonzero().t()
    weight = None if bool((adj[adj != 0] == 1).all()) else adj[edges[0], edges[1]]
    order = (
        torch.randperm(n, generator=generator) if below(2) else torch.arange(n)
    )  # batches not sorted by graph
    number = order.argsort()
    graph = RaggedGraph.from_edge_index(
        number[edges], n, edge_weight=weight, batch=batch[order], num_graphs=len(sizes)
    )
    parts = (
        None,
        torch.randint(processes, (n,), generator=generator),
        torch.full((n,), processes - 1),  # all others are empty
        (torch.arange(n) % max(processes, 1)),
    )[below(4)]
    x = torch.randn(n, F, generator=generator, dtype=torch.float64)
    s = 2 * torch.randn(n, K, generator=generator, dtype=torch.float64)
    options: dict[str, Any] = {}
    if below(3) == 0:
        options["temperature"] = 0.7
    elif below(3) == 0:
        options["assignment"], s = "given", s.softmax(-1)
    if below(4) == 0:
        options["num_clusters"] = torch.randint(1, K + 1, (len(sizes),), generator=generator)
    return Drawn(graph, x, s, parts, options)


class Results(NamedTuple):
    """Fields by name, and gradients of rows and entries, in the order of the whole graph."""

    fields: dict[str, Tensor]
    gradients: dict[str, Tensor]


def weights(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar(record: SoftPoolRecord, rows: Tensor, total: int) -> Tensor:
    """A sum of all fields with random weights; of ``s``, those of the nodes ``rows`` of ``total``."""
    found = (record.s.double() * weights(torch.Size((total, record.s.size(1))), 1)[rows]).sum()
    for seed, name in enumerate(FIELDS, 2):
        value = getattr(record, name)
        if name != "num_nodes":
            found = found + (value.double() * weights(value.shape, seed)).sum()
    return found


def whole_results(drawn: Drawn, backend: str = "reference") -> Results:
    """The results of one process."""
    x, s = drawn.x.clone().requires_grad_(), drawn.s.clone().requires_grad_()
    graph, leaves = drawn.graph, [x, s]
    if graph.value is not None:
        value = graph.value.detach().clone().requires_grad_()
        graph = graph.with_value(value, symmetric=graph.is_symmetric)
        leaves.append(value)
    record = soft_pool(x, graph, s, backend=backend, **drawn.options)
    n = graph.num_nodes
    grads = list(torch.autograd.grad(scalar(record, torch.arange(n), n), leaves))
    names = dict(zip(("x", "s"), grads, strict=False))
    if graph.value is not None:
        names["value"] = dense(graph.to_edge_index()[0], grads[2], n)
    fields = {name: getattr(record, name).detach() for name in FIELDS} | {"s": record.s.detach()}
    return Results(fields, names)


def dense(ends: Tensor, value: Tensor, n: int) -> Tensor:
    out = value.new_zeros(n, n)
    out[ends[0], ends[1]] = value
    return out


def sharded_results(drawn: Drawn, group: dist.ProcessGroup) -> Results:
    """The results of the processes of a group, gathered."""
    src = dist.get_rank(group) == 0
    graph = ShardedGraph.from_global(
        drawn.graph if src else None, parts=drawn.parts if src else None, group=group
    )
    assert graph.is_symmetric == drawn.graph.is_symmetric
    assert graph.total_nodes == drawn.graph.num_nodes
    assert graph.total_edges == drawn.graph.num_edges
    x = graph.scatter(drawn.x if src else None).requires_grad_()
    s = graph.scatter(drawn.s if src else None).requires_grad_()
    leaves = [x, s]
    if graph.value is not None:
        value = graph.value.clone().requires_grad_()
        graph = graph.with_value(value, symmetric=graph.is_symmetric)
        leaves.append(value)
    record = soft_pool(x, graph, s, **drawn.options)
    # One process adds all rows of s, the others have their own.
    grads = list(torch.autograd.grad(scalar(record, graph.nodes, graph.total_nodes), leaves))
    fields = {name: getattr(record, name).detach() for name in FIELDS} | {"s": graph.gather(record.s)}
    names = {"x": graph.gather(grads[0]), "s": graph.gather(grads[1])}
    if graph.value is not None:
        n = graph.total_nodes
        callers = graph.gather(torch.zeros(graph.num_nodes)).new_empty(0, dtype=torch.int64)
        callers = graph.ranks.gather(graph.nodes, graph.offsets.diff().tolist())
        own = dense(torch.stack([graph.nodes[graph.row], callers[graph.col]]), grads[2], n)
        names["value"] = graph.total(own)
    return Results(fields, names)


def compare(got: Results, exact: Results, plain: Results | None, eps: float) -> None:
    """At most twice the error of plain PyTorch in the same dtype, plus a few roundings."""
    for kind in ("fields", "gradients"):
        for name, truth in getattr(exact, kind).items():
            value = getattr(got, kind)[name].double()
            truth = truth.double()
            assert value.shape == truth.shape, (name, value.shape, truth.shape)
            if not truth.numel():
                continue
            baseline = 0.0
            if plain is not None:
                baseline = float((getattr(plain, kind)[name].double() - truth).abs().max())
            scale = float(truth.abs().max()) + 1
            if name in ("link", "link_norm"):  # a difference of sums
                scale = float(exact.fields["adj_norm"].max()) + K
            error = float((value - truth).abs().max())
            assert error <= 2 * baseline + 64 * eps * scale, (kind, name, error, baseline, scale)


def close(got: Any, expected: Any) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def sharded(seed: int, group: dist.ProcessGroup, **options: Any) -> tuple[Any, ShardedGraph]:
    """A drawn graph, whole in all processes, and sharded."""
    drawn = draw(seed, dist.get_world_size(group))
    return drawn, ShardedGraph.from_global(drawn.graph, parts=drawn.parts, src=None, group=group, **options)


def raises(kind: type[Exception], text: str, call: Callable[[], Any], size: int) -> None:
    """The call raises in every process, in groups of at least two."""
    try:
        call()
    except kind as error:
        assert text in str(error), f"{text!r} is not in {error}"  # noqa: PT017
    else:
        assert size == 1, f"expected {kind.__name__} with {text!r}"
