"""The operator among PyTorch's own machinery: opcheck, gradcheck, compile, export, autocast, transforms, workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, Dataset

import hierpool
from hierpool import SoftPoolRecord, reference
from tests.support.cases import Case, Inputs, find, over
from tests.support.running import INTERPRETED, KINDS, run

SEED = 9
f64, f32, bf16 = torch.float64, torch.float32, torch.bfloat16
operator = torch.ops.hierpool.soft_pool_dense.default
operator_backward = torch.ops.hierpool.soft_pool_dense_backward.default


def operator_arguments(
    inputs: Inputs, backend: str, temperature: Tensor | None, save: bool
) -> tuple[Any, ...]:
    return (
        inputs.s, inputs.x, inputs.adj, inputs.mask, inputs.num_nodes, temperature, inputs.given, None,
        True, True, True, False, save, backend,
    )  # fmt: skip


SAMPLES = ("directed", "num_nodes", "holes", "three-types-holes", "given", "no-graphs", "no-nodes", "sliced")
# Nothing here depends on the instruction set; one that every machine has stands for all.
both = pytest.mark.parametrize("backend", KINDS, indirect=True)


@both
@pytest.mark.parametrize("save", [True, False], ids=["save", "no-save"])
@over(SEED, *SAMPLES)
def test_opcheck_of_the_forward(case: Case, save: bool, backend: str) -> None:
    inputs = case.make(SEED, f32)
    temperature = None if case.given else torch.tensor(0.7, requires_grad=save)
    inputs = inputs.leaves() if save else inputs
    torch.library.opcheck(operator, operator_arguments(inputs, backend, temperature, save))


@both
@over(SEED, *SAMPLES)
def test_opcheck_of_the_backward(case: Case, backend: str) -> None:
    inputs = case.make(SEED, f32)
    values = operator(*operator_arguments(inputs, backend, None, True))
    draw = torch.Generator().manual_seed(SEED)
    upstream = [torch.randn(t.shape, generator=draw) for t in values[:8]]
    saved = (values[0], values[3], *values[7:])
    arguments = (*saved, inputs.x, inputs.adj, inputs.mask, inputs.num_nodes, None, inputs.given, None, False)
    torch.library.opcheck(operator_backward, (*upstream, *arguments, True, True, True, backend))
    torch.library.opcheck(
        operator_backward, (*[None] * 7, upstream[7], *arguments, True, False, False, backend)
    )


@both
@over(
    SEED, *(("directed", "holes") if INTERPRETED else ("base", "directed", "holes", "three-types-num_nodes"))
)
def test_gradcheck(case: Case, backend: str) -> None:
    inputs = case.make(SEED).leaves()
    temperature = torch.tensor(0.7, dtype=f64, requires_grad=True)

    def function(x: Tensor, adj: Tensor, s: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
        record = inputs._replace(x=x, adj=adj, s=s).pool(backend, temperature=temperature)
        return tuple(field for field in record if field is not None)

    assert torch.autograd.gradcheck(function, (inputs.x, inputs.adj, inputs.s, temperature), fast_mode=True)


@pytest.fixture
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch._dynamo.config.patch(error_on_recompile=True):
        yield
    torch._dynamo.reset()


def graphs() -> int:
    """How many graphs were captured since the test began."""
    return counters["stats"]["unique_graphs"]


SIZES = [(2, 9, 4, 5), (3, 12, 7, 6), (5, 33, 16, 2), (2, 60 if INTERPRETED else 600, 3, 8)]


def draw(size: tuple[int, int, int, int], padding: str, dtype: torch.dtype = f32) -> Inputs:
    b, n, k, f = size
    return Case("drawn", b=b, n=n, k=k, f=f, valid=padding, directed=True, density=0.3).make(SEED, dtype)


def loss_of(record: SoftPoolRecord) -> Tensor:
    return record.x.square().sum() + record.adj.square().mean() + record.link_norm + record.total_entropy


@both
@pytest.mark.parametrize("padding", ["all", "holes", "num_nodes"])
@pytest.mark.usefixtures("dynamo")
def test_compile_is_one_graph_for_all_sizes(padding: str, backend: str) -> None:
    def step(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None, num_nodes: Tensor | None) -> Tensor:
        return loss_of(hierpool.soft_pool(x, adj, s, mask=mask, num_nodes=num_nodes, backend=backend))

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in SIZES:
        leaves = draw(size, padding).leaves()
        arguments = (*leaves[:3], leaves.mask, leaves.num_nodes)
        got = compiled(*arguments)
        grads = torch.autograd.grad(got, leaves[:3])
        expected = step(*arguments)
        expected_grads = torch.autograd.grad(expected, leaves[:3])
        for one, other in zip((got, *grads), (expected, *expected_grads), strict=True):
            torch.testing.assert_close(one, other, msg=f"{size}: ".__add__)
    assert graphs() == 1


@both
@pytest.mark.usefixtures("dynamo")
def test_compile_of_a_temperature_that_changes(backend: str) -> None:
    inputs = draw(SIZES[0], "all")

    def step(s: Tensor, temperature: Tensor) -> Tensor:
        return loss_of(inputs._replace(s=s).pool(backend, temperature=temperature))

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    for value in (0.5, 0.7, 2.0):
        temperature = torch.tensor(value, requires_grad=True)
        s = inputs.s.clone().requires_grad_()
        got = torch.autograd.grad(compiled(s, temperature), (s, temperature))
        expected = torch.autograd.grad(step(s, temperature), (s, temperature))
        torch.testing.assert_close(got, expected)
    assert graphs() == 1


@pytest.mark.usefixtures("dynamo")
def test_compile_of_the_drop_in(native: str) -> None:
    def step(x: Tensor, adj: Tensor, s: Tensor, mask: Tensor | None) -> Tensor:
        out, out_adj, link_loss, entropy = hierpool.dense_diff_pool(x, adj, s, mask, backend=native)
        return out.square().sum() + out_adj.square().mean() + link_loss + entropy

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for size in SIZES:
        leaves = draw(size, "mask").leaves()
        got = torch.autograd.grad(compiled(*leaves[:4]), leaves[:3])
        expected = torch.autograd.grad(step(*leaves[:4]), leaves[:3])
        torch.testing.assert_close(got, expected)
    assert graphs() == 1


@pytest.mark.usefixtures("dynamo")
def test_inductor(
    native: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    leaves = draw(SIZES[1], "holes").leaves()

    def step(x: Tensor, adj: Tensor, s: Tensor) -> Tensor:
        return loss_of(leaves._replace(x=x.relu(), adj=adj, s=2 * s).pool(native))

    compiled = torch.compile(step, fullgraph=True)
    got = torch.autograd.grad(compiled(*leaves[:3]), leaves[:3])
    torch.testing.assert_close(got, torch.autograd.grad(step(*leaves[:3]), leaves[:3]))


class Adjacencies(TorchDispatchMode):
    """Addresses and dtypes of every A that reaches the operator or its backward."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        position = {operator: 2, operator_backward: 14}.get(func)
        if position is not None:
            self.seen.append((args[position].data_ptr(), args[position].dtype))
        return func(*args, **(kwargs or {}))


