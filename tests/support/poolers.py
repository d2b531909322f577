"""Batches for the tests of soft poolers, in all forms that poolers take."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hierpool import RaggedGraph
from hierpool.nn import POOLERS, PoolingOutput, SoftPooling

NAMES = tuple(POOLERS)
SIZES = (5, 1, 8, 3)
F, K = 4, 3


class Batch(NamedTuple):
    """The same weighted, directed graphs in all forms; the third has a node without edges, the last has no edge."""

    x: Tensor  # [N, F]
    edge_index: Tensor  # [2, E]
    edge_weight: Tensor  # [E]
    batch: Tensor  # [N]
    padded: Tensor  # [B, M, F]
    adj: Tensor  # [B, M, M]
    mask: Tensor  # [B, M]


def make_batch(dtype: torch.dtype = torch.float64, symmetric: bool = False, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    largest = max(SIZES)
    mask = torch.arange(largest) < torch.tensor(SIZES)[:, None]
    adj = torch.rand(len(SIZES), largest, largest, generator=generator, dtype=torch.float64)
    adj = adj * (torch.rand(adj.shape, generator=generator) < 0.5) * mask[:, None, :] * mask[:, :, None]
    adj[2, 7] = adj[2, :, 7] = adj[3] = 0
    adj = (adj + adj.mT if symmetric else adj).to(dtype)
    padded = torch.randn(len(SIZES), largest, F, generator=generator, dtype=torch.float64).to(dtype)
    padded = padded * mask[..., None]
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    b, i, j = adj.nonzero(as_tuple=True)
    batch = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    edges = torch.stack([ptr[b] + i, ptr[b] + j])
    return Batch(padded[mask], edges, adj[b, i, j], batch, padded, adj, mask)


def make_pooler(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> SoftPooling:
    torch.manual_seed(1)
    return POOLERS[name](F, K, **options).to(dtype)


def scalar(out: PoolingOutput) -> Tensor:
    """A number that everything in the output has a part in."""
    of = {"dtype": torch.float64, "device": out.x.device}
    weights = torch.linspace(0.5, 1.5, out.x.numel(), **of).view(out.x.shape)
    adj = torch.linspace(-1, 1, out.adj.numel(), **of).view(out.adj.shape)
    return (out.x.double() * weights).sum() + (out.adj.double() * adj).sum() + sum(out.loss.values()).double()


def assert_same(got: PoolingOutput, expected: PoolingOutput) -> None:
    for name in ("x", "adj", "loss", "mask"):
        torch.testing.assert_close(
            getattr(got, name), getattr(expected, name), msg=lambda m, n=name: f"{n}: {m}"
        )


def forms(b: Batch) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments that all say the same."""
    graph = RaggedGraph.from_edge_index(b.edge_index, len(b.x), edge_weight=b.edge_weight, batch=b.batch)
    sparse = torch.sparse_coo_tensor(b.edge_index, b.edge_weight, (len(b.x),) * 2)
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    return {
        "edge_index": ((b.x, b.edge_index, b.edge_weight), {"batch": b.batch}),
        "ptr": ((b.x, b.edge_index, b.edge_weight), {"ptr": ptr}),
        "ragged": ((b.x, graph), {}),
        "sparse": ((b.x, sparse), {"ptr": ptr}),
    }


def run(
    name: str, b: Batch, form: str, dtype: torch.dtype, device: torch.device | str = "cpu", **options: Any
) -> dict[str, Tensor]:
    """All outputs of a pooler, and the gradients of its parameters, by name."""

    def moved(t: Any) -> Any:
        if isinstance(t, RaggedGraph):
            return t.to(device, dtype)
        if not isinstance(t, Tensor):
            return t
        return t.to(device, dtype if t.is_floating_point() else t.dtype)

    pooler = make_pooler(name, dtype, **options).to(device)
    args, given = ((b.padded, b.adj), {"mask": b.mask}) if form == "dense" else forms(b)[form]
    out = pooler(*map(moved, args), **{key: moved(value) for key, value in given.items()})
    names, parameters = zip(*pooler.named_parameters(), strict=True)
    grads = torch.autograd.grad(scalar(out), parameters)
    found = {"x": out.x, "adj": out.adj} | out.loss | {f"d{n}": g for n, g in zip(names, grads, strict=True)}
    return {what: t.detach() for what, t in found.items()}
