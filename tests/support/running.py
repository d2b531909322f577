"""Backends and instruction sets as test parameters, random upstream gradients, and the comparison with the truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import SoftPoolRecord, backends
from tests.support.cases import Inputs
from tests.support.oracle import Fields, Gradients, Truth, assert_error, eps_of, max_error, truth
from tests.support.sparse import Ragged

# Triton's interpreter has to be chosen before triton is imported, so its tests are a run of their own.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
BACKENDS = ("triton",) if INTERPRETED else ("reference", "native-scalar", "native-avx2", "native-avx512")
# For what does not depend on the instruction set: one that every machine has stands for all.
KINDS = ("triton",) if INTERPRETED else ("reference", "native-scalar")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch wait for each other on busy machines; that they change no bit is a test of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def choose(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put ``name`` of :data:`BACKENDS` in force, or skip with the reason why it cannot be; the backend's name."""
    if name in ("reference", "triton"):
        return backends.select("soft_pool_dense", "cpu", name).name
    if "native" not in backends.available("soft_pool_dense"):
        with pytest.raises(RuntimeError) as unavailable:
            backends.select("soft_pool_dense", "cpu", "native")
        pytest.skip(str(unavailable.value))
    monkeypatch.setenv("HIERPOOL_CPU_ISA", name.removeprefix("native-"))
    one = torch.ones(1, 1, 1)
    try:
        hierpool.soft_pool(one, one, one, backend="native")
    except ValueError as error:
        if "does not support" not in str(error):
            raise
        pytest.skip(str(error).splitlines()[0])
    return "native"


def random_upstream(record: SoftPoolRecord, seed: int) -> list[Tensor]:
    """A random gradient for every field, in its dtype."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=draw).to(t.dtype) for t in record if t is not None]


def gradients_of(
    record: SoftPoolRecord, leaves: Inputs | Ragged, upstream: Sequence[Tensor | None]
) -> Gradients:
    """Gradients of the fields weighted by ``upstream``; zeros where a leaf has none."""
    wanted = [(v, u) for v, u in zip(record, upstream, strict=True) if u is not None and v is not None]
    needed = [t for t in leaves[:3] if t is not None and t.requires_grad]
    grads = iter(torch.autograd.grad([v for v, _ in wanted], needed, [u for _, u in wanted]))

    def gradient(t: Tensor | None) -> Tensor:
        if t is None:
            return torch.zeros(0)
        return next(grads) if t.requires_grad else torch.zeros(t.shape)

    return Gradients(*map(gradient, leaves[:3]))


def run(
    inputs: Inputs | Ragged,
    backend: str,
    upstream: Sequence[Tensor | None] | None = None,
    **options: Any,
) -> tuple[SoftPoolRecord, Gradients, Sequence[Tensor | None]]:
    """Record, gradients, and the upstream gradients that were used."""
    leaves = inputs.leaves()
    record = leaves.pool(backend, **options)
    if upstream is None:
        upstream = random_upstream(record, 1)
    return record, gradients_of(record, leaves, upstream), upstream


def _square(t: Tensor) -> Tensor:
    return t.double().square()


def _accumulation_eps(inputs: Inputs | Ragged) -> float:
    wide = any(t is not None and t.dtype == torch.float64 for t in inputs[:3])
    return eps_of(torch.float64 if wide else torch.float32)


def _quantities(record: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The fields by name, with the vectors and scalars that share a tensor apart: each has a size of its own."""
    parts: dict[str, Tensor] = {}
    for name, field in zip(Fields._fields, record, strict=True):
        assert field is not None, name
        if name in ("vectors", "scalars"):
            parts |= {f"{name}[:, {i}]": column for i, column in enumerate(field.unbind(1))}
        else:
            parts[name] = field
    return parts


def assert_fields(
    record: Sequence[Tensor | None],
    exact: Truth,
    inputs: Inputs | Ragged,
    plain: Sequence[Tensor | None] | None,
) -> None:
    """Every quantity under the error rule; ``plain`` is the record by plain torch, whose errors are the baselines."""
    acc, terms = _accumulation_eps(inputs), inputs.terms
    values, scales = _quantities(exact.fields), _quantities(exact.scales)
    baselines = values if plain is None else _quantities(plain)
    for name, got in _quantities(record).items():
        eps, value, base, scale = acc, values[name], baselines[name], scales[name]
        if name == "s":
            eps, scale = max(acc, eps_of(inputs.s.dtype)), torch.ones(())
        elif name == "x":
            eps = max(acc, eps_of(inputs.x.dtype))
        elif (
            name == "link_norm"
        ):  # a root: its error is bounded through its square, and a cancellation's scale
            channels = exact.scales.scalars.size(1) // 4
            scale = exact.scales.scalars[:, 2 + 3 * channels :].sum(0)
            got, value, base = _square(got), _square(value), _square(base)
        assert_error(name, got, value, scale, eps, terms, max_error(base, value))


def assert_gradients(got: Gradients, exact: Truth, inputs: Inputs | Ragged, plain: Gradients | None) -> None:
    """Every gradient under the error rule."""
    acc, terms = _accumulation_eps(inputs), inputs.terms
    for name, leaf, grad, value, scale in zip(
        Gradients._fields, inputs[:3], got, exact.gradients, exact.gradient_scales, strict=True
    ):
        if leaf is None or not leaf.is_floating_point():
            continue
        dtype = leaf.dtype
        assert grad.dtype == dtype
        base = 0.0 if plain is None else max_error(getattr(plain, name), value)
        assert_error(f"gradient of {name}", grad, value, scale, max(acc, eps_of(dtype)), terms, base)


def check(
    inputs: Inputs | Ragged,
    backend: str,
    upstream: Sequence[Tensor | None] | None = None,
    **options: Any,
) -> None:
    """Values and gradients of one call against the truth."""
    record, gradients, upstream = run(inputs, backend, upstream, **options)
    exact = truth(inputs, record.s, upstream)
    plain_record: SoftPoolRecord | None = None
    plain_gradients: Gradients | None = None
    if backend != "reference":
        plain_record, plain_gradients, _ = run(inputs, "reference", upstream, **options)
    assert_fields(record, exact, inputs, plain_record)
    assert_gradients(gradients, exact, inputs, plain_gradients)