@both
@pytest.mark.parametrize("adj", [f32, torch.bool, bf16], ids=str)
def test_autocast_does_not_copy_the_adjacency(adj: torch.dtype, backend: str) -> None:
    inputs = Case("autocast", n=12, weights="ones").make(SEED, f32, adj=adj)
    linear = torch.nn.Linear(5, 4)
    with Adjacencies() as recorder, torch.autocast("cpu", torch.bfloat16):
        s = linear(inputs.x)
        assert s.dtype == bf16
        record = inputs._replace(s=s).pool(backend, symmetric=True)  # found out only for a backward
        loss = loss_of(record)
        loss.backward()
    assert recorder.seen == [(inputs.adj.data_ptr(), adj)] * 2
    assert (record.s.dtype, record.x.dtype, record.adj.dtype) == (bf16, f32, f32)
    outside = inputs._replace(s=s.detach()).pool(backend, symmetric=True)
    assert torch.equal(record.adj, outside.adj)
    assert linear.weight.grad is not None
    assert linear.weight.grad.isfinite().all()


class Pooling(torch.nn.Module):
    """A small module for export."""

    def __init__(self, backend: str) -> None:
        super().__init__()
        self.assignment = torch.nn.Linear(5, 4)
        self.backend = backend

    def forward(self, x: Tensor, adj: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        record = hierpool.soft_pool(x, adj, self.assignment(x), mask=mask, backend=self.backend)
        return record.x, record.adj, record.link_norm


@both
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_export(strict: bool, backend: str) -> None:
    module = Pooling(backend).eval()
    inputs = draw((2, 9, 4, 5), "mask")
    assert inputs.mask is not None
    batch, nodes = torch.export.Dim("batch", min=2), torch.export.Dim("nodes", min=2)
    shapes = {"x": {0: batch, 1: nodes}, "adj": {0: batch, 1: nodes, 2: nodes}, "mask": {0: batch, 1: nodes}}
    example = (inputs.x, inputs.adj, inputs.mask)
    exported = torch.export.export(module, example, dynamic_shapes=shapes, strict=strict).module()
    for size in ((2, 9, 4, 5), (3, 14, 4, 5)):
        other = draw(size, "mask")
        assert other.mask is not None
        got, expected = (f(other.x, other.adj, other.mask) for f in (exported, module))
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", ["x", "adj", "s"])
def test_vmap_is_right(name: str, backend: str) -> None:
    inputs = find("holes").make(SEED)
    drawn = torch.rand(
        (3, *getattr(inputs, name).shape), generator=torch.Generator().manual_seed(SEED), dtype=f64
    )

    def function(value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        record = Inputs(**(inputs._asdict() | {name: value})).pool(backend)
        return record.x, record.adj, record.link_norm

    got = torch.func.vmap(function)(drawn)
    expected = [torch.stack(field) for field in zip(*map(function, drawn), strict=True)]
    torch.testing.assert_close(got, tuple(expected))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_batched_upstream_gradients(native: str) -> None:
    leaves = find("holes").make(SEED).leaves()
    size = leaves.pool(native).size
    units = torch.eye(size.numel(), dtype=f64).reshape(-1, *size.shape)
    (got,) = torch.autograd.grad(size, leaves.s, units, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(size, leaves.s, unit, retain_graph=True)[0] for unit in units]
    torch.testing.assert_close(got, torch.stack(expected))


def directional(inputs: Inputs, direction: Tensor) -> Tensor:
    """The derivative of the link norm with respect to s in a direction, in reverse."""
    _, grads, _ = run(inputs, "reference", [None] * 7 + [torch.ones((), dtype=f64)])
    return (grads.s * direction).sum()


def test_forward_derivatives_are_right() -> None:
    """They go through plain PyTorch, also where the native backend would have been taken."""
    inputs = find("holes").make(SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)
    expected = directional(inputs, direction)

    def norm(s: Tensor) -> Tensor:
        return inputs._replace(s=s).pool().link_norm

    torch.testing.assert_close(torch.func.jvp(norm, (inputs.s,), (direction,))[1], expected)
    with forward_ad.dual_level():
        dual = norm(forward_ad.make_dual(inputs.s, direction))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, expected)


def test_function_transforms_are_right() -> None:
    """The same for reverse derivatives, nested ones and one per sample."""
    inputs = find("holes").make(SEED)
    direction = torch.randn(inputs.s.shape, generator=torch.Generator().manual_seed(SEED), dtype=f64)

    def norm(s: Tensor) -> Tensor:
        return inputs._replace(s=s).pool().link_norm

    gradient = torch.func.grad(norm)
    torch.testing.assert_close((gradient(inputs.s) * direction).sum(), directional(inputs, direction))
    leaf = inputs.s.clone().requires_grad_()
    twice = torch.func.jvp(gradient, (inputs.s,), (direction,))[1]
    plain = reference.soft_pool_dense(leaf, inputs.x, inputs.adj[:, None], inputs.mask).link_norm[0]
    (first,) = torch.autograd.grad(plain, leaf, create_graph=True)
    (second,) = torch.autograd.grad((first * direction).sum(), leaf)
    torch.testing.assert_close(twice, second)
    several = torch.stack([inputs.s, 2 * inputs.s])
    expected = torch.stack([gradient(s) for s in several])
    torch.testing.assert_close(torch.func.vmap(gradient)(several), expected)


def test_transforms_of_the_native_backend_are_refused(native: str) -> None:
    inputs = find("base").make(SEED)

    def norm(s: Tensor) -> Tensor:
        return inputs._replace(s=s).pool(native).link_norm

    with pytest.raises(RuntimeError, match="backend 'native' cannot run soft_pool_dense under"):
        torch.func.grad(norm)(inputs.s)
    with pytest.raises(RuntimeError, match="backend 'native' cannot run soft_pool_dense under"):
        torch.func.vmap(norm)(inputs.s[None])
    with pytest.raises(RuntimeError, match="backend 'native' cannot run soft_pool_dense under"):
        torch.func.jvp(norm, (inputs.s,), (inputs.s,))


def test_a_changed_input_is_noticed_in_the_backward(native: str) -> None:
    for name in ("x", "s"):
        leaves = find("base").make(SEED).leaves()
        x = leaves.x * 1
        record = leaves._replace(x=x).pool(native)
        (x if name == "x" else record.s).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            record.x.sum().backward()


class Pooled(Dataset[Tensor]):
    """Pools in the worker."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        inputs = find("n513-directed-sparse").make(index, f32)
        record, grads, _ = run(inputs, self.backend)
        return torch.cat([record.scalars.flatten(), grads.s.flatten()]).detach()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_worker(native: str) -> None:
    """The parent has used its threads before it forks."""
    torch.set_num_threads(2)
    expected = [Pooled(native)[i] for i in range(2)]
    loader = DataLoader(
        Pooled(native), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    assert all(torch.equal(one, other) for one, other in zip(loader, expected, strict=True))
