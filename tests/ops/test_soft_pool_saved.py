"""What soft pooling saves for its backward, second derivatives, and A under autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hierpool import dense_diff_pool
from hierpool.ops.soft_pool import OPERATOR, pooling_call
from tests.support.cases import Case, Recipe, find, over
from tests.support.running import best, both
from tests.support.sparse import ragged

SEED = 3
f32, bf16 = torch.float32, torch.bfloat16


class Watching(TorchDispatchMode):
    """Records whether the calls that pass compute what a backward needs, and addresses and dtypes of A."""

    def __init__(self) -> None:
        super().__init__()
        self.saved: list[bool] = []
        self.adjacencies: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        names = [argument.name for argument in getattr(func, "_schema").arguments]  # noqa: B009
        if func in (OPERATOR.op.default, OPERATOR.backward_op.default):
            given = dict(zip(names, args, strict=True))
            self.saved.append(given["save"])
            if given["value"] is not None:
                self.adjacencies.append((given["value"].data_ptr(), given["value"].dtype))
        return func(*args, **(kwargs or {}))


@both
@over(SEED, "directed", *ragged("directed-holes", "base-unweighted"))
def test_nothing_is_saved_without_a_gradient(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED)
    with Watching() as watching:
        inputs.pool(backend)
        with torch.no_grad():
            inputs.leaves().pool(backend)
        inputs.leaves().pool(backend)
    assert watching.saved == [False, False, True]


@both
def test_operator_without_what_a_backward_needs(backend: str) -> None:
    leaves = find("directed").make(SEED).leaves()
    call = pooling_call(*leaves[:3], backend=backend)
    for save in (True, False):
        flat = OPERATOR._arguments.flatten(call._replace(options=call.options._replace(save=save)))
        with torch.no_grad():
            m, is_symmetric = OPERATOR.op(*flat)[-2:]
        assert (m.numel() > 0, is_symmetric.numel() > 0) == (save, save)
    with pytest.raises(RuntimeError, match="save=False and cannot be differentiated"):
        OPERATOR.op(*flat)


@both
@over(
    SEED, "directed-holes", "three-types", "n513-directed-sparse", *ragged("directed-holes", "tails-shuffled")
)
def test_values_do_not_depend_on_what_is_saved(case: Recipe, backend: str) -> None:
    inputs = case.make(SEED, f32)
    for one, other in zip(inputs.pool(backend)[:8], inputs.leaves().pool(backend)[:8], strict=True):
        assert torch.equal(one, other)  # type: ignore[arg-type]


@best
@over(SEED, "base", "holes")
def test_saved_are_two_matrices_of_the_size_of_s(case: Case, backend: str) -> None:
    leaves = case.make(SEED).leaves()
    saved: list[Tensor] = []

    def pack(t: Tensor) -> Tensor:
        saved.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        leaves.pool(backend, temperature=0.5)
    inputs = {t.data_ptr() for t in leaves[:4] if isinstance(t, Tensor)}
    own = [t for t in saved if t.data_ptr() not in inputs]
    large = [t for t in own if t.numel() >= case.b * case.n * case.k]
    assert [tuple(t.shape) for t in large] == [(case.b, case.n, case.k), (case.b, 1, case.n, case.k)]
    assert all(t.numel() <= case.b * case.k * case.k for t in own if t.numel() < large[0].numel())


@best
@pytest.mark.parametrize("field", ["link_norm", "x", "adj", "total_entropy"])
@over(SEED, "base", *ragged("tails-shuffled"))
def test_second_derivative_in_a_dispatch_mode_is_an_error(case: Recipe, field: str, backend: str) -> None:
    """Also where the upstream gradient is a constant, and where the sum has another, differentiable part."""
    leaves = case.make(SEED).leaves()
    with Watching():
        record = leaves.pool(backend)
    loss = getattr(record, field).sum() + leaves.s.pow(3).sum()
    (grad,) = torch.autograd.grad(loss, leaves.s, create_graph=True)
    with pytest.raises(RuntimeError, match="soft_pool has no second derivative"):
        torch.autograd.grad(grad.square().sum(), leaves.s)


@best
@pytest.mark.parametrize("asked", ["s", "x", "adj"])
@pytest.mark.parametrize("held", [2**14, 0], ids=["held", "not-held"])
def test_second_derivative_of_the_drop_in(
    held: int, asked: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where logits are -inf, or so far apart that some assignments are 0."""
    monkeypatch.setattr("hierpool.ops._operator._HELD", held)
    found = []
    for kind in (backend, "reference"):
        inputs = find("base").make(SEED)
        inputs.s[:, ::2, 0] -= 800
        inputs.s[:, ::3, 1] = -torch.inf if asked != "s" else -900
        leaf = getattr(inputs, asked).requires_grad_()
        out = dense_diff_pool(inputs.x, inputs.adj, inputs.s, backend=kind)
        loss = torch.stack([t.sin().sum() for t in out]).square().sum() + leaf.pow(3).sum()
        (grad,) = torch.autograd.grad(loss, leaf, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), leaf))
    torch.testing.assert_close(*found)


@best
@pytest.mark.parametrize("held", [2**14, 0], ids=["held", "not-held"])
def test_logits_may_be_changed_in_place(held: int, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the backward, as for torch.softmax. A second derivative would be that of other logits: an error."""
    monkeypatch.setattr("hierpool.ops._operator._HELD", held)
    inputs = find("base").make(SEED)
    grads = []
    for factor in (1, 2):
        leaf = inputs.s.detach().requires_grad_()
        logits = leaf * 1
        loss = dense_diff_pool(inputs.x, inputs.adj, logits, backend=backend)[2]
        logits.mul_(factor)
        grads.append(torch.autograd.grad(loss, leaf, retain_graph=True)[0])
    assert torch.equal(*grads)
    if held:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(loss, leaf, create_graph=True)


@both
@pytest.mark.parametrize("adj", [f32, torch.bool, bf16], ids=str)
def test_autocast_does_not_copy_the_adjacency(adj: torch.dtype, backend: str) -> None:
    inputs = Case("autocast", n=12, weights="ones").make(SEED, f32, adj=adj)
    linear = torch.nn.Linear(5, 4)
    with Watching() as watching, torch.autocast("cpu", bf16):
        s = linear(inputs.x)
        assert s.dtype == bf16
        record = inputs._replace(s=s).pool(backend, symmetric=True)  # found out only for a backward
        (record.x.square().sum() + record.adj.square().mean() + record.link_norm).backward()
    assert watching.adjacencies == [(inputs.adj.data_ptr(), adj)] * 2
    assert (record.s.dtype, record.x.dtype, record.adj.dtype) == (bf16, f32, f32)
    assert torch.equal(record.adj, inputs._replace(s=s.detach()).pool(backend, symmetric=True).adj)
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()
