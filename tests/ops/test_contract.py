"""What every operator keeps to, on every backend: gradients, agreement with its composite, and PyTorch's machinery."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

from hierpool.ops._traced import as_tuple
from tests.support.calls import (
    Example,
    Leaves,
    evaluate,
    examples,
    flat,
    gradients,
    leaves_of,
    maker,
    operators,
    weights_of,
)
from tests.support.cases import Case
from tests.support.oracle import eps_of
from tests.support.running import BACKENDS, INTERPRETED, KINDS, has_kernel

f64, f32, bf16, f16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
SOME = ("mask", "types", "symmetric", "ragged")


def over(
    *cases: str, kinds: Sequence[str] = KINDS, opaque: bool = False, takes: Sequence[str] = ()
) -> pytest.MarkDecorator:
    """Parametrize over example calls, of all cases or of these, and the backends that have the operator.

    ``opaque``: of opaque operators alone; ``takes``: of operators with one of these arguments.
    """
    pairs = [
        pytest.param(example, kind, id=f"{example}-{kind}")
        for example in examples(*cases)
        for kind in kinds
        if has_kernel(kind, example.name) and example.operator.opaque >= opaque
        if not takes or {*takes} & {*example.operator.Call._fields}
    ]
    return pytest.mark.parametrize(("example", "backend"), pairs, indirect=["backend"])


@pytest.mark.parametrize("name", operators())
def test_every_operator_has_example_calls(name: str) -> None:
    assert maker(name)
    assert {"ragged", "dense"} & {example.case.name.removeprefix("csr-") for example in examples()}


def test_an_operator_without_example_calls_is_told_what_to_add() -> None:
    with pytest.raises(AssertionError, match=r"add a function new_one\(batch\) to tests/support/calls.py"):
        maker("new_one")


@over()
def test_gradients(example: Example, backend: str) -> None:
    batch = example.draw(f64)
    leaves = leaves_of(example, batch)
    if batch.symmetric:  # of which each difference must be a symmetric matrix, too
        leaves.pop("value", None)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return example.run(batch, dict(zip(leaves, tensors, strict=True)), backend)

    assert torch.autograd.gradcheck(function, tuple(leaves.values()), fast_mode=True)


def assert_near(
    got: Sequence[Tensor], exact: Sequence[Tensor], plain: Sequence[Tensor], eps: float = 0.0
) -> None:
    """At most twice the error of the composite, and a few roundings of the largest number, of ``eps`` at least."""
    scale = max([0.0, *(float(t.abs().max()) for t in exact if t.numel() and t.isfinite().all())])
    for i, (one, true, base) in enumerate(zip(got, exact, plain, strict=True)):
        assert (one.dtype, one.shape) == (base.dtype, base.shape), i
        if one.numel():
            error, baseline = (float((t.double() - true).abs().max()) for t in (one, base))
            allowed = 2 * baseline + 8 * max(eps, eps_of(one.dtype)) * scale
            assert error <= allowed, f"{one.dtype} {i}: error {error:.2e}, allowed {allowed:.2e}"


@over(kinds=[kind for kind in KINDS if kind != "reference"])
def test_agrees_with_the_composite(example: Example, backend: str) -> None:
    for dtype in (f64, f32, bf16, f16):
        batch = example.draw(dtype)
        exact = evaluate(example, batch.double(), "reference")
        got, plain = (evaluate(example, batch, name) for name in (backend, "reference"))
        # Another exponential may round S of 16 bits to its neighbour, on which all sums are defined.
        assert_near(got, exact, plain, eps_of(dtype) if backend == "triton" else 0.0)


@over("dense", "ragged")
def test_strides_change_nothing(example: Example, backend: str) -> None:
    batch = example.draw(f32)
    for layout in ("transposed", "strided", "sliced", "expanded"):
        lay = Case(layout, layout=layout).lay

        def change(t: Tensor, lay: Any = lay) -> Tensor:
            return lay(t) if t.dim() > 1 else t

        laid = batch._replace(tensors={name: change(t) for name, t in batch.tensors.items()})
        plain = batch._replace(tensors={name: t.contiguous() for name, t in laid.tensors.items()})
        results = []
        for one in (laid, plain):
            leaves = leaves_of(example, one)
            out = example.run(one, leaves, backend)
            weights = [change(w) if one is laid else change(w).contiguous() for w in weights_of(out)]
            results.append([*(t.detach() for t in out), *gradients(out, leaves, weights)])
        torch.testing.assert_close(*results, msg=f"{layout}: ".__add__)


@over(*SOME)
def test_each_result_alone(example: Example, backend: str) -> None:
    """Results without an upstream gradient count as zero."""
    batch = example.draw(f64)
    leaves = leaves_of(example, batch)
    got, plain = (example.run(batch, leaves, name) for name in (backend, "reference"))
    weights = weights_of(plain)
    for i, weight in enumerate(weights):
        alone: list[Tensor | None] = [None] * len(weights)
        alone[i] = weight
        torch.testing.assert_close(gradients(got, leaves, alone), gradients(plain, leaves, alone))


@over(*SOME)
def test_each_leaf_alone(example: Example, backend: str) -> None:
    batch = example.draw(f32)
    whole = leaves_of(example, batch)
    results = example.run(batch, whole, backend)
    weights = weights_of(results)
    expected = dict(zip(whole, gradients(results, whole, weights), strict=True))
    for name in whole:
        leaf = {name: whole[name].detach().requires_grad_()}
        others = {other: t.detach() for other, t in whole.items()}
        results = example.run(batch, others | leaf, backend)
        (got,) = gradients(results, leaf, weights)
        torch.testing.assert_close(got, expected[name], msg=f"{name}: ".__add__)


@over("mask", "num_nodes", "types", takes=("mask", "rows"))
def test_padding_reaches_nothing(example: Example, backend: str) -> None:
    batch = example.draw(f32)
    clean, dirty = (evaluate(example, batch.padded_with(value), backend) for value in (0.0, torch.nan))
    assert all(torch.equal(one, other) for one, other in zip(clean, dirty, strict=True))


@over("mask", "ragged", "counts", kinds=BACKENDS[1:])
def test_threads_change_no_bit(example: Example, backend: str) -> None:
    batch = example.draw(f32, n=600, k=18, density=0.2)
    expected = evaluate(example, batch, backend)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        got = evaluate(example, batch, backend)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True)), threads


# ---- PyTorch's machinery --------------------------------------------------------------------------------------------


@over("mask", "num_nodes", "no-graphs", "no-nodes", "strided", "ragged", "counts", opaque=True)
def test_opcheck(example: Example, backend: str) -> None:
    """All checks of two cases; of the others the schema, and shapes and dtypes."""
    operator, batch = example.operator, example.draw(f32)
    how: dict[str, Any] = {"test_utils": ("test_schema", "test_faketensor")}
    if getattr(example.case, "case", example.case).name in ("mask", "ragged"):
        how = {}
    for needed in ({}, leaves_of(example, batch)):
        call = example.call(batch._replace(tensors=batch.tensors | needed), backend)
        torch.library.opcheck(operator.op.default, operator._arguments.flatten(call), **how)
    arguments = operator._arguments.flatten(example.call(batch, backend))
    out = dict(zip(operator.Out._fields, as_tuple(operator.op(*arguments)), strict=True))
    upstream = weights_of([out[name] for name in operator.Upstream._fields])
    saved = [out[name] for name in operator.Saved._fields]
    leaves = operator.leaves(example.call(batch))
    for needs in ([t is not None for t in leaves], [i == 0 for i in range(len(leaves))]):
        torch.library.opcheck(operator.backward_op.default, (*upstream, *saved, *arguments, *needs), **how)


SIZES = [(3, 9, 5, 8), (4, 12, 8, 10), (6, 33, 9, 2)]


@over("mask", "ragged", "counts", kinds=[KINDS[-1]])
@pytest.mark.usefixtures("dynamo")
def test_compiles_into_one_graph_for_all_sizes(example: Example, backend: str) -> None:
    operator = example.operator

    def step(call: Any) -> Tensor:
        results = [t for t in operator(call) if t is not None]
        return torch.stack([t.square().sum() for t in results]).sum()

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True, dynamic=True)
    for b, n, k, f in SIZES:
        batch = example.draw(f64, b=b, n=n, k=k, f=f)
        leaves = leaves_of(example, batch)
        call = example.call(batch._replace(tensors=batch.tensors | leaves), backend)
        got, expected = compiled(call), step(call)
        torch.testing.assert_close(got, expected)
        one, other = (torch.autograd.grad(t, list(leaves.values())) for t in (got, expected))
        torch.testing.assert_close(one, other)
    assert counters["stats"]["unique_graphs"] == 1


@over("mask", "ragged")
def test_autocast(example: Example, backend: str) -> None:
    """It changes nothing in an opaque operator; otherwise it does what it does to the composite."""
    batch = example.draw(f32)
    leaves = leaves_of(example, batch)
    call = example.call(batch._replace(tensors=batch.tensors | leaves), backend)
    operator = example.operator
    expected = operator(call) if operator.opaque else None
    with torch.autocast("cpu", bf16):
        got = operator(call)
        if expected is None:
            composite = operator.composite(call)
            expected = [composite[place] for place in operator._results]
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    if operator.opaque:
        results = [t for t in got if t is not None]
        weights = weights_of(results)
        one, other = (
            gradients([t for t in out if t is not None], leaves, weights) for out in (got, expected)
        )
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def second(results: Sequence[Tensor], leaves: Leaves) -> list[Tensor]:
    """Derivatives of a weighted sum of the gradients."""
    tensors = list(leaves.values())
    loss = torch.stack([(t * w).sum().sin() for t, w in zip(results, weights_of(results), strict=True)]).sum()
    first = torch.autograd.grad(loss, tensors, create_graph=True, allow_unused=True)
    total = sum((g * w).sum() for g, w in zip(first, weights_of(tensors, 3), strict=True) if g is not None)
    found = torch.autograd.grad(total, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


@over("mask", "symmetric", "ragged", "counts")
@pytest.mark.parametrize("held", [True, False], ids=["held", "not-held"])
def test_second_derivatives(
    example: Example, held: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the composite, also where the backward does not read all leaves."""
    if not held:
        if example.name not in ("soft_pool", "cut_pool"):
            return
        monkeypatch.setattr("hierpool.ops._operator._HELD", 0)
    batch = example.draw(f64)
    leaves = leaves_of(example, batch)
    for name in (None, "temperature") if "temperature" in leaves else (None,):
        leaves.pop(name, None)
        expected = second(example.run(batch, leaves, "reference"), leaves)
        torch.testing.assert_close(second(example.run(batch, leaves, backend), leaves), expected)


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@over("mask", "ragged")
def test_a_dispatch_mode_sees_the_same(example: Example, backend: str) -> None:
    """Through the dispatcher, an opaque operator has no second derivative."""
    batch = example.draw(f64)
    expected = evaluate(example, batch, backend)
    with Watching():
        torch.testing.assert_close(evaluate(example, batch, backend), expected)
        leaves = leaves_of(example, batch)
        results = example.run(batch, leaves, backend)
    if example.operator.opaque:
        with pytest.raises(RuntimeError, match=f"{example.name} has no second derivative"):
            second(results, leaves)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("example", examples("mask", "ragged", "counts"), ids=str)
