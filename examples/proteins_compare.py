"""Comparison of the losses and times of networks."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import proteins_pyg
import torch
from torch import Tensor, nn
from tqdm import tqdm

from hierpool.integrations.pyg import patch

Call = tuple[Callable[..., Any], tuple[Any, ...]]


class Variant(NamedTuple):
    """One way to train a network."""

    label: str
    make_task: Callable[[], Any]  # a task of proteins.py
    patched: bool

    def context(self) -> AbstractContextManager[Any]:
        # PyG's cluster loss of DMoN divides the cluster sizes of every graph by the sizes of all graphs.
        return patch(pyg_compat=True) if self.patched else nullcontext()


def compare(name: str, variants: Sequence[Variant], steps: int) -> str:
    """Run PyG's network, the patched one and the sparse one, and describe the differences and times."""
    difference = loss_difference(*variants[:2], steps)
    calls = time_calls(variants[:2], steps)
    whole = time_steps(variants, steps)
    lines = [
        f"\n{name}",
        f"  losses of {steps} steps in float64: PyG and patched differ by {difference:.1e} at most",
    ]
    for what, times in (("pooling calls", calls), ("whole step", whole)):
        pyg = times[variants[0].label]
        for label, ms in times.items():
            ratios = [theirs / ours for theirs, ours in zip(pyg, ms, strict=True)]
            faster = "" if ms is pyg else f", {statistics.median(ratios):.2f}x as fast"
            lines.append(f"  {what:<13} {label:<7} {statistics.median(ms):8.2f} ms{faster}")
    return "\n".join(lines)


def make_task(variant: Variant) -> Any:
    """The task of a variant, whose layers are made under the patch if it is patched."""
    with variant.context():
        return variant.make_task()


def loss_difference(one: Variant, other: Variant, steps: int) -> float:
    """The largest relative difference of the losses of two variants over the steps, in float64.

    In float32, rounding errors make the losses of two runs diverge after some steps.
    """
    losses = []
    for variant in (one, other):
        with variant.context(), double_precision():
            task = variant.make_task()
            batches = first_batches(task, steps)
            progress = tqdm(batches, desc=f"{variant.label} in float64", unit="step", leave=False)
            losses.append(torch.stack([task.step(in_double(batch)) for batch in progress]))
    return float(((losses[0] - losses[1]) / losses[0]).abs().max())


@contextmanager
def double_precision() -> Iterator[None]:
    """Make new parameters and PyG's dense adjacency float64."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def in_double(batch: Any) -> Any:
    return batch.clone().apply(lambda t: t.double() if t.is_floating_point() else t)


def first_batches(task: Any, steps: int) -> list[Any]:
    """``steps`` batches of the training graphs, which are repeated if there are fewer."""
    batches = list(task.batches(task.train))
    return [batches[i % len(batches)] for i in range(steps)]


def time_steps(variants: Sequence[Variant], steps: int) -> dict[str, list[float]]:
    """Milliseconds of whole training steps: forward, losses, backward, optimizer.

    Variants alternate after a few steps. The first step of a turn is not counted, since the patch, which searches all
    modules, evicts the caches of the processor.
    """
    tasks = [make_task(variant) for variant in variants]
    batches = [first_batches(task, steps) for task in tasks]
    times: dict[str, list[float]] = {variant.label: [] for variant in variants}
    turns = torch.arange(steps).split(5)
    for turn in tqdm(turns, desc="whole steps", unit="turn", leave=False):
        for variant, task, task_batches in zip(variants, tasks, batches, strict=True):
            with variant.context():
                task.step(task_batches[turn[0]])
                times[variant.label] += [
                    milliseconds(partial(task.step, task_batches[step])) for step in turn
                ]
    return times


def time_calls(variants: Sequence[Variant], steps: int, rounds: int = 5) -> dict[str, list[float]]:
    """Milliseconds of the pooling calls of a step, forward and backward, with the arguments that the network passes.

    Variants alternate. The minimum over rounds is taken, since other processes disturb single calls.
    """
    times: dict[str, list[float]] = {variant.label: [] for variant in variants}
    tasks = [make_task(variant) for variant in variants]
    batches = [first_batches(task, steps) for task in tasks]
    for step in tqdm(range(steps), desc="pooling calls", unit="step", leave=False):
        recorded_calls = []
        for variant, task, task_batches in zip(variants, tasks, batches, strict=True):
            with variant.context(), recorded(task.net) as calls:
                task.step(task_batches[step])
            recorded_calls.append(calls)
        measured = [[time_warm(calls) for calls in recorded_calls] for _ in range(rounds)]
        for variant, of_rounds in zip(variants, zip(*measured, strict=True), strict=True):
            times[variant.label].append(min(of_rounds))
    return times


class _GivenGradients(torch.autograd.Function):
    """Stands for the layers after a pooling call: it passes a given gradient to every output of the call."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *outputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return outputs[0].new_zeros(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return None, *ctx.gradients


def time_call(pool: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Milliseconds of one call, forward and backward."""
    leaves = [a.detach().requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a for a in arguments]
    outputs: list[Tensor] = []
    forward = milliseconds(lambda: outputs.extend(pool(*leaves)))
    outputs = [out for out in outputs if out.requires_grad]
    end = _GivenGradients.apply([torch.ones_like(out) for out in outputs], *outputs)
    return forward + milliseconds(end.backward)


def time_warm(calls: Sequence[Call]) -> float:
    """Milliseconds of all calls, the second time, when the caches are warm."""
    _, ms = (sum(time_call(*call) for call in calls) for _ in range(2))
    return ms


def milliseconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - started)


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Call]]:
    """Record the calls of PyG's pooling functions and layers, or of their replacements, with the arguments."""
    calls: list[Call] = []
    functions = {name: getattr(proteins_pyg, name) for name in ("dense_diff_pool", "dense_mincut_pool")}

    def recorder(function: Callable[..., Any]) -> Callable[..., Any]:
        def pool(*arguments: Any) -> Any:
            calls.append((function, arguments))
            return function(*arguments)

        return pool

    def before(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        calls.append((layer.forward, arguments))

    layers = [layer for layer in net.modules() if isinstance(layer, proteins_pyg.DMoNPooling)]
    handles = [layer.register_forward_pre_hook(before) for layer in layers]
    for name, function in functions.items():
        setattr(proteins_pyg, name, recorder(function))
    try:
        yield calls
    finally:
        for name, function in functions.items():
            setattr(proteins_pyg, name, function)
        for handle in handles:
            handle.remove()
