"""Backends and instruction sets as test parameters, random upstream gradients, and the comparison with the truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor

import hierpool
from hierpool import SoftPoolRecord, backends
from tests.support.cases import Inputs, Recipe, find
from tests.support.oracle import (
    Fields,
    Gradients,
    Truth,
    assert_error,
    eps_of,
    max_error,
    norm_columns,
    truth,
)
from tests.support.sparse import Ragged

# Triton's interpreter has to be chosen before triton is imported, so its tests are a run of their own.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ISAS = ("scalar", "avx2", "avx512", "amx")
BACKENDS = ("triton",) if INTERPRETED else ("reference", *(f"native-{isa}" for isa in ISAS))
# For what does not depend on the instruction set: one that every machine has stands for all.
KINDS = ("triton",) if INTERPRETED else ("reference", "native-scalar")
both = pytest.mark.parametrize("backend", KINDS, indirect=True)
# For what plain PyTorch is held to elsewhere.
best = pytest.mark.parametrize("backend", ["triton" if INTERPRETED else "native"], indirect=True)


def has_kernel(kind: str, op: str) -> bool:
    """Whether the backend of ``kind`` computes the operator; plain PyTorch computes every one."""
    folder = kind.partition("-")[0]
    return folder == "reference" or op in backends.operators_of(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch wait for each other on busy machines; that they change no bit is a test of its own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def choose(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put one of :data:`BACKENDS` in force, or "native" with the best instruction set; the backend's name.

    Skips with the reason why it cannot be.
    """
    if name in ("reference", "triton"):
        return backends.select("soft_pool", "cpu", name)
    reason = _unavailable(name)
    if reason is not None:
        pytest.skip(reason)
    if name != "native":
        monkeypatch.setenv("HIERPOOL_CPU_ISA", name.removeprefix("native-"))
    return "native"


@cache
def _unavailable(name: str) -> str | None:
    """Why the native backend, or an instruction set of it, cannot run here."""
    if "native" not in backends.available("soft_pool"):
        with pytest.raises(RuntimeError) as unavailable:
            backends.select("soft_pool", "cpu", "native")
        return str(unavailable.value)
    if name == "native":
        return None
    one = torch.ones(1, 1, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIERPOOL_CPU_ISA", name.removeprefix("native-"))
        try:
            hierpool.soft_pool(one, one, one, backend="native")
        except ValueError as error:
            if "does not support" not in str(error):
                raise
            return str(error).splitlines()[0]
    return None


# One after the other for cases that take no path of their own: what can run here.
IN_TURN = (
    BACKENDS
    if INTERPRETED
    else tuple(name for name in BACKENDS[1:] if not _unavailable(name)) or BACKENDS[:1]
)


def cover(
    seed: int, *cases: Recipe | str, dtypes: Sequence[Any], everywhere: Sequence[Recipe] = ()
) -> pytest.MarkDecorator:
    """Parametrize over ``case``, ``dtype`` and ``backend``: every case with every dtype on one instruction set.

    Those in ``everywhere``, too, with the last dtype, on all instruction sets.
    """
    chosen = [find(case) if isinstance(case, str) else case for case in cases]
    turn = cycle(IN_TURN)
    found = [(case, dtype, next(turn)) for dtype in dtypes for case in chosen]
    found += [(case, dtypes[-1], backend) for case in everywhere for backend in BACKENDS]
    values = [
        pytest.param(case, dtype, backend, id=f"{case.name}-seed{seed}-{dtype}-{backend}")
        for case, dtype, backend in dict.fromkeys(found)
    ]
    return pytest.mark.parametrize(("case", "dtype", "backend"), values, indirect=["backend"])


FIELDS = len(Fields._fields)
"""Number of fields of a record that are results."""


def random_upstream(record: SoftPoolRecord, seed: int) -> list[Tensor]:
    """A random gradient for every field, in its dtype."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=draw).to(t.dtype) for t in record[:FIELDS] if t is not None]


def gradients_of(
    record: SoftPoolRecord, leaves: Inputs | Ragged, upstream: Sequence[Tensor | None]
) -> Gradients:
    """Gradients of the fields weighted by ``upstream``; zeros where a leaf has none."""
    wanted = [
        (v, u) for v, u in zip(record[:FIELDS], upstream, strict=True) if u is not None and v is not None
    ]
    needed = [t for t in leaves[:3] if t is not None and t.requires_grad]
    found = torch.autograd.grad(
        [v for v, _ in wanted], needed, [u for _, u in wanted], allow_unused=True, materialize_grads=True
    )
    grads = iter(found)

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
    for name, field in zip(Fields._fields, record[:FIELDS], strict=True):
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
    acc, terms, channels = _accumulation_eps(inputs), inputs.terms, exact.scales.scalars.size(1) // 4
    norms = {"link_norm"} | {f"scalars[:, {i}]" for i in norm_columns(channels).nonzero().flatten().tolist()}
    values, scales = _quantities(exact.fields), _quantities(exact.scales)
    baselines = values if plain is None else _quantities(plain)
    for name, got in _quantities(record).items():
        eps, value, base, scale = acc, values[name], baselines[name], scales[name]
        if name == "s":
            eps, scale = max(acc, eps_of(inputs.s.dtype)), torch.ones(())
        elif name == "x":
            eps = max(acc, eps_of(inputs.x.dtype))
        elif name == "link_norm":
            scale = exact.scales.scalars[:, 2 + 3 * channels :].sum(0)
        if name in norms:  # the error of a root is bounded through its square, by the scale of the square
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
    """Values and gradients of one call against the truth.

    Those of plain torch, too, where S is not so coarse that its rounding makes another truth of it.
    """
    record, gradients, upstream = run(inputs, backend, upstream, **options)
    exact = truth(inputs, record.s, upstream)
    plain_record: SoftPoolRecord | None = None
    plain_gradients: Gradients | None = None
    if backend != "reference":
        plain_record, plain_gradients, _ = run(inputs, "reference", upstream, **options)
        if _accumulation_eps(inputs) == eps_of(inputs.s.dtype):
            assert_fields(plain_record, exact, inputs, None)
            assert_gradients(plain_gradients, exact, inputs, None)
    assert_fields(record, exact, inputs, plain_record)
    assert_gradients(gradients, exact, inputs, plain_gradients)