def test_transforms_are_those_of_the_composite(example: Example, backend: str) -> None:
    """vmap, jvp, dual numbers, and one transform in another."""
    batch = example.draw(f64)
    leaves = {name: t.detach().contiguous() for name, t in example.leaves(batch).items()}
    tangents = dict(zip(leaves, weights_of(list(leaves.values()), 4), strict=True))
    needed = leaves_of(example, batch)
    results = example.run(batch, needed, "reference")
    weights = weights_of(results)
    slope = sum(
        (g * t).sum() for g, t in zip(gradients(results, needed, weights), tangents.values(), strict=True)
    )

    def loss(leaves: Leaves) -> Tensor:
        out = example.run(batch, leaves, backend)
        return torch.stack([(t * w).sum() for t, w in zip(out, weights, strict=True)]).sum()

    torch.testing.assert_close(torch.func.jvp(loss, (leaves,), (tangents,))[1], slope)
    gradient = torch.func.grad(loss)
    torch.testing.assert_close(list(gradient(leaves).values()), gradients(results, needed, weights))
    with forward_ad.dual_level():
        dual = loss({name: forward_ad.make_dual(t, tangents[name]) for name, t in leaves.items()})
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, slope)
    several = [leaves, {name: 0.5 * t for name, t in leaves.items()}]
    stacked = {name: torch.stack([one[name] for one in several]) for name in leaves}
    torch.testing.assert_close(torch.func.vmap(loss)(stacked), torch.stack([loss(one) for one in several]))
    got = torch.func.vmap(gradient)(stacked)
    torch.testing.assert_close(got, {n: torch.stack([gradient(one)[n] for one in several]) for n in leaves})


