"""The calls whose launches are counted, and the table of ``python -m bench launches``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import hierpool
from bench.harness.launches import Counts, count, host_us, without_device
from bench.harness.workload import not_installed
from bench.ops.soft_pool import EXTRA

B, N, K, F = (
    2,
    24,
    15,
    8,
)  # small, as torch computes on the CPU here; counts are those of any batch of small graphs
LEGEND = (
    f"B {B}, N {N}, K {K}, F {F}. Triton launches + kernels of torch, allocations beside those of the kernels.\n"
    "us: time of the host up to the driver, with the little arithmetic of the kernels of torch on the CPU."
)


class Call(NamedTuple):
    """A call, and the tensors that need a gradient."""

    forward: Callable[[], tuple[Tensor, ...]]
    leaves: tuple[Tensor, ...]


class Row(NamedTuple):
    """What a call needs, and the time of the host for the forward and for both ways, if it was asked for."""

    forward: Counts
    backward: Counts
    times_us: tuple[float, float] | None


def _batch(masked: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Features, adjacency, logits and mask of a padded batch; A is not symmetric, as the poolers cannot know it."""
    draw = torch.Generator().manual_seed(0)
    x, s = (torch.randn(B, N, size, generator=draw).requires_grad_() for size in (F, K))
    adj = (torch.rand(B, N, N, generator=draw) < 0.1).float()
    mask = torch.arange(N) < torch.randint(1, N + 1, (B, 1), generator=draw)
    return x, adj, s, mask if masked else None


def _function(name: str, library: Any, masked: bool = True) -> Call:
    x, adj, s, mask = _batch(masked)
    return Call(lambda: getattr(library, name)(x, adj, s, mask), (x, s))


def _dmon(library: Any) -> Call:
    x, adj, _, mask = _batch()
    layer = library.DMoNPooling(F, K)
    return Call(lambda: layer(x, adj, mask), (x, *layer.parameters()))


def _graph() -> tuple[hierpool.RaggedGraph, Tensor, Tensor]:
    """A symmetric batch of sparse graphs without weights, and features and logits of its nodes."""
    draw = torch.Generator().manual_seed(0)
    node, step = torch.randint(N, (2, 4 * B * N), generator=draw)
    first = torch.arange(B).repeat_interleave(4 * N) * N
    edges = torch.stack([first + node, first + (node + step) % N])
    edges = torch.cat([edges, edges.flip(0)], 1).unique(dim=1).contiguous()
    graph = hierpool.RaggedGraph.from_edge_index(edges, ptr=torch.arange(B + 1) * N)
    x, s = (torch.randn(B * N, size, generator=draw).requires_grad_() for size in (F, K))
    return graph, x, s


def _soft_pool(library: Any) -> Call:
    """All results."""
    graph, x, s = _graph()
    return Call(lambda: library.soft_pool(x, graph, s)[:8], (x, s))


def _diff_pool(library: Any) -> Call:
    graph, x, s = _graph()
    return Call(lambda: library.diff_pool(x, graph, s)[:4], (x, s))


def _spmm(library: Any) -> Call:
    graph, x, _ = _graph()
    return Call(lambda: (library.spmm(graph, x),), (x,))


CALLS: dict[str, Callable[[Any], Call]] = {
    "dense_diff_pool, mask": partial(_function, "dense_diff_pool"),
    "dense_diff_pool": partial(_function, "dense_diff_pool", masked=False),
    "dense_mincut_pool, mask": partial(_function, "dense_mincut_pool"),
    "DMoNPooling, mask": _dmon,
    "soft_pool, CSR": _soft_pool,
    "diff_pool, CSR": _diff_pool,
    "spmm": _spmm,
}
"""By name: what makes the call of a library, which is ``hierpool`` or has functions of the same names."""


def measure(call: Call, timed: bool = False) -> Row:
    """Counts of a call, after a first one, with gradients of all results; inside `without_device`."""
    forward, leaves = call

    def differentiated() -> tuple[Tensor, ...]:
        return tuple(t for t in forward() if t.requires_grad)

    def both() -> Any:
        return torch.autograd.grad(differentiated(), leaves, upstream)

    upstream = [torch.ones_like(t) for t in differentiated()]
    both()
    ahead, results = count(differentiated)
    back, _ = count(lambda: torch.autograd.grad(results, leaves, upstream))
    return Row(ahead, back, (host_us(forward), host_us(both)) if timed else None)


def _cells(row: Row) -> list[str]:
    ways = [f"{way.launches} + {way.kernels}, {way.allocations}" for way in (row.forward, row.backward)]
    return ways + [f"{us:.0f}" for us in row.times_us or ()]


def table() -> list[list[str]]:
    """Counts and times of ours and, where it has the call, of PyTorch Geometric.

    Raises:
        RuntimeError: a package is missing, or Triton interprets its kernels.
    """
    try:
        import torch_geometric.nn as pyg
    except ImportError as error:
        raise not_installed(error, EXTRA) from error
    heads = ["forward", "backward", "us", "us, both"]
    lines = [["call", *heads, *(f"PyG {head}" for head in heads)]]
    with without_device():
        for name, make in CALLS.items():
            peer = _cells(measure(make(pyg), timed=True)) if hasattr(pyg, name.split(",")[0]) else ["-"] * 4
            lines.append([name, *_cells(measure(make(hierpool), timed=True)), *peer])
    return lines
