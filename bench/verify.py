"""Correct first: a provider is compared with a peer evaluated in float64, and a wrong one is never timed.

Values of the four outputs, and gradients to x and logits from each output by itself and from all together, are each
judged in the max norm against the largest element of the truth. The combined gradients are those that are timed.

A link loss taken as one float32 norm over B N N entries drifts with their number on the CPU (6e-5 of the value at 10^6
entries, 0.5 % at 1.7 10^7), and its gradient with it. Providers marked ``fp32_norm`` are allowed `norm_drift` there;
ours are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.operators import Problem
from bench.providers import Pool, Provider, load_pyg
from bench.sparse import AnyBatch

OUTPUTS = ("x", "adj", "link", "entropy")
VALUE_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 2e-5


def norm_drift(entries: int) -> float:
    """Relative error allowed to a float32 norm accumulated over ``entries`` elements."""
    return 5e-10 * entries


@dataclass(frozen=True)
class Evaluation:
    """Outputs, and gradients to the leaves by the output they come from; "all" is their sum."""

    outputs: tuple[Tensor, ...]
    gradients: dict[str, tuple[Tensor, ...]]


@dataclass
class Verdict:
    """Relative errors by tensor, and what was over its tolerance."""

    errors: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    def judge(self, name: str, got: Tensor, truth: Tensor, allowed: float) -> None:
        """Record the error of ``got``; ``allowed`` is absolute. NaN fails."""
        if got.shape != truth.shape:
            self.failures.append(f"{name}: shape {tuple(got.shape)}, expected {tuple(truth.shape)}")
            return
        self.record(name, float((got.double() - truth).abs().max()), float(truth.abs().max()), allowed)

    def record(self, name: str, error: float, scale: float, allowed: float) -> None:
        """Record the largest ``error`` of a tensor whose largest element is ``scale``."""
        relative = error / scale if scale > 0 else error
        self.errors[name] = relative if math.isfinite(relative) else math.inf
        if not error <= allowed:
            limit = allowed / scale if scale > 0 else allowed
            self.failures.append(f"{name}: relative error {relative:.1e}, tolerance {limit:.1e}")


def names_of(batch: AnyBatch | Problem) -> tuple[str, ...]:
    """The outputs of what is timed on ``batch``."""
    return batch.output_names if isinstance(batch, Problem) else OUTPUTS


def evaluate(pool: Pool, batch: AnyBatch | Problem, separate: bool = True) -> Evaluation:
    """Run ``pool`` for the values and for each gradient; only for the combined ones unless ``separate``."""
    gradients: dict[str, tuple[Tensor, ...]] = {}
    for i, name in enumerate((*names_of(batch), "all")):
        if not separate and name not in ("link", "all"):
            continue
        outputs = pool(batch)
        chosen = slice(None) if name == "all" else slice(i, i + 1)
        gradients[name] = torch.autograd.grad(
            outputs[chosen], batch.leaves, batch.grads[chosen], materialize_grads=True
        )
    return Evaluation(tuple(t.detach() for t in outputs), gradients)


def truth_of(
    batch: AnyBatch | Problem, load: Callable[[], Pool] = load_pyg, separate: bool = True
) -> Evaluation:
    """A peer's function in float64."""
    return evaluate(load(), batch.double(), separate)


@dataclass(frozen=True)
class Tolerance:
    """Relative errors allowed to values and to gradients."""

    values: float
    gradients: float


FLOAT32 = Tolerance(VALUE_TOLERANCE, GRADIENT_TOLERANCE)


def verify(
    provider: Provider, pool: Pool, batch: AnyBatch | Problem, truth: Evaluation, allow: Tolerance = FLOAT32
) -> Verdict:
    """Compare ``pool`` with the truth, with the tolerances of the arithmetic and of the provider."""
    drift = norm_drift(batch.padded_entries) if provider.fp32_norm else 0.0
    got = evaluate(pool, batch, separate=set(truth.gradients) > {"link", "all"})
    verdict = Verdict()
    for name, value, expected in zip(names_of(batch), got.outputs, truth.outputs, strict=True):
        tolerance = allow.values + (drift if name == "link" else 0.0)
        verdict.judge(name, value, expected, tolerance * float(expected.abs().max()))
    for name, grads in got.gradients.items():
        for i, (leaf, value, expected) in enumerate(
            zip(batch.leaf_names, grads, truth.gradients[name], strict=True)
        ):
            allowed = allow.gradients * float(expected.abs().max())
            if drift and name in ("link", "all"):
                allowed += drift * float(truth.gradients["link"][i].abs().max())
            verdict.judge(f"d{leaf} from {name}", value, expected, allowed)
    return verdict