@over("mask", "ragged", kinds=[kind for kind in KINDS if kind != "reference"])
def test_transforms_of_a_named_backend_are_refused(example: Example, backend: str) -> None:
    batch = example.draw(f64)
    leaves = {name: t.detach() for name, t in example.leaves(batch).items()}

    def loss(leaves: Leaves) -> Tensor:
        return example.run(batch, leaves, backend)[0].sum()

    for transformed in (
        torch.func.grad(loss),
        lambda leaves: torch.func.jvp(loss, (leaves,), (leaves,)),
        lambda leaves: torch.func.vmap(loss)({name: t[None] for name, t in leaves.items()}),
    ):
        with pytest.raises(
            RuntimeError,
            match=f"backend '{backend}' cannot run {example.name} under transforms of torch.func or forward",
        ):
            transformed(leaves)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.skipif(INTERPRETED, reason="launches take no batched tensors")
@over("mask", "ragged", opaque=True)
def test_batched_upstream_gradients(example: Example, backend: str) -> None:
    batch = example.draw(f64)
    leaves = leaves_of(example, batch)
    results = example.run(batch, leaves, backend)
    several = [weights_of(results, seed) for seed in (2, 3)]
    stacked = [torch.stack(pair) for pair in zip(*several, strict=True)]
    tensors = list(leaves.values())
    got = torch.autograd.grad(results, tensors, stacked, is_grads_batched=True, retain_graph=True)
    expected = [torch.stack(p) for p in zip(*(gradients(results, leaves, w) for w in several), strict=True)]
    torch.testing.assert_close(list(got), expected)


