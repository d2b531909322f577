"""Random padded batches on which PyTorch Geometric's MinCut and DMoN are finite, and how values are compared."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.support.oracle import assert_error, eps_of, max_error


class Example(NamedTuple):
    """Arguments in float64. A is 0 in padding and every graph has an edge, or PyG's results are other or none."""

    x: Tensor
    adj: Tensor
    s: Tensor
    mask: Tensor | None
    temp: float
    between: Tensor  # 1 between valid nodes, else 0: what PyG makes of padding of A is its own
    upstream: Callable[[Sequence[Tensor]], list[Tensor]]  # random weights of results, in their dtypes

    def to(self, dtype: torch.dtype) -> Example:
        """The same values as leaves."""
        x, adj, s = (t.detach().to(dtype).requires_grad_() for t in self[:3])
        return self._replace(x=x, adj=adj, s=s)


def draw(seed: int) -> Example:
    """Sizes, mask (with holes), direction, weights and temperature at random."""
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    b, n = choice.randint(1, 5), choice.randint(2, 40)
    k, f = choice.randint(2, 12), choice.randint(1, 20)
    adj = (torch.rand(b, n, n, generator=generator) < choice.choice([0.1, 0.3, 1.0])).double()
    if choice.random() < 0.5:
        adj = adj * torch.rand(b, n, n, generator=generator, dtype=torch.float64)
    if choice.random() < 0.5:
        adj = (adj + adj.mT) / 2
    mask = None
    valid = torch.ones(b, n, dtype=torch.bool)
    if choice.random() < 0.7:
        valid = torch.rand(b, n, generator=generator) < 0.7
        valid[:, 0] = True
        mask = choice.choice([valid, valid.double(), valid[..., None]])
    adj[:, 0, 0] = 0.5  # between all clusters, as S is positive
    between = (valid[:, None] & valid[..., None]).double()
    x, adj, s = normal(b, n, f), adj * between, normal(b, n, k)
    if b == 1 and choice.random() < 0.5:
        x, adj, s, between = x[0], adj[0], s[0], between[0]

    def upstream(results: Sequence[Tensor]) -> list[Tensor]:
        draws = torch.Generator().manual_seed(seed)
        return [torch.randn(t.shape, generator=draws, dtype=torch.float64).to(t.dtype) for t in results]

    return Example(x, adj, s, mask, choice.choice([1.0, 0.5, 3]), between, upstream)


class Outcome(NamedTuple):
    """Values and gradients by name."""

    values: dict[str, Tensor]
    gradients: dict[str, Tensor]


def outcome(
    names: Sequence[str], results: Sequence[Tensor], leaves: dict[str, Tensor], e: Example
) -> Outcome:
    """Of the results of one call."""
    values = dict(zip(names, results, strict=True))
    weights = e.upstream(results)
    found = torch.autograd.grad(list(results), list(leaves.values()), weights)
    return Outcome(values, dict(zip(leaves, found, strict=True)))


def assert_equal_to_rounding(got: Outcome, expected: Outcome, where: str) -> None:
    """In float64."""
    for mine, theirs in zip(got, expected, strict=True):
        for name, value in theirs.items():
            torch.testing.assert_close(
                mine[name], value, rtol=1e-9, atol=1e-11, msg=f"{name}, {where}: ".__add__
            )


def assert_within_the_rule(
    got: Outcome, other: Outcome, truth: Outcome, n: int, where: str, dtype: torch.dtype = torch.float32
) -> None:
    """As exact as the other library in the same dtype, judged by it in float64: twice its error and some roundings."""
    for mine, theirs, exact in zip(got, other, truth, strict=True):
        for name, value in exact.items():
            base = max_error(theirs[name], value)
            scale = torch.maximum(value.detach().abs().max(), torch.ones((), dtype=value.dtype))
            assert_error(f"{name}, {where}", mine[name], value, scale, eps_of(dtype), n, base)


def same_layout(ours: Any, theirs: Any) -> bool:
    """Whether results have the same shapes and dtypes, in one order."""
    return [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in theirs]
