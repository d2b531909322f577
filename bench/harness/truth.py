"""Results are checked before they are timed: a provider is compared with a float64 result, and a wrong one is refused.

Values of the outputs, and gradients to the leaves from each output by itself and from all together, are each judged in
the max norm against the largest element of the truth. The combined gradients are those that are timed.

A link loss taken as one float32 norm over B N N entries drifts with their number on the CPU (6e-5 of the value at 10^6
entries, 0.5 % at 1.7 10^7), and its gradient with it. Providers marked ``fp32_norm`` are allowed `norm_drift` there;
ours are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bench.harness.inputs import Inputs
from bench.harness.precision import FLOAT32, Tolerance

Pool = Callable[[Any], tuple[Tensor, ...]]


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


def evaluate(pool: Pool, inputs: Inputs, separate: bool = True) -> Evaluation:
    """Run ``pool`` for the values and for each gradient; unless ``separate``, for those of "link" and "all" only."""
    gradients: dict[str, tuple[Tensor, ...]] = {}
    for i, name in enumerate((*inputs.output_names, "all")):
        if not separate and name not in ("link", "all"):
            continue
        outputs = pool(inputs)
        chosen = slice(None) if name == "all" else slice(i, i + 1)
        gradients[name] = torch.autograd.grad(
            outputs[chosen], inputs.leaves, inputs.grads[chosen], materialize_grads=True
        )
    return Evaluation(tuple(t.detach() for t in outputs), gradients)


def truth_of(inputs: Inputs, pool: Pool, separate: bool = True) -> Evaluation:
    """``pool`` evaluated in float64."""
    return evaluate(pool, inputs.double(), separate)


def verify(
    pool: Pool, inputs: Inputs, truth: Evaluation, allow: Tolerance = FLOAT32, fp32_norm: bool = False
) -> Verdict:
    """Compare ``pool`` with the truth; ``fp32_norm`` allows its link loss to drift."""
    drift = norm_drift(inputs.padded_entries) if fp32_norm else 0.0
    got = evaluate(pool, inputs, separate=set(truth.gradients) > {"link", "all"})
    verdict = Verdict()
    for name, value, expected in zip(inputs.output_names, got.outputs, truth.outputs, strict=True):
        tolerance = allow.values + (drift if name == "link" else 0.0)
        verdict.judge(name, value, expected, tolerance * float(expected.abs().max()))
    for name, grads in got.gradients.items():
        for i, (leaf, value, expected) in enumerate(
            zip(inputs.leaf_names, grads, truth.gradients[name], strict=True)
        ):
            allowed = allow.gradients * float(expected.abs().max())
            if drift and name in ("link", "all"):
                allowed += drift * float(truth.gradients["link"][i].abs().max())
            verdict.judge(f"d{leaf} from {name}", value, expected, allowed)
    return verdict