@over("mask", "ragged")
def test_a_change_in_place_is_noticed_in_the_backward(example: Example, backend: str) -> None:
    """Of what the backward of a backend reads: arguments, and the assignment."""
    batch = example.draw(f64)
    operator = example.operator
    call = example.call(batch, backend)
    if operator.select(call) is None:
        return
    arguments = set(map(id, flat(operator.leaves(call))))
    read = [name for name, t in example.leaves(batch).items() if id(t) in arguments]
    saved = [i for i, name in enumerate(operator.Upstream._fields) if name == "s"]
    for changed in (*read, *saved):
        leaves = {name: t * 1 for name, t in leaves_of(example, batch).items()}
        results = example.run(batch, leaves, backend)
        with torch.no_grad():
            (leaves[changed] if isinstance(changed, str) else results[changed]).add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(results, leaves, weights_of(results))


@pytest.mark.parametrize("example", examples("dense", "ragged"), ids=str)
def test_a_named_backend_that_cannot_run_says_why(example: Example) -> None:
    batch = example.draw(f32).to("meta")
    reason = "the C++ kernels run on CPU tensors, not on meta"
    if not has_kernel("native", example.name):
        reason = "the native backend does not have this operator"
    with pytest.raises(
        RuntimeError, match=f"backend 'native' cannot run {example.name} on meta: {re.escape(reason)}"
    ):
        example.run(batch, {}, "native")
    if example.case.name == "dense":
        got, expected = (example.run(one, {}, "auto") for one in (batch, example.draw(f32)))
        assert [(t.shape, t.dtype) for t in got] == [(t.shape, t.dtype) for t in expected]


@over("ragged")
def test_graphs_that_do_not_fit_are_an_error(example: Example, backend: str) -> None:
    """Of the registered operator, whose arguments no public function has checked."""
    operator = example.operator
    names = [argument.name for argument in operator._arguments.list]
    if not operator.opaque or backend != "native" or "ptr" not in names:
        return
    flat = operator._arguments.flatten(example.call(example.draw(f64), backend))
    place = names.index("ptr")
    ptr = flat[place]
    for wrong in (ptr * 2, ptr.flip(0), ptr + 1, ptr[:0], ptr.float()):
        flat[place] = wrong
        with pytest.raises(RuntimeError, match="ptr must"):
            operator.op(*flat)
