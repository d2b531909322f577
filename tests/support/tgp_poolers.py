"""Poolers of torch-geometric-pool, batches for them, and all that a user sees of them with the patch and without.

Whatever imports this is skipped where torch-geometric-pool is not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from hierpool.integrations.tgp import patch, unpatch
from tests.support.tgp import import_tgp

poolers = import_tgp("tgp.poolers")

POOLERS = (
    "DiffPool",
    "MinCutPooling",
    "DMoNPooling",
    "AsymCheegerCutPooling",
    "JustBalancePooling",
    "HOSCPooling",
)
MODES = ("sparse", "dense", "unbatched")
RAW = {"remove_self_loops": False, "degree_norm": False}
F, K = 5, 4


class Batch(NamedTuple):
    """Directed weighted graphs, the second of which has no edges, and the last of which has a node without any."""

    x: Tensor
    edge_index: Tensor
    edge_weight: Tensor
    batch: Tensor
    dense_x: Tensor
    adj: Tensor
    mask: Tensor


def make_batch(
    dtype: torch.dtype = torch.float64, sizes: tuple[int, ...] = (7, 3, 9), seed: int = 0
) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    b, n = len(sizes), max(sizes)
    mask = torch.arange(n) < torch.tensor(sizes)[:, None]
    adj = torch.rand(b, n, n, generator=draw, dtype=torch.float64)
    adj = adj * (torch.rand(b, n, n, generator=draw) < 0.4) * mask[:, None] * mask[..., None]
    if b > 1:
        adj[1] = 0
    adj[-1, 4] = adj[-1, :, 4] = 0
    dense_x = torch.randn(b, n, F, generator=draw, dtype=torch.float64) * mask[..., None]
    owner, row, col = adj.nonzero(as_tuple=True)
    first = torch.tensor([0, *sizes]).cumsum(0)[owner]
    graph_of_node = torch.arange(b).repeat_interleave(torch.tensor(sizes))
    return Batch(
        dense_x[mask].to(dtype), torch.stack([row + first, col + first]), adj[owner, row, col].to(dtype),
        graph_of_node, dense_x.to(dtype), adj.to(dtype), mask,
    )  # fmt: skip


def make_pooler(name: str, mode: str, dtype: torch.dtype = torch.float64, **options: Any) -> Any:
    torch.manual_seed(1)
    return getattr(poolers, name)([F, 6], K, act="relu", batched=mode != "unbatched", **options).to(dtype)


def call(pooler: Any, b: Batch, mode: str) -> tuple[Any, dict[str, Tensor]]:
    """The output, and the leaves that it can be differentiated in."""
    if mode == "dense":
        leaves = {"x": b.dense_x.clone().requires_grad_(), "adj": b.adj.clone().requires_grad_()}
        # Gradients of entries that are 0: of padding theirs are not, without edges they are 1 / eps.
        out = pooler(leaves["x"], leaves["adj"] * (b.adj != 0), mask=b.mask)
    else:
        leaves = {"x": b.x.clone().requires_grad_(), "weight": b.edge_weight.clone().requires_grad_()}
        out = pooler(leaves["x"], b.edge_index, leaves["weight"], batch=b.batch)
    return out, {**leaves, **dict(pooler.named_parameters())}


def results(out: Any, leaves: dict[str, Tensor]) -> dict[str, Any]:
    """All that a user can see, and gradients of a random sum of it."""
    seen = {"x": out.x, "edge_index": out.edge_index, "edge_weight": out.edge_weight, "batch": out.batch}
    seen |= {"s": out.so.s, "s_inv": out.so.s_inv, "in_mask": out.so.in_mask, "mask": out.mask}
    seen |= {"so.batch": out.so.batch, **{f"loss {name}": loss for name, loss in out.loss.items()}}
    draw = torch.Generator().manual_seed(2)
    total: Any = 0
    for value in seen.values():
        if value is not None and value.is_floating_point():
            weight = torch.randn(value.shape, generator=draw, dtype=torch.float64).to(value.dtype)
            total = total + (weight * value).sum()
    grads = torch.autograd.grad(total, list(leaves.values()))
    return {**seen, **{f"d {name}": grad for name, grad in zip(leaves, grads, strict=True)}}


def both(function: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a function returns with the patch and without."""
    theirs = function()
    with patch():
        ours = function()
    return ours, theirs


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], tolerance: float) -> None:
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if value is None:
            assert ours[name] is None, name
            continue
        constant = (
            value.dim() == 0 and not value.requires_grad
        )  # a loss without weight, which theirs makes float32
        torch.testing.assert_close(
            ours[name],
            value,
            rtol=tolerance,
            atol=tolerance,
            check_dtype=not constant,
            msg=lambda text, name=name: f"{name}: {text}",
        )


@pytest.fixture(autouse=True)
def unpatched() -> Iterator[None]:
    unpatch()
    yield
    unpatch()


def import_module() -> Any:
    return importlib.import_module("hierpool.integrations.tgp.poolers")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The assignments that the operator was called with."""
    module = import_module()
    original, seen = module.soft_pool, []

    def spy(*args: Any, **options: Any) -> Any:
        seen.append(options["assignment"])
        return original(*args, **options)

    monkeypatch.setattr(module, "soft_pool", spy)
    return seen
