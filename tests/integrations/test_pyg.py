"""Parity with the installed PyG on random cases."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from hierpool import dense_diff_pool
from tests.support.oracle import assert_error, eps_of, max_error
from tests.support.running import BACKENDS, choose

nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed (hierpool[pyg])")

OUTPUTS = ("x", "adj", "link_loss", "ent_loss")
LEAVES = ("x", "adj", "s")
CASES = 200
PER_TEST = 20


class Example(NamedTuple):
    leaves: tuple[Tensor, ...]  # x, adj, s in float64
    mask: Tensor | None
    normalize: bool
    weights: tuple[Tensor, ...]  # of the outputs in the gradient


def draw(seed: int) -> Example:
    """Sizes, padding, direction and weights at random; A is 0 in padding, as PyG's caller has to see to."""
    choice, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    b, n = choice.randint(1, 5), choice.randint(1, 40)
    k, f = choice.randint(1, 12), choice.randint(1, 20)
    adj = (torch.rand(b, n, n, generator=generator) < choice.choice([0.05, 0.3, 1.0])).double()
    if choice.random() < 0.5:
        adj = adj * normal(b, n, n)
    if choice.random() < 0.5:
        adj = (adj + adj.mT) / 2
    mask = None
    if choice.random() < 0.6:
        mask = torch.rand(b, n, generator=generator) < 0.7
        adj = adj * mask[:, None] * mask[..., None]
        mask = choice.choice([mask, mask.double(), mask[..., None]])
    leaves: tuple[Tensor, ...] = (normal(b, n, f), adj, normal(b, n, k))
    if b == 1 and choice.random() < 0.5:
        leaves = tuple(t[0] for t in leaves)
    weights = (normal(b, k, f), normal(b, k, k), normal(), normal())
    return Example(leaves, mask, choice.random() < 0.5, weights)


def evaluate(
    function: Any, example: Example, dtype: torch.dtype, **options: Any
) -> tuple[list[Tensor], list[Tensor]]:
    leaves = [t.to(dtype).requires_grad_() for t in example.leaves]
    outputs = function(*leaves, example.mask, example.normalize, **options)
    grads = torch.autograd.grad(outputs, leaves, [w.to(dtype) for w in example.weights])
    return list(outputs), list(grads)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("first", range(0, CASES, PER_TEST), ids=lambda s: f"seeds{s}-{s + PER_TEST - 1}")
def test_float64(first: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = choose(name, monkeypatch)
    for seed in range(first, first + PER_TEST):
        example = draw(seed)
        theirs = evaluate(nn.dense_diff_pool, example, torch.float64)
        ours = evaluate(dense_diff_pool, example, torch.float64, backend=backend)
        for kind, names, got, want in zip(
            ("value", "gradient"), (OUTPUTS, LEAVES), ours, theirs, strict=True
        ):
            for field, g, w in zip(names, got, want, strict=True):
                where = f"{kind} of {field}, seed {seed}: "
                # PyG's 1e-15 inside the logarithm is all that is left between the two.
                torch.testing.assert_close(g, w, rtol=1e-9, atol=1e-12, msg=where.__add__)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("first", range(0, CASES, PER_TEST), ids=lambda s: f"seeds{s}-{s + PER_TEST - 1}")
def test_float32(first: int, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The truth is PyG in float64; ours may be off by twice what PyG in float32 is."""
    backend = choose(name, monkeypatch)
    eps = eps_of(torch.float32)
    for seed in range(first, first + PER_TEST):
        example = draw(seed)
        example = example._replace(leaves=tuple(t.float().double() for t in example.leaves))
        example = example._replace(weights=tuple(t.float().double() for t in example.weights))
        truth = evaluate(nn.dense_diff_pool, example, torch.float64)
        theirs = evaluate(nn.dense_diff_pool, example, torch.float32)
        ours = evaluate(dense_diff_pool, example, torch.float32, backend=backend)
        n = example.leaves[0].size(-2)
        for kind, names, got, other, want in zip(
            ("value", "gradient"), (OUTPUTS, LEAVES), ours, theirs, truth, strict=True
        ):
            for field, g, o, w in zip(names, got, other, want, strict=True):
                label = f"{kind} of {field}, seed {seed}"
                assert_error(label, g, w, w, eps, n, max_error(o, w))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("seed", range(4), ids="seed{}".format)
def test_shapes_and_dtypes(seed: int, dtype: torch.dtype) -> None:
    example = draw(seed)
    x, adj, s = (t.to(dtype) for t in example.leaves)
    theirs = nn.dense_diff_pool(x, adj, s, example.mask, example.normalize)
    ours = dense_diff_pool(x, adj, s, example.mask, example.normalize)
    assert [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in theirs]


@pytest.mark.parametrize("normalize", [True, False])
def test_two_dimensional_inputs_are_one_graph(normalize: bool) -> None:
    example = draw(0)
    x, adj, s = (t[:1] if t.dim() == 3 else t[None] for t in example.leaves)
    batch = dense_diff_pool(x, adj, s, normalize=normalize)
    flat = dense_diff_pool(x[0], adj[0], s[0], normalize=normalize)
    for one, other in zip(batch, flat, strict=True):
        assert torch.equal(one, other)
    assert flat[0].dim() == 3


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_gradient_of_a_link_loss_of_zero_is_zero(backend: str) -> None:
    for function, options in ((dense_diff_pool, {"backend": backend}), (nn.dense_diff_pool, {})):
        adj = torch.ones(1, 2, 2, requires_grad=True)  # one cluster: S S^T is all ones
        s, x = (torch.zeros(1, 2, 1, requires_grad=True) for _ in range(2))
        loss = function(x, adj, s, **options)[2]
        assert loss == 0
        for grad in torch.autograd.grad(loss, (s, adj)):
            assert torch.equal(grad, torch.zeros_like(grad))
